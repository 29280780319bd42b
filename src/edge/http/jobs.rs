//! The JSON routes: translate, call the job service, translate back.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Extension, Path, Query, Request, State},
};
use http::{HeaderValue, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    super::problem::{json_response, to_response, with_status},
    Context,
    payload::{self, Payload},
};
use crate::{
    caller::Caller,
    error::{Error, Reason, Result},
    job::{CancelledBy, Conversation, Filter, JobId, Submission, Submitted},
    pb::{Door, Job, JobState, OnDisconnect, job::Outcome},
};

const MAX_CANCEL_WAIT_SECONDS: u32 = 300;

type Shared = State<Arc<Context>>;
type From = Extension<Caller>;

/// Who the listener says is calling.
fn caller_of(request: &Request) -> Caller {
    request.extensions().get::<Caller>().cloned().unwrap_or_else(Caller::local)
}

fn ok(document: &impl serde::Serialize) -> Response<Body> {
    json_response(StatusCode::OK, document, "application/json")
}

fn answer(result: Result<Response<Body>>) -> Response<Body> {
    result.unwrap_or_else(|error| to_response(&error))
}

/// The bodies are flat: their fields carry no prefix.
fn flat(error: Error) -> Error {
    let field = error.field().map(|field| {
        let prefixes = ["task.tool_call.", "task.agent_run.", "task.", "options."];
        prefixes.iter().find_map(|prefix| field.strip_prefix(prefix)).unwrap_or(field).to_owned()
    });
    match field {
        Some(field) => error.at(field),
        None => error,
    }
}

async fn submit(context: &Context, request: Request, holds_connection: bool) -> Result<(Caller, Submitted)> {
    let caller = caller_of(&request);
    let headers = request.headers().clone();
    let body: Payload = payload::read(request, context.max_body_bytes).await?;
    let (task, options) = body.into_task(&headers)?;
    if !holds_connection && options.on_disconnect() != OnDisconnect::Unspecified {
        let message = "means nothing here: the answer comes at once and no connection is held; leave it out";
        return Err(Error::invalid("on_disconnect", message));
    }
    let is_held = options.on_disconnect() == OnDisconnect::Cancel;
    let submission =
        Submission { caller: caller.clone(), door: Door::Http, task: Some(task), options, is_held };
    Ok((caller, context.service.submit(submission).await.map_err(flat)?))
}

/// `POST /execute`: submits and waits. 200 means that the job succeeded.
pub(super) async fn execute(State(context): Shared, request: Request) -> Response<Body> {
    let run = async {
        let (caller, submitted) = submit(&context, request, true).await?;
        let job = context.service.wait_or_question(&caller, &submitted.job_id).await;
        if let Some(held) = submitted.held {
            held.let_go();
        }
        Ok(executed(&job?))
    };
    answer(run.await)
}

/// Why a job that asks something has no answer yet.
fn asks(job: &Job) -> Error {
    let prompt = job.question.as_ref().map(|question| question.prompt.as_str()).unwrap_or_default();
    let message = format!(
        "the job asks: {prompt}; answer with POST /api/v1/jobs/{}/input and read /api/v1/stream/{}",
        job.job_id, job.job_id
    );
    Error::new(Reason::InputRequired, message).for_job(&job.job_id)
}

/// The answer for a job that has ended, or asks something.
fn executed(job: &Job) -> Response<Body> {
    match &job.outcome {
        Some(Outcome::Result(result)) if job.state() == JobState::Succeeded => {
            let mut document = json!({
                "status": "success",
                "result": result.text,
                "job_id": job.job_id,
                "is_truncated": result.is_truncated,
            });
            document["structured"] = serde_json::to_value(&result.structured).unwrap_or(Value::Null);
            ok(&document)
        }
        outcome => {
            let (reason, message) = match outcome {
                Some(Outcome::Error(error)) => (Reason::from_name(&error.reason), error.message.clone()),
                None if job.state() == JobState::InputRequired => {
                    return with_status(
                        &asks(job),
                        409,
                        json!({"state": job.state(), "question": job.question}),
                    );
                }
                _ => (None, "the job's outcome is not known".to_owned()),
            };
            let reason = reason.unwrap_or(Reason::Internal);
            let status = match job.state() {
                JobState::Cancelled | JobState::InputRequired => 409,
                JobState::Failed
                    if matches!(reason, Reason::TimedOut | Reason::QueueTimedOut | Reason::ModelTimedOut) =>
                {
                    504
                }
                JobState::Failed => 502,
                _ => 500,
            };
            let error = Error::new(reason, message).for_job(&job.job_id);
            with_status(
                &error,
                status,
                json!({"state": job.state(), "is_retryable": reason.codes().is_retryable}),
            )
        }
    }
}

/// `POST /api/v1/stream-execute`: submits and says where the events are.
pub(super) async fn stream_execute(State(context): Shared, request: Request) -> Response<Body> {
    let run = async {
        let (_, submitted) = submit(&context, request, false).await?;
        let stream_url = format!("/api/v1/stream/{}", submitted.job_id);
        let mut response =
            ok(&json!({"job_id": submitted.job_id.as_str(), "status": "started", "stream_url": stream_url}));
        if let Ok(location) = HeaderValue::from_str(&stream_url) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        Ok(response)
    };
    answer(run.await)
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ListQuery {
    state: String,
    label: String,
    conversation_id: String,
    page_size: Option<String>,
    page_token: String,
}

fn number(field: &str, text: Option<&str>) -> Result<u32> {
    text.map_or(Ok(0), |text| {
        text.parse().map_err(|_| Error::invalid(field, format!("`{text}` is no number")))
    })
}

impl ListQuery {
    fn filter(&self) -> Result<Filter> {
        let parts = |text: &str| -> Vec<String> {
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        let states = parts(&self.state)
            .iter()
            .map(|name| {
                JobState::from_short_name(name)
                    .ok_or_else(|| Error::invalid("state", format!("`{name}` is no state of a job")))
            })
            .collect::<Result<_>>()?;
        let labels = parts(&self.label)
            .iter()
            .map(|label| {
                let pair = label.split_once(':').map(|(key, value)| (key.to_owned(), value.to_owned()));
                pair.ok_or_else(|| {
                    Error::invalid("label", "must be `key:value`, several with commas between them")
                })
            })
            .collect::<Result<BTreeMap<_, _>>>()?;
        Ok(Filter { states, labels, conversation_id: self.conversation_id.clone() })
    }
}

/// `GET /api/v1/jobs?state=&label=&conversation_id=&page_size=&page_token=`.
pub(super) async fn list(
    State(context): Shared,
    Extension(caller): From,
    Query(query): Query<ListQuery>,
) -> Response<Body> {
    let run = async {
        let page_size = number("page_size", query.page_size.as_deref())?;
        let page = context.service.list(&caller, &query.filter()?, page_size, &query.page_token).await?;
        Ok(ok(&json!({"jobs": page.jobs, "next_page_token": page.next_page_token})))
    };
    answer(run.await)
}

/// `GET /api/v1/jobs/{job_id}`.
pub(super) async fn get(
    State(context): Shared,
    Extension(caller): From,
    Path(job_id): Path<String>,
) -> Response<Body> {
    let run = async { Ok(ok(&context.service.get(&caller, &JobId::parse(&job_id)?).await?)) };
    answer(run.await)
}

/// `DELETE /api/v1/jobs/{job_id}`.
pub(super) async fn delete(
    State(context): Shared,
    Extension(caller): From,
    Path(job_id): Path<String>,
) -> Response<Body> {
    let run = async {
        context.service.delete(&caller, &JobId::parse(&job_id)?).await?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        Ok(response)
    };
    answer(run.await)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CancelBody {
    wait_seconds: u32,
}

/// `POST /api/v1/jobs/{job_id}/cancel`, with an optional `{"wait_seconds": n}`.
pub(super) async fn cancel(
    State(context): Shared,
    Path(job_id): Path<String>,
    request: Request,
) -> Response<Body> {
    let caller = caller_of(&request);
    let run = async {
        let body: CancelBody = payload::read(request, context.max_body_bytes).await?;
        if body.wait_seconds > MAX_CANCEL_WAIT_SECONDS {
            return Err(Error::invalid("wait_seconds", format!("must be at most {MAX_CANCEL_WAIT_SECONDS}")));
        }
        let by = CancelledBy::Caller(caller.name().to_owned());
        let wait = Duration::from_secs(body.wait_seconds.into());
        Ok(ok(&context.service.cancel(&caller, &JobId::parse(&job_id)?, by, wait).await?))
    };
    answer(run.await)
}

#[derive(Deserialize)]
struct InputBody {
    input_id: String,
    value: Value,
}

/// `POST /api/v1/jobs/{job_id}/input` with `{"input_id": …, "value": …}`.
pub(super) async fn input(
    State(context): Shared,
    Path(job_id): Path<String>,
    request: Request,
) -> Response<Body> {
    let caller = caller_of(&request);
    let run = async {
        let body: InputBody = payload::read(request, context.max_body_bytes).await?;
        let job_id = JobId::parse(&job_id)?;
        Ok(ok(&context.service.send_input(&caller, &job_id, &body.input_id, body.value).await?))
    };
    answer(run.await)
}

/// `GET /api/v1/conversations`: the caller's own, the latest first.
pub(super) async fn conversations(State(context): Shared, Extension(caller): From) -> Response<Body> {
    let found = context.desk.conversations(&caller).await;
    answer(found.map(|found| {
        let found: Vec<Value> = found.iter().map(Conversation::to_json).collect();
        ok(&json!({ "conversations": found }))
    }))
}

/// `DELETE /api/v1/conversations/{conversation_id}`.
pub(super) async fn delete_conversation(
    State(context): Shared,
    Extension(caller): From,
    Path(conversation_id): Path<String>,
) -> Response<Body> {
    answer(context.desk.delete_conversation(&caller, &conversation_id).await.map(|()| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    }))
}

/// `GET /api/v1/agents`.
pub(super) async fn agents(State(context): Shared) -> Response<Body> {
    answer(context.desk.agents().await.map(|agents| ok(&json!({"agents": agents}))))
}

/// `GET /api/v1/tools`.
pub(super) async fn tools(State(context): Shared) -> Response<Body> {
    ok(&json!({"tools": context.desk.tools()}))
}

/// `GET /api/v1/info`.
pub(super) async fn info(State(context): Shared) -> Response<Body> {
    let info = context.desk.info();
    ok(&json!({
        "version": info.version,
        "planner": info.planner,
        "planner_reason": info.why,
        "provider": info.provider,
        "model": info.model,
        "mcp_url": context.addresses.mcp_url(),
        "engine": info.engine,
        "capabilities": info.capabilities,
        "running_jobs": info.running,
        "queued_jobs": info.queued,
        "live_tasks": info.live_tasks,
    }))
}
