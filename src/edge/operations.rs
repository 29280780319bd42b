//! The operations that every door offers, each in one place: submission, following, listing, paging, cancelling and what
//! this gateway is. A door parses its requests into the arguments of these, and renders what they return.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{
    ServerConfig, ThroughDoor, access::no_caller, events::EventStream, mcp_path::PATH, requests::RequestGuard,
};
use crate::{
    error::{Error, Result},
    job::{
        CancelledBy, DirectoryService, DisconnectGuard, EventFollower, Filter, JobId, JobPage, JobService,
        Submission, Submitted, WholeResult,
    },
    pb::{self, Door, OnDisconnect},
    principal::Principal,
    telemetry::TraceContext,
};

/// The longest wait that a cancellation accepts, in seconds.
const MAX_CANCEL_WAIT_SECONDS: u32 = 300;

/// The largest page of agents, and the page of a request that names no size.
const MAX_AGENTS_PAGE: u32 = 500;

/// The addresses of the two listeners.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The listener of gRPC, grpc-web, SSE and JSON.
    pub api: SocketAddr,
    /// The listener of MCP; `None` if it is disabled.
    pub mcp: Option<SocketAddr>,
}

impl Addresses {
    /// Returns the URL of the MCP endpoint, or `None` if it is disabled.
    pub fn mcp_url(&self) -> Option<String> {
        self.mcp.map(|address| format!("http://{address}{PATH}"))
    }
}

/// Where a request comes from: who sent it, through which door, and the trace that it belongs to.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) caller: Principal,
    pub(super) door: Door,
    pub(super) trace: Option<TraceContext>,
}

impl Origin {
    /// Returns the origin that the listener noted with a request.
    ///
    /// # Errors
    /// `Reason::Unauthenticated` if the request does not identify its caller.
    pub(super) fn of(extensions: &http::Extensions, default_door: Door) -> Result<Self> {
        let caller = extensions.get::<Principal>().cloned().ok_or_else(no_caller)?;
        let door = extensions.get::<ThroughDoor>().map_or(default_door, |door| door.0);
        Ok(Self { caller, door, trace: extensions.get().copied() })
    }
}

/// What the connection of a submitting client means for its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientConnection {
    /// The waiting client is the reason for the job: the job ends with it unless the client says `CONTINUE`.
    EndsJob,
    /// The job goes on without its client unless the client says `CANCEL`.
    LeavesJob,
    /// The answer comes at once, so that `on_disconnect` is refused.
    NotHeld,
}

/// The operations over the services of the job room. Clones share their state.
#[derive(Clone)]
pub(super) struct Operations {
    service: JobService,
    directory_service: DirectoryService,
    heartbeat: Duration,
    addresses: Addresses,
    max_body_bytes: u32,
    max_message_bytes: u32,
    is_compatible: bool,
    has_console: bool,
}

impl Operations {
    pub(super) fn new(
        service: JobService,
        directory_service: DirectoryService,
        config: &ServerConfig,
        addresses: Addresses,
    ) -> Self {
        let heartbeat = config.heartbeat();
        let (max_body_bytes, max_message_bytes) = (config.max_body_bytes, config.max_message_bytes);
        let is_compatible = config.compatibility;
        Self {
            service,
            directory_service,
            heartbeat,
            addresses,
            max_body_bytes,
            max_message_bytes,
            is_compatible,
            has_console: config.console,
        }
    }

    /// Returns the service, for what only one door does.
    pub(super) fn service(&self) -> &JobService {
        &self.service
    }

    /// Returns the directory service, for what only one door does.
    pub(super) fn directory_service(&self) -> &DirectoryService {
        &self.directory_service
    }

    pub(super) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Returns the interval of signs of life on silent streams.
    pub(super) fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// Returns whether clients of the earlier gateway are served as they know it.
    pub(super) fn is_compatible(&self) -> bool {
        self.is_compatible
    }

    /// Returns whether `/` is the console.
    pub(super) fn has_console(&self) -> bool {
        self.has_console
    }

    /// Returns the most bytes of a body of the HTTP door.
    pub(super) fn max_body_bytes(&self) -> usize {
        self.max_body_bytes as usize
    }

    /// Submits a task; the returned guard is held where the job ends with its client.
    ///
    /// # Errors
    /// Those of [`JobService::submit`]; `Reason::InvalidArgument` for `on_disconnect` where no connection is held.
    pub(super) async fn submit(
        &self,
        origin: &Origin,
        task: Option<pb::Task>,
        options: pb::TaskOptions,
        connection: ClientConnection,
    ) -> Result<Submitted> {
        let said = options.on_disconnect();
        let is_held = match connection {
            ClientConnection::EndsJob => said != OnDisconnect::Continue,
            ClientConnection::LeavesJob => said == OnDisconnect::Cancel,
            ClientConnection::NotHeld if said == OnDisconnect::Unspecified => false,
            ClientConnection::NotHeld => {
                let message =
                    "means nothing here: the answer comes at once and no connection is held; leave it out";
                return Err(Error::invalid("options.on_disconnect", message));
            }
        };
        let Origin { caller, door, trace } = origin.clone();
        self.service.submit(Submission { caller, door, task, options, is_held, trace }).await
    }

    /// Starts to follow a job's events after a sequence.
    ///
    /// # Errors
    /// `Reason::JobNotFound`, `Reason::CursorBeyondLog`, `Reason::StoreUnavailable`.
    pub(super) async fn follow(
        &self,
        caller: &Principal,
        job_id: &str,
        after_sequence: u32,
    ) -> Result<EventFollower> {
        self.service.follow(caller, &JobId::parse(job_id)?, after_sequence).await
    }

    /// Returns the stream over a follower. `request` is the request that the stream answers, and `held` the guard of the
    /// client whose departure ends the job.
    pub(super) fn stream(
        &self,
        follower: EventFollower,
        request: Option<&Arc<RequestGuard>>,
        held: Option<DisconnectGuard>,
    ) -> EventStream {
        EventStream::new(&self.service, follower, self.heartbeat, request).holding(held)
    }

    pub(super) async fn job(&self, caller: &Principal, job_id: &str) -> Result<pb::Job> {
        self.service.get(caller, &JobId::parse(job_id)?).await
    }

    pub(super) async fn jobs(
        &self,
        caller: &Principal,
        filter: &Filter,
        (page_size, page_token): (u32, &str),
        view: pb::JobView,
    ) -> Result<JobPage> {
        self.service.list(caller, filter, page_size, page_token, view == pb::JobView::Full).await
    }

    pub(super) async fn delete(&self, caller: &Principal, job_id: &str) -> Result<()> {
        self.service.delete(caller, &JobId::parse(job_id)?).await
    }

    pub(super) async fn result(&self, caller: &Principal, job_id: &str) -> Result<WholeResult> {
        self.service.result(caller, &JobId::parse(job_id)?).await
    }

    /// Cancels a job and waits for its end for at most `wait_seconds`.
    ///
    /// # Errors
    /// Those of [`JobService::cancel`]; `Reason::InvalidArgument` for a wait above 300 seconds.
    pub(super) async fn cancel(
        &self,
        caller: &Principal,
        job_id: &str,
        wait_seconds: u32,
    ) -> Result<pb::Job> {
        if wait_seconds > MAX_CANCEL_WAIT_SECONDS {
            return Err(Error::invalid("wait_seconds", format!("must be at most {MAX_CANCEL_WAIT_SECONDS}")));
        }
        let by = CancelledBy::Caller(caller.name().to_owned());
        let wait = Duration::from_secs(wait_seconds.into());
        self.service.cancel(caller, &JobId::parse(job_id)?, by, wait).await
    }

    pub(super) async fn send_input(
        &self,
        caller: &Principal,
        job_id: &str,
        input_id: &str,
        value: serde_json::Value,
    ) -> Result<pb::Job> {
        self.service.send_input(caller, &JobId::parse(job_id)?, input_id, value).await
    }

    /// Returns a page of the engine's agents, by id. A page size of 0 is the largest, 500; the token is the last id of the
    /// previous page.
    ///
    /// # Errors
    /// `Reason::InvalidArgument` for a larger page; those of [`DirectoryService::agents`].
    pub(super) async fn agents(&self, page_size: u32, page_token: &str) -> Result<pb::ListAgentsResponse> {
        let page_size = match page_size {
            0 => MAX_AGENTS_PAGE,
            1..=MAX_AGENTS_PAGE => page_size,
            _ => return Err(Error::invalid("page_size", format!("must be 1 to {MAX_AGENTS_PAGE}"))),
        };
        let mut agents = self.directory_service.agents().await?;
        agents.retain(|agent| agent.agent_id.as_str() > page_token);
        let has_more = agents.len() > page_size as usize;
        agents.truncate(page_size as usize);
        let next_page_token =
            agents.last().filter(|_| has_more).map(|agent| agent.agent_id.clone()).unwrap_or_default();
        Ok(pb::ListAgentsResponse { agents, next_page_token })
    }

    /// Returns what this gateway is, can do, takes and is doing.
    pub(super) fn info(&self) -> pb::GetServerInfoResponse {
        let mut info = self.directory_service.info();
        info.mcp_url = self.addresses.mcp_url().unwrap_or_default();
        let limits = info.limits.get_or_insert_default();
        limits.max_body_bytes = self.max_body_bytes;
        limits.max_message_bytes = self.max_message_bytes;
        info
    }
}
