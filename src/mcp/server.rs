//! The state of the MCP server, which all sessions and requests share.

use std::sync::Arc;

use rmcp::model::RequestStateCodec;

use super::{ToolRunner, call_followers::CallFollowers, subscriptions::Subscriptions};
use crate::{
    error::{Error, Result},
    principal::Principal,
    tool::Toolbox,
};

/// Serves the catalogue. Cheap to share; every session and request uses the same one.
pub struct McpHandler {
    pub(super) toolbox: Toolbox,
    /// Makes jobs of calls; `None` for the gateway's own agent.
    pub(super) runner: Option<Arc<dyn ToolRunner>>,
    pub(super) codec: RequestStateCodec,
    pub(super) watching: Subscriptions,
    pub(super) followed: CallFollowers,
    /// The caller of requests that come through no door.
    pub(super) own_caller: Option<Principal>,
}

impl McpHandler {
    /// Creates the handler for outside clients.
    ///
    /// # Errors
    /// [`Reason::Internal`](crate::error::Reason::Internal) when there are no random numbers.
    pub fn for_outside(toolbox: Toolbox, runner: Arc<dyn ToolRunner>) -> Result<Self> {
        Self::new(toolbox, Some(runner), None)
    }

    /// Creates the handler for one client on standard input and output, whose calls are all this caller's.
    ///
    /// # Errors
    /// As above.
    pub fn for_streams(toolbox: Toolbox, runner: Arc<dyn ToolRunner>, caller: Principal) -> Result<Self> {
        Self::new(toolbox, Some(runner), Some(caller))
    }

    /// Creates the handler for the gateway's own agent, whose calls carry the [`CallContext`](crate::tool::CallContext) of their job among their
    /// extensions.
    ///
    /// # Errors
    /// As above.
    pub fn for_agent(toolbox: Toolbox) -> Result<Self> {
        Self::new(toolbox, None, None)
    }

    fn new(
        toolbox: Toolbox,
        runner: Option<Arc<dyn ToolRunner>>,
        own_caller: Option<Principal>,
    ) -> Result<Self> {
        let mut key = [0u8; 32];
        getrandom::fill(&mut key).map_err(Error::internal)?;
        let codec = RequestStateCodec::try_new(key.to_vec()).map_err(Error::internal)?;
        Ok(Self {
            toolbox,
            runner,
            codec,
            watching: Subscriptions::default(),
            followed: CallFollowers::default(),
            own_caller,
        })
    }
}
