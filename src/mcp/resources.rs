//! Agents, conversations and whole answers as MCP resources: `conductor://agents/{agent_id}`,
//! `conductor://conversations/{id}`, `conductor://jobs/{job_id}/result`.

use rmcp::{
    ErrorData,
    model::{
        CacheScope, CompleteRequestParams, CompleteResult, CompletionInfo, ReadResourceResult, Resource,
        ResourceContents, ResourceTemplate,
    },
};
use serde_json::{Value, json};

use super::{
    outcome::to_protocol_error,
    outcome::{RESULT_URI, result_uri},
    server::McpHandler,
    subscriptions::MAX_WATCHED,
};
use crate::{
    error::{Error, Reason, Result},
    principal::Principal,
    text::quoted,
};

const AGENTS: &str = "conductor://agents/";
const CONVERSATIONS: &str = "conductor://conversations/";
const JSON_TYPE: &str = "application/json";

/// The longest URI that can be subscribed to, in bytes; those of agents and conversations are shorter.
const MAX_URI_BYTES: usize = 512;

/// Returns whether a URI may be that of a resource that changes.
fn is_watchable(uri: &str) -> bool {
    uri.len() <= MAX_URI_BYTES && [AGENTS, CONVERSATIONS].iter().any(|prefix| uri.starts_with(prefix))
}

/// Returns the URIs of whose changes a client can be notified, at most as many as one session may watch.
pub(super) fn watchable(uris: Vec<String>) -> Vec<String> {
    uris.into_iter().filter(|uri| is_watchable(uri)).take(MAX_WATCHED).collect()
}

impl McpHandler {
    pub(super) async fn resources(&self, caller: &Principal) -> Result<Vec<Resource>> {
        let mut found = Vec::new();
        for agent in self.toolbox.agents().await? {
            let mut resource = Resource::new(format!("{AGENTS}{}", agent.agent_id), agent.agent_id.clone())
                .with_description(agent.description)
                .with_mime_type(JSON_TYPE);
            resource.title = Some(agent.name);
            found.push(resource);
        }
        for conversation in self.toolbox.conversations().page(caller, 0, "").await?.conversations {
            let uri = format!("{CONVERSATIONS}{}", conversation.conversation_id);
            let resource = Resource::new(uri, conversation.conversation_id)
                .with_description("One of your conversations")
                .with_mime_type(JSON_TYPE);
            found.push(resource);
        }
        Ok(found)
    }

    pub(super) fn resource_templates() -> Vec<ResourceTemplate> {
        vec![
            ResourceTemplate::new(format!("{AGENTS}{{agent_id}}"), "agent")
                .with_description("All that is known of one agent")
                .with_mime_type(JSON_TYPE),
            ResourceTemplate::new(format!("{CONVERSATIONS}{{conversation_id}}"), "conversation")
                .with_description("Who took part in one of your conversations, and how often")
                .with_mime_type(JSON_TYPE),
            ResourceTemplate::new(result_uri("{job_id}"), "result")
                .with_description("The whole answer of a call whose own answer was cut")
                .with_mime_type("text/plain"),
        ]
    }

    pub(super) async fn resource(
        &self,
        uri: &str,
        caller: &Principal,
    ) -> Result<ReadResourceResult, ErrorData> {
        let (before, behind) = RESULT_URI;
        if let (Some(job_id), Some(runner)) =
            (uri.strip_prefix(before).and_then(|rest| rest.strip_suffix(behind)), &self.runner)
        {
            let text = runner.result(caller, job_id).await.map_err(|error| to_protocol_error(&error))?;
            let contents = ResourceContents::text(text, uri).with_mime_type("text/plain");
            return Ok(ReadResourceResult::new(vec![contents])
                .with_ttl_ms(0)
                .with_cache_scope(CacheScope::Private));
        }
        let read = async {
            if let Some(agent_id) = uri.strip_prefix(AGENTS) {
                return self.toolbox.agent_info(caller, agent_id).await;
            }
            if let Some(conversation_id) = uri.strip_prefix(CONVERSATIONS) {
                let found = self.toolbox.conversations().get(caller, conversation_id).await?;
                return serde_json::to_value(&found).map_err(Error::internal);
            }
            Err(Error::new(
                Reason::AgentNotFound,
                "resources are conductor://agents/… and conductor://conversations/…",
            ))
        };
        let document: Value = match read.await {
            Ok(document) => document,
            Err(error) => {
                let mut error = to_protocol_error(&error);
                error.data = Some(json!({ "uri": quoted(uri) }));
                return Err(error);
            }
        };
        let contents = ResourceContents::text(document.to_string(), uri).with_mime_type(JSON_TYPE);
        Ok(ReadResourceResult::new(vec![contents]).with_ttl_ms(0).with_cache_scope(CacheScope::Private))
    }

    /// Checks that a URI is of bounded length, and that its resource exists for this caller.
    pub(super) async fn check_resource(&self, uri: &str, caller: &Principal) -> Result<(), ErrorData> {
        if !is_watchable(uri) {
            let message = "resources are conductor://agents/… and conductor://conversations/…";
            let data = json!({ "uri": quoted(uri) });
            return Err(ErrorData::resource_not_found(message, Some(data)));
        }
        self.resource(uri, caller).await.map(|_| ())
    }

    /// Completes an agent's id in a resource's URI.
    pub(super) async fn complete_agent_id(
        &self,
        request: &CompleteRequestParams,
    ) -> Result<CompleteResult, ErrorData> {
        if request.argument.name != "agent_id" {
            return Ok(CompleteResult::default());
        }
        let agents = self.toolbox.agents().await.map_err(|error| to_protocol_error(&error))?;
        let begun = request.argument.value.to_lowercase();
        let fitting =
            agents.into_iter().map(|agent| agent.agent_id).filter(|id| id.to_lowercase().starts_with(&begun));
        let values: Vec<String> = fitting.take(CompletionInfo::MAX_VALUES).collect();
        let info = CompletionInfo::with_all_values(values)
            .map_err(|error| ErrorData::internal_error(error, None))?;
        Ok(CompleteResult::new(info))
    }
}
