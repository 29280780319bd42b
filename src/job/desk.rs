//! The desk: what every door asks that is no job. Agents, tools, conversations, what this gateway is.

use std::sync::Arc;

use super::{
    JobService, MAX_ARGUMENTS_BYTES,
    info::{CAPABILITIES, ServerInfo},
};
use crate::{
    agent::{self, Mind},
    conversation::ConversationPage,
    engine::MAX_ARGUMENT_BYTES,
    error::{Error, Result},
    pb,
    principal::Principal,
    secret::masked_url,
    tool::{Toolbox, catalogue},
};

/// See the module's documentation. Clones share it.
#[derive(Clone)]
pub struct Desk {
    service: JobService,
    toolbox: Toolbox,
    mind: Arc<Mind>,
}

impl Desk {
    /// The desk beside the jobs.
    pub fn new(service: JobService, toolbox: Toolbox, mind: Arc<Mind>) -> Self {
        Self { service, toolbox, mind }
    }

    /// The tools behind it.
    pub fn toolbox(&self) -> &Toolbox {
        &self.toolbox
    }

    /// What commands are planned with.
    pub fn mind(&self) -> &Mind {
        &self.mind
    }

    /// A page of the caller's conversations, the latest used first; `page_size` 0 means 500, the most.
    ///
    /// # Errors
    /// [`Reason::ToolFailed`]; [`Reason::InvalidArgument`] for a token that no page gave.
    pub async fn conversations(
        &self,
        caller: &Principal,
        page_size: u32,
        page_token: &str,
    ) -> Result<ConversationPage> {
        self.toolbox.conversations().page(caller, page_size, page_token).await
    }

    /// Removes a conversation of the caller's with everything that was said in it.
    ///
    /// # Errors
    /// [`Reason::InvalidArgument`], [`Reason::ConversationNotFound`]; [`Reason::Busy`] while a job uses it.
    pub async fn delete_conversation(&self, caller: &Principal, conversation_id: &str) -> Result<()> {
        if !crate::engine::is_id(conversation_id) {
            return Err(Error::invalid("conversation_id", "is not one that a conversation can have"));
        }
        self.toolbox.delete_conversation(caller, conversation_id).await
    }

    /// The engine's agents.
    ///
    /// # Errors
    /// [`Reason::ToolFailed`], [`Reason::Unsupported`].
    pub async fn agents(&self) -> Result<Vec<pb::Agent>> {
        self.toolbox.agents().await
    }

    /// The tools with their schemas.
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

    /// What this gateway is and can do.
    pub fn info(&self) -> ServerInfo {
        let (running, queued) = self.service.counts();
        let mind = &self.mind;
        let identity = mind.identity();
        let detected = mind.detected().into_iter();
        ServerInfo {
            version: env!("CARGO_PKG_VERSION"),
            planner: mind.planner(),
            provider: identity.map(|identity| identity.provider.clone()).unwrap_or_default(),
            model: identity.map(|identity| identity.model.clone()).unwrap_or_default(),
            why: mind.why.clone(),
            detected: detected
                .map(|found| (masked_url(&found.base_url), found.provider.name(), found.models))
                .collect(),
            engine: self.toolbox.engine().kind.name(),
            capabilities: CAPABILITIES,
            running,
            queued,
            live_tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
            max_command_bytes: agent::MAX_COMMAND_BYTES as u32,
            max_input_bytes: MAX_ARGUMENT_BYTES as u32,
            max_arguments_bytes: MAX_ARGUMENTS_BYTES as u32,
            max_output_bytes: self.toolbox.max_answer_bytes(),
        }
    }
}
