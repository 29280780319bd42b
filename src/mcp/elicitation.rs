//! Asks the person behind an MCP client: by elicitation in a session, by an input request in the protocol versions
//! without.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use rmcp::{
    ErrorData, RoleServer,
    model::{
        CallToolRequestParams, CancelledNotificationParam, ClientResult, ElicitRequest, ElicitRequestParams,
        ElicitResult, ElicitationAction, ElicitationSchema, InputRequest, InputRequiredResult,
        ProtocolVersion, RequestId, SealOptions, ServerRequest,
    },
    service::{PeerRequestOptions, RequestContext, ServiceError},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::server::McpHandler;
use crate::{principal::Principal, sync::lock};

/// The name of the one field of an answer.
const FIELD: &str = "answer";
/// How long a person has to answer.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(300);

/// How a client's user can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ElicitationMode {
    /// `elicitation/create` within a session.
    InSession,
    /// An `input_required` result that the client answers by calling again (2026-07-28).
    ByRetry,
    /// Not at all.
    No,
}

/// Returns whether the client uses a protocol version without sessions.
pub(super) fn is_sessionless(context: &RequestContext<RoleServer>) -> bool {
    let version = context.protocol_version();
    version.is_some_and(|version| version.as_str() >= ProtocolVersion::V_2026_07_28.as_str())
}

/// Returns how this client's user can be asked.
pub(super) fn way(context: &RequestContext<RoleServer>) -> ElicitationMode {
    let can = context.client_capabilities().is_some_and(|capabilities| capabilities.elicitation.is_some());
    match is_sessionless(context) {
        _ if !can => ElicitationMode::No,
        true => ElicitationMode::ByRetry,
        false => ElicitationMode::InSession,
    }
}

fn request(prompt: &str, answer: Value) -> Option<ElicitRequestParams> {
    let schema = json!({"type": "object", "properties": {FIELD: answer}, "required": [FIELD]});
    let requested_schema: ElicitationSchema = serde_json::from_value(schema).ok()?;
    Some(ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: prompt.to_owned(),
        requested_schema,
    })
}

pub(super) fn yes_or_no() -> Value {
    json!({"type": "boolean", "title": "Yes, do it"})
}

pub(super) fn line() -> Value {
    json!({"type": "string", "title": "Your answer", "maxLength": 60000})
}

/// The outcome of asking.
#[derive(Debug)]
pub(super) enum ElicitedAnswer {
    Given(Value),
    /// The user declined, or no answer came in time.
    None,
    /// The client declared that it can ask its user, but does not.
    CannotBeAsked,
}

/// The question that a client shows its user, if there is one.
#[derive(Debug, Default)]
pub(super) struct ShownQuestion(Mutex<Option<RequestId>>);

impl ShownQuestion {
    /// Tells the client that its user need not answer any more.
    pub(super) async fn withdraw(&self, context: &RequestContext<RoleServer>) {
        let Some(id) = lock(&self.0).take() else { return };
        let reason = "the question is no longer open".to_owned();
        let withdrawn = CancelledNotificationParam::new(Some(id), Some(reason));
        if let Err(error) = context.peer.notify_cancelled(withdrawn).await {
            tracing::debug!(%error, "an MCP client was not told that a question is no longer open");
        }
    }
}

/// Asks the user within a session, until the call is cancelled. A wait that is dropped leaves the question in `shown`, to be
/// withdrawn.
pub(super) async fn ask_in_session(
    context: &RequestContext<RoleServer>,
    prompt: &str,
    answer: Value,
    time: Duration,
    shown: &ShownQuestion,
) -> ElicitedAnswer {
    let Some(params) = request(prompt, answer) else { return ElicitedAnswer::CannotBeAsked };
    let asks = async {
        let request = ServerRequest::ElicitRequest(ElicitRequest::new(params));
        let asked =
            context.peer.send_cancellable_request(request, PeerRequestOptions::with_timeout(time)).await?;
        *lock(&shown.0) = Some(asked.id.clone());
        asked.await_response().await
    };
    let response = tokio::select! {
        // Cancel safe: the question is withdrawn.
        response = asks => {
            lock(&shown.0).take();
            response
        }
        () = context.ct.cancelled() => {
            shown.withdraw(context).await;
            return ElicitedAnswer::None;
        }
    };
    match response {
        Ok(ClientResult::ElicitResult(result)) => {
            accepted(result).map_or(ElicitedAnswer::None, ElicitedAnswer::Given)
        }
        Ok(_) => ElicitedAnswer::CannotBeAsked,
        Err(ServiceError::McpError(error)) => {
            tracing::debug!(code = error.code.0, "an MCP client that is said to ask its user does not");
            ElicitedAnswer::CannotBeAsked
        }
        Err(error) => {
            tracing::debug!(%error, "an MCP client could not be asked");
            ElicitedAnswer::None
        }
    }
}

fn accepted(result: ElicitResult) -> Option<Value> {
    (result.action == ElicitationAction::Accept).then_some(())?;
    result.content?.get(FIELD).cloned()
}

/// What a client hands back with its answer. It is sealed, so that it can be neither made up nor used for another call.
#[derive(Serialize, Deserialize)]
pub(super) struct ElicitationState {
    /// The question's id.
    pub(super) input_id: String,
    /// The job that asks; empty where the question comes before the job.
    pub(super) job_id: String,
    /// The sequence number of the event that asks.
    pub(super) sequence: u32,
}

/// Returns what a state is bound to: a digest of this caller and this call.
fn bound_to(caller: &Principal, request: &CallToolRequestParams) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(caller.name());
    hash.update([0]);
    hash.update(request.name.as_bytes());
    hash.update([0]);
    hash.update(serde_json::to_vec(&request.arguments).unwrap_or_default());
    hash.finalize().to_vec()
}

impl McpHandler {
    /// Returns the state and the answer that a client sent with its call; `None` where the call has no state.
    pub(super) fn returned_answer(
        &self,
        caller: &Principal,
        request: &CallToolRequestParams,
    ) -> Result<Option<(ElicitationState, Option<Value>)>, ErrorData> {
        let Some(sealed) = &request.request_state else { return Ok(None) };
        let state: ElicitationState =
            self.codec.open_json_with(sealed, &bound_to(caller, request)).map_err(|_| {
                ErrorData::invalid_params(
                    "the request state is not one of this call, or it has expired",
                    None,
                )
            })?;
        let response = request.input_responses.as_ref().and_then(|responses| responses.get(&state.input_id));
        let response = response.and_then(|value| serde_json::from_value::<ElicitResult>(value.clone()).ok());
        Ok(Some((state, response.and_then(accepted))))
    }

    /// Returns the result that makes the client ask its user.
    pub(super) fn input_required(
        &self,
        caller: &Principal,
        call: &CallToolRequestParams,
        state: &ElicitationState,
        prompt: &str,
        answer: Value,
    ) -> Result<InputRequiredResult, ErrorData> {
        let failed = |error: String| ErrorData::internal_error(error, None);
        let params = request(prompt, answer).ok_or_else(|| failed("the question has no form".to_owned()))?;
        let associated = bound_to(caller, call);
        let options = SealOptions::new().associated_data(&associated).ttl(ANSWER_TIME * 2);
        let sealed = self.codec.seal_json_with(state, &options).map_err(|error| failed(error.to_string()))?;
        let requests =
            BTreeMap::from([(state.input_id.clone(), InputRequest::Elicitation(ElicitRequest::new(params)))]);
        Ok(InputRequiredResult::new(Some(requests), Some(sealed)))
    }
}
