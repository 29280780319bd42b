//! The directory service, for requests of the doors that are not jobs: agents, tools, conversations, and what this gateway
//! is.

use std::sync::Arc;

use super::{JobService, MAX_ARGUMENTS_BYTES};
use crate::{
    agent::{self, Planner},
    conversation::ConversationPage,
    error::{Error, Result},
    pb,
    principal::Principal,
    secret::masked_url,
    tool::{Toolbox, catalogue},
};

/// The features that every gateway of this version supports.
const CAPABILITIES: &[&str] = &[
    "cancel", "contextual_runs", "conversations", "idempotency", "input", "interactive_sessions", "mcp",
    "queue", "resume", "tool_calls",
];

/// The directory service. Clones share its state.
#[derive(Clone)]
pub struct DirectoryService {
    service: JobService,
    toolbox: Toolbox,
    planner: Arc<Planner>,
}

impl DirectoryService {
    /// Creates the directory service beside the job service.
    pub fn new(service: JobService, toolbox: Toolbox, planner: Arc<Planner>) -> Self {
        Self { service, toolbox, planner }
    }

    /// Returns the tools.
    pub fn toolbox(&self) -> &Toolbox {
        &self.toolbox
    }

    /// Returns the planner of commands.
    pub fn planner(&self) -> &Planner {
        &self.planner
    }

    /// Returns a page of the caller's conversations, most recently used first; `page_size` 0 means 500, the most.
    ///
    /// # Errors
    /// [`Reason::ToolFailed`](crate::error::Reason::ToolFailed);
    /// [`Reason::InvalidArgument`](crate::error::Reason::InvalidArgument) for an invalid page token.
    pub async fn conversations(
        &self,
        caller: &Principal,
        page_size: u32,
        page_token: &str,
    ) -> Result<ConversationPage> {
        self.toolbox.conversations().page(caller, page_size, page_token).await
    }

    /// Deletes one of the caller's conversations with its whole content.
    ///
    /// # Errors
    /// [`Reason::InvalidArgument`](crate::error::Reason::InvalidArgument),
    /// [`Reason::ConversationNotFound`](crate::error::Reason::ConversationNotFound);
    /// [`Reason::Busy`](crate::error::Reason::Busy) while a job uses it.
    pub async fn delete_conversation(&self, caller: &Principal, conversation_id: &str) -> Result<()> {
        if !crate::engine::is_id(conversation_id) {
            return Err(Error::invalid("conversation_id", "is not one that a conversation can have"));
        }
        self.toolbox.delete_conversation(caller, conversation_id).await
    }

    /// Returns the engine's agents.
    ///
    /// # Errors
    /// [`Reason::ToolFailed`](crate::error::Reason::ToolFailed), [`Reason::Unsupported`](crate::error::Reason::Unsupported).
    pub async fn agents(&self) -> Result<Vec<pb::Agent>> {
        self.toolbox.agents().await
    }

    /// Returns the tools of the catalogue with their schemas.
    pub fn tools(&self) -> Vec<pb::Tool> {
        let to_wire = |spec: &crate::tool::ToolSpec| pb::Tool {
            name: spec.name.as_str().to_owned(),
            title: spec.title.to_owned(),
            description: spec.description.to_owned(),
            input_schema: Some(pb::Json::from_value(&spec.input_schema)),
            output_schema: Some(pb::Json::from_value(&spec.output_schema)),
            is_read_only: spec.is_read_only,
            is_destructive: spec.is_destructive,
            is_idempotent: spec.is_idempotent,
            is_open_world: spec.is_open_world,
        };
        catalogue().iter().map(to_wire).collect()
    }

    /// Returns what this gateway is, can do and is doing. The doors add where MCP is and the bounds of their own.
    pub fn info(&self) -> pb::GetServerInfoResponse {
        let (running, queued) = self.service.counts();
        let identity = self.planner.identity();
        let count = |jobs: usize| u32::try_from(jobs).unwrap_or(u32::MAX);
        let driver = self.toolbox.driver();
        pb::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            planner: self.planner.kind().to_owned(),
            provider: identity.map(|identity| identity.provider.to_owned()).unwrap_or_default(),
            model: identity.map(|identity| identity.model.clone()).unwrap_or_default(),
            planner_reason: self.planner.why.clone(),
            engine: driver.name().to_owned(),
            capabilities: CAPABILITIES.iter().map(|name| (*name).to_owned()).collect(),
            mcp_url: String::new(),
            running_jobs: count(running),
            queued_jobs: count(queued),
            live_tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks() as u64,
            limits: Some(pb::Limits {
                max_command_bytes: agent::MAX_COMMAND_BYTES as u32,
                max_input_bytes: u32::try_from(driver.capabilities().max_input_bytes).unwrap_or(u32::MAX),
                max_arguments_bytes: MAX_ARGUMENTS_BYTES as u32,
                max_output_bytes: self.toolbox.max_answer_bytes(),
                ..pb::Limits::default()
            }),
        }
    }

    /// Returns the model servers that were found on this machine: masked address, provider, models.
    pub fn detected_models(&self) -> Vec<(String, &'static str, Vec<String>)> {
        let detected = self.planner.detected().into_iter();
        detected.map(|found| (masked_url(&found.base_url), found.provider.name(), found.models)).collect()
    }
}
