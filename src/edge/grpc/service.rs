//! The gateway service over tonic: translate, call the job service, translate back.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health, HealthServer},
};

use super::{
    super::{
        Addresses, DoorLimits, ThroughDoor, access::no_caller, events::EventStream, requests::RequestGuard,
    },
    frames::EventFrameStream,
    status::to_status,
};
use crate::{
    error::{Error, Reason, Result},
    job::{CancelledBy, Conversation, DirectoryService, Filter, JobId, JobService, Submission},
    pb::{self, Door, JobState, OnDisconnect, gateway_service_server::GatewayService},
    principal::Principal,
};

/// The longest wait that `CancelJob` accepts.
const MAX_CANCEL_WAIT_SECONDS: u32 = 300;

pub(super) struct GrpcGateway {
    service: JobService,
    directory_service: DirectoryService,
    heartbeat: Duration,
    addresses: Addresses,
    limits: DoorLimits,
}

impl GrpcGateway {
    pub(super) fn new(
        (service, directory_service): (JobService, DirectoryService),
        heartbeat: Duration,
        addresses: Addresses,
        limits: DoorLimits,
    ) -> Self {
        Self { service, directory_service, heartbeat, addresses, limits }
    }

    fn submission<T>(
        &self,
        request: &Request<T>,
        task: Option<pb::Task>,
        options: Option<pb::TaskOptions>,
    ) -> Result<Submission, Status> {
        Ok(Submission {
            caller: caller_of(request)?,
            door: door(request),
            task,
            options: options.unwrap_or_default(),
            is_held: false,
        })
    }

    async fn try_execute(&self, mut submission: Submission) -> Result<pb::Job> {
        // The waiting client is the reason for the job, so by default the job ends with it.
        submission.is_held = submission.options.on_disconnect() != OnDisconnect::Continue;
        let caller = submission.caller.clone();
        let submitted = self.service.submit(submission).await?;
        let job = self.service.wait(&caller, &submitted.job_id).await;
        if let Some(held) = submitted.held {
            held.release();
        }
        job
    }

    async fn try_stream(
        &self,
        mut submission: Submission,
        in_progress: Option<Arc<RequestGuard>>,
    ) -> Result<EventFrameStream> {
        submission.is_held = submission.options.on_disconnect() == OnDisconnect::Cancel;
        let caller = submission.caller.clone();
        let submitted = self.service.submit(submission).await?;
        let follower = self.service.follow(&caller, &submitted.job_id, 0).await?;
        let events = EventStream::new(&self.service, follower, self.heartbeat, in_progress.as_ref());
        Ok(EventFrameStream::new(events.holding(submitted.held)))
    }

    async fn try_cancel(&self, caller: Principal, request: pb::CancelJobRequest) -> Result<pb::Job> {
        if request.wait_seconds > MAX_CANCEL_WAIT_SECONDS {
            return Err(Error::invalid("wait_seconds", format!("must be at most {MAX_CANCEL_WAIT_SECONDS}")));
        }
        let by = CancelledBy::Caller(caller.name().to_owned());
        let wait = Duration::from_secs(request.wait_seconds.into());
        self.service.cancel(&caller, &JobId::parse(&request.job_id)?, by, wait).await
    }

    async fn try_list(
        &self,
        caller: Principal,
        request: pb::ListJobsRequest,
    ) -> Result<pb::ListJobsResponse> {
        let mut states = Vec::new();
        let is_whole = request.view() == pb::JobView::Full;
        for state in request.states {
            match JobState::try_from(state) {
                Ok(JobState::Unspecified) => {}
                Ok(state) => states.push(state),
                Err(_) => return Err(Error::invalid("states", format!("{state} is no state of a job"))),
            }
        }
        let filter = Filter { states, labels: request.labels, conversation_id: request.conversation_id };
        let page =
            self.service.list(&caller, &filter, request.page_size, &request.page_token, is_whole).await?;
        Ok(pb::ListJobsResponse { jobs: page.jobs, next_page_token: page.next_page_token })
    }

    async fn try_agents(&self, request: pb::ListAgentsRequest) -> Result<pb::ListAgentsResponse> {
        let page_size = match request.page_size {
            0 => 500,
            1..=500 => request.page_size as usize,
            _ => return Err(Error::invalid("page_size", "must be 1 to 500")),
        };
        let mut agents = self.directory_service.agents().await?;
        // The token is the last id of the previous page; agents are sorted by id.
        agents.retain(|agent| agent.agent_id > request.page_token);
        let has_more = agents.len() > page_size;
        agents.truncate(page_size);
        let next_page_token =
            agents.last().filter(|_| has_more).map(|agent| agent.agent_id.clone()).unwrap_or_default();
        Ok(pb::ListAgentsResponse { agents, next_page_token })
    }
}

/// Returns the caller that the listener identified.
fn caller_of<T>(request: &Request<T>) -> Result<Principal, Status> {
    request.extensions().get::<Principal>().cloned().ok_or_else(|| to_status(&no_caller()))
}

fn door<T>(request: &Request<T>) -> Door {
    request.extensions().get::<ThroughDoor>().map_or(Door::Grpc, |door| door.0)
}

fn answer<T>(result: Result<T>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| to_status(&error))
}

#[tonic::async_trait]
impl GatewayService for GrpcGateway {
    type StreamExecuteStream = EventFrameStream;
    type WatchJobStream = EventFrameStream;
    type GetJobResultStream = Pin<Box<dyn Stream<Item = Result<pb::GetJobResultResponse, Status>> + Send>>;

    async fn execute(
        &self,
        request: Request<pb::ExecuteRequest>,
    ) -> Result<Response<pb::ExecuteResponse>, Status> {
        let (task, options) = (request.get_ref().task.clone(), request.get_ref().options.clone());
        let submission = self.submission(&request, task, options)?;
        answer(self.try_execute(submission).await.map(|job| pb::ExecuteResponse { job: Some(job) }))
    }

    async fn stream_execute(
        &self,
        request: Request<pb::StreamExecuteRequest>,
    ) -> Result<Response<EventFrameStream>, Status> {
        let (task, options) = (request.get_ref().task.clone(), request.get_ref().options.clone());
        let submission = self.submission(&request, task, options)?;
        let in_progress = request.extensions().get::<Arc<RequestGuard>>().cloned();
        answer(self.try_stream(submission, in_progress).await)
    }

    async fn submit_job(
        &self,
        request: Request<pb::SubmitJobRequest>,
    ) -> Result<Response<pb::SubmitJobResponse>, Status> {
        let (task, options) = (request.get_ref().task.clone(), request.get_ref().options.clone());
        let submission = self.submission(&request, task, options)?;
        let submitted = async {
            if submission.options.on_disconnect() != OnDisconnect::Unspecified {
                let message = "means nothing here: SubmitJob holds no connection; leave it out";
                return Err(Error::invalid("options.on_disconnect", message));
            }
            let caller = submission.caller.clone();
            let submitted = self.service.submit(submission).await?;
            self.service.get(&caller, &submitted.job_id).await
        };
        answer(submitted.await.map(|job| pb::SubmitJobResponse { job: Some(job) }))
    }

    async fn watch_job(
        &self,
        request: Request<pb::WatchJobRequest>,
    ) -> Result<Response<EventFrameStream>, Status> {
        let caller = caller_of(&request)?;
        let in_progress = request.extensions().get::<Arc<RequestGuard>>().cloned();
        let request = request.into_inner();
        let follow = async {
            let job_id = JobId::parse(&request.job_id)?;
            let follower = self.service.follow(&caller, &job_id, request.after_sequence).await?;
            Ok(EventFrameStream::new(EventStream::new(
                &self.service,
                follower,
                self.heartbeat,
                in_progress.as_ref(),
            )))
        };
        answer(follow.await)
    }

    async fn get_job(
        &self,
        request: Request<pb::GetJobRequest>,
    ) -> Result<Response<pb::GetJobResponse>, Status> {
        let caller = caller_of(&request)?;
        let get = async { self.service.get(&caller, &JobId::parse(&request.get_ref().job_id)?).await };
        answer(get.await.map(|job| pb::GetJobResponse { job: Some(job) }))
    }

    async fn get_job_result(
        &self,
        request: Request<pb::GetJobResultRequest>,
    ) -> Result<Response<Self::GetJobResultStream>, Status> {
        let caller = caller_of(&request)?;
        let pb::GetJobResultRequest { job_id, offset } = request.into_inner();
        let find = async { self.service.result(&caller, &JobId::parse(&job_id)?).await };
        let whole = find.await.map_err(|error| to_status(&error))?;
        if u64::from(offset) > whole.bytes {
            let message = format!("lies beyond the answer, which has {} bytes", whole.bytes);
            return Err(to_status(&Error::invalid("offset", message)));
        }
        let (service, total_bytes) = (self.service.clone(), u32::try_from(whole.bytes).unwrap_or(u32::MAX));
        let pieces = async_stream::try_stream! {
            let mut at = u64::from(offset);
            loop {
                let data = service.result_piece(&whole, at).await.map_err(|error| to_status(&error))?;
                at += data.len() as u64;
                if data.is_empty() && at < whole.bytes {
                    Err(to_status(&Error::new(Reason::DataLoss, "the end of the answer is lost")))?;
                }
                yield pb::GetJobResultResponse { data: data.to_vec(), total_bytes };
                if at >= whole.bytes {
                    break;
                }
            }
        };
        Ok(Response::new(Box::pin(pieces)))
    }

    async fn list_jobs(
        &self,
        request: Request<pb::ListJobsRequest>,
    ) -> Result<Response<pb::ListJobsResponse>, Status> {
        let caller = caller_of(&request)?;
        answer(self.try_list(caller, request.into_inner()).await)
    }

    async fn cancel_job(
        &self,
        request: Request<pb::CancelJobRequest>,
    ) -> Result<Response<pb::CancelJobResponse>, Status> {
        let caller = caller_of(&request)?;
        answer(
            self.try_cancel(caller, request.into_inner())
                .await
                .map(|job| pb::CancelJobResponse { job: Some(job) }),
        )
    }

    async fn delete_job(
        &self,
        request: Request<pb::DeleteJobRequest>,
    ) -> Result<Response<pb::DeleteJobResponse>, Status> {
        let caller = caller_of(&request)?;
        let delete = async { self.service.delete(&caller, &JobId::parse(&request.get_ref().job_id)?).await };
        answer(delete.await.map(|()| pb::DeleteJobResponse {}))
    }

    async fn send_input(
        &self,
        request: Request<pb::SendInputRequest>,
    ) -> Result<Response<pb::SendInputResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        let send = async {
            // Parsed with the checks that apply to all free-form JSON.
            let value = request.value.unwrap_or_default().to_value();
            let value = value.map_err(|error| Error::invalid("value.text", error.to_string()))?;
            self.service.send_input(&caller, &JobId::parse(&request.job_id)?, &request.input_id, value).await
        };
        answer(send.await.map(|job| pb::SendInputResponse { job: Some(job) }))
    }

    async fn list_conversations(
        &self,
        request: Request<pb::ListConversationsRequest>,
    ) -> Result<Response<pb::ListConversationsResponse>, Status> {
        let caller = caller_of(&request)?;
        let pb::ListConversationsRequest { page_size, page_token } = request.into_inner();
        let page = self.directory_service.conversations(&caller, page_size, &page_token).await;
        answer(page.map(|page| pb::ListConversationsResponse {
            conversations: page.conversations.into_iter().map(to_wire).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn delete_conversation(
        &self,
        request: Request<pb::DeleteConversationRequest>,
    ) -> Result<Response<pb::DeleteConversationResponse>, Status> {
        let caller = caller_of(&request)?;
        let deleted =
            self.directory_service.delete_conversation(&caller, &request.get_ref().conversation_id).await;
        answer(deleted.map(|()| pb::DeleteConversationResponse {}))
    }

    async fn list_agents(
        &self,
        request: Request<pb::ListAgentsRequest>,
    ) -> Result<Response<pb::ListAgentsResponse>, Status> {
        answer(self.try_agents(request.into_inner()).await)
    }

    async fn list_tools(
        &self,
        _: Request<pb::ListToolsRequest>,
    ) -> Result<Response<pb::ListToolsResponse>, Status> {
        Ok(Response::new(pb::ListToolsResponse { tools: self.directory_service.tools() }))
    }

    async fn get_server_info(
        &self,
        _: Request<pb::GetServerInfoRequest>,
    ) -> Result<Response<pb::GetServerInfoResponse>, Status> {
        let info = self.directory_service.info();
        let limits = self.limits.with(&info);
        Ok(Response::new(pb::GetServerInfoResponse {
            version: info.version.to_owned(),
            planner: info.planner.to_owned(),
            provider: info.provider,
            model: info.model,
            engine: info.engine.to_owned(),
            capabilities: info.capabilities.iter().map(|name| (*name).to_owned()).collect(),
            planner_reason: info.why,
            mcp_url: self.addresses.mcp_url().unwrap_or_default(),
            running_jobs: u32::try_from(info.running).unwrap_or(u32::MAX),
            queued_jobs: u32::try_from(info.queued).unwrap_or(u32::MAX),
            live_tasks: info.live_tasks as u64,
            limits: Some(limits),
        }))
    }
}

fn to_wire(conversation: Conversation) -> pb::Conversation {
    let agents = conversation.agents.into_iter();
    pb::Conversation {
        conversation_id: conversation.conversation_id,
        create_time: Some(conversation.create_time),
        update_time: Some(conversation.update_time),
        exchanges: conversation.exchanges,
        agents: agents
            .map(|(agent_id, interactions)| pb::ConversationAgent { agent_id, interactions })
            .collect(),
    }
}

/// The gRPC health service: SERVING while the gateway is ready.
pub(super) struct GrpcHealth(JobService);

pub(super) fn health(service: &JobService) -> HealthServer<GrpcHealth> {
    HealthServer::new(GrpcHealth(service.clone()))
}

impl GrpcHealth {
    fn status(&self, service: &str) -> Result<HealthCheckResponse, Status> {
        let is_known = matches!(service, "" | "conductor.gateway.v1.GatewayService");
        if !is_known {
            return Err(Status::not_found("no service of that name"));
        }
        Ok(serving(self.0.readiness().borrow().is_none()))
    }
}

#[tonic::async_trait]
impl Health for GrpcHealth {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.status(&request.get_ref().service).map(Response::new)
    }

    /// Streams the current status and its changes; the last one is NOT_SERVING when the gateway shuts down.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.status(&request.get_ref().service)?;
        let (mut readiness, closing) = (self.0.readiness(), self.0.closing().clone());
        let statuses = async_stream::stream! {
            let mut told = None;
            loop {
                let is_ready = readiness.borrow_and_update().is_none();
                if told != Some(is_ready) {
                    told = Some(is_ready);
                    yield Ok(serving(is_ready));
                }
                tokio::select! {
                    // Cancel safe: both branches only wait.
                    changed = readiness.changed() => if changed.is_err() { return },
                    () = closing.cancelled() => {
                        if told != Some(false) {
                            yield Ok(serving(false));
                        }
                        return;
                    }
                }
            }
        };
        Ok(Response::new(Box::pin(statuses)))
    }
}

fn serving(is_ready: bool) -> HealthCheckResponse {
    let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    HealthCheckResponse { status: status as i32 }
}
