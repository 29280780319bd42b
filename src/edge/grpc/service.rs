//! The gateway service over tonic: translate, call the job service, translate back.

use std::{pin::Pin, time::Duration};

use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health, HealthServer},
};

use super::{
    super::{
        ThroughDoor,
        events::{DisconnectGuard, EventStream},
    },
    frames::Frames,
    status::to_status,
};
use crate::{
    caller::Caller,
    error::{Error, Result},
    job::{CancelledBy, Filter, JobId, JobService, Submission},
    pb::{self, Door, JobState, OnDisconnect, gateway_service_server::GatewayService},
};

/// The longest wait of `CancelJob`.
const MAX_CANCEL_WAIT_SECONDS: u32 = 300;

pub(super) struct Gateway {
    service: JobService,
    heartbeat: Duration,
}

impl Gateway {
    pub(super) fn new(service: JobService, heartbeat: Duration) -> Self {
        Self { service, heartbeat }
    }

    fn submission<T>(
        &self,
        request: &Request<T>,
        task: Option<pb::Task>,
        options: Option<pb::TaskOptions>,
    ) -> Submission {
        Submission {
            caller: Caller::local(),
            door: door(request),
            task,
            options: options.unwrap_or_default(),
        }
    }

    fn guard(&self, caller: &Caller, job_id: &JobId) -> DisconnectGuard {
        DisconnectGuard::new(self.service.clone(), caller.clone(), job_id.clone())
    }

    async fn try_execute(&self, submission: Submission) -> Result<pb::Job> {
        let caller = submission.caller.clone();
        let submitted = self.service.submit(submission).await?;
        // The client that waits for the answer is the reason for the job, unless it said otherwise.
        let mut guard = (submitted.on_disconnect != OnDisconnect::Continue && submitted.is_new)
            .then(|| self.guard(&caller, &submitted.job_id));
        let job = self.service.wait(&caller, &submitted.job_id).await;
        if let Some(guard) = &mut guard {
            guard.disarm();
        }
        job
    }

    async fn try_stream(&self, submission: Submission) -> Result<Frames> {
        let caller = submission.caller.clone();
        let submitted = self.service.submit(submission).await?;
        let guard = (submitted.on_disconnect == OnDisconnect::Cancel && submitted.is_new)
            .then(|| self.guard(&caller, &submitted.job_id));
        let follower = self.service.follow(&caller, &submitted.job_id, 0)?;
        Ok(Frames::new(EventStream::new(&self.service, follower, self.heartbeat).guarded(guard)))
    }

    async fn try_cancel(&self, request: pb::CancelJobRequest) -> Result<pb::Job> {
        if request.wait_seconds > MAX_CANCEL_WAIT_SECONDS {
            return Err(Error::invalid("wait_seconds", format!("must be at most {MAX_CANCEL_WAIT_SECONDS}")));
        }
        let caller = Caller::local();
        let by = CancelledBy::Caller(caller.name().to_owned());
        let wait = Duration::from_secs(request.wait_seconds.into());
        self.service.cancel(&caller, &JobId::parse(&request.job_id)?, by, wait).await
    }

    async fn try_list(&self, request: pb::ListJobsRequest) -> Result<pb::ListJobsResponse> {
        let mut states = Vec::new();
        for state in request.states {
            match JobState::try_from(state) {
                Ok(JobState::Unspecified) => {}
                Ok(state) => states.push(state),
                Err(_) => return Err(Error::invalid("states", format!("{state} is no state of a job"))),
            }
        }
        let filter = Filter { states, labels: request.labels, conversation_id: request.conversation_id };
        let page =
            self.service.list(&Caller::local(), &filter, request.page_size, &request.page_token).await?;
        Ok(pb::ListJobsResponse { jobs: page.jobs, next_page_token: page.next_page_token })
    }

    async fn try_agents(&self, request: pb::ListAgentsRequest) -> Result<pb::ListAgentsResponse> {
        let page_size = match request.page_size {
            0 => 500,
            1..=500 => request.page_size as usize,
            _ => return Err(Error::invalid("page_size", "must be 1 to 500")),
        };
        let mut agents = self.service.agents().await?;
        // The token is the last id of the page before; the agents are sorted by id.
        agents.retain(|agent| agent.agent_id > request.page_token);
        let has_more = agents.len() > page_size;
        agents.truncate(page_size);
        let next_page_token =
            agents.last().filter(|_| has_more).map(|agent| agent.agent_id.clone()).unwrap_or_default();
        Ok(pb::ListAgentsResponse { agents, next_page_token })
    }
}

fn door<T>(request: &Request<T>) -> Door {
    request.extensions().get::<ThroughDoor>().map_or(Door::Grpc, |door| door.0)
}

fn answer<T>(result: Result<T>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| to_status(&error))
}

#[tonic::async_trait]
impl GatewayService for Gateway {
    type StreamExecuteStream = Frames;
    type WatchJobStream = Frames;

    async fn execute(
        &self,
        request: Request<pb::ExecuteRequest>,
    ) -> Result<Response<pb::ExecuteResponse>, Status> {
        let (task, options) = (request.get_ref().task.clone(), request.get_ref().options.clone());
        let submission = self.submission(&request, task, options);
        answer(self.try_execute(submission).await.map(|job| pb::ExecuteResponse { job: Some(job) }))
    }

    async fn stream_execute(
        &self,
        request: Request<pb::StreamExecuteRequest>,
    ) -> Result<Response<Frames>, Status> {
        let (task, options) = (request.get_ref().task.clone(), request.get_ref().options.clone());
        let submission = self.submission(&request, task, options);
        answer(self.try_stream(submission).await)
    }

    async fn submit_job(
        &self,
        request: Request<pb::SubmitJobRequest>,
    ) -> Result<Response<pb::SubmitJobResponse>, Status> {
        let (task, options) = (request.get_ref().task.clone(), request.get_ref().options.clone());
        let submission = self.submission(&request, task, options);
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

    async fn watch_job(&self, request: Request<pb::WatchJobRequest>) -> Result<Response<Frames>, Status> {
        let request = request.into_inner();
        let follow = || {
            let job_id = JobId::parse(&request.job_id)?;
            let follower = self.service.follow(&Caller::local(), &job_id, request.after_sequence)?;
            Ok(Frames::new(EventStream::new(&self.service, follower, self.heartbeat)))
        };
        answer(follow())
    }

    async fn get_job(
        &self,
        request: Request<pb::GetJobRequest>,
    ) -> Result<Response<pb::GetJobResponse>, Status> {
        let get =
            async { self.service.get(&Caller::local(), &JobId::parse(&request.get_ref().job_id)?).await };
        answer(get.await.map(|job| pb::GetJobResponse { job: Some(job) }))
    }

    async fn list_jobs(
        &self,
        request: Request<pb::ListJobsRequest>,
    ) -> Result<Response<pb::ListJobsResponse>, Status> {
        answer(self.try_list(request.into_inner()).await)
    }

    async fn cancel_job(
        &self,
        request: Request<pb::CancelJobRequest>,
    ) -> Result<Response<pb::CancelJobResponse>, Status> {
        answer(
            self.try_cancel(request.into_inner()).await.map(|job| pb::CancelJobResponse { job: Some(job) }),
        )
    }

    async fn delete_job(
        &self,
        request: Request<pb::DeleteJobRequest>,
    ) -> Result<Response<pb::DeleteJobResponse>, Status> {
        let delete =
            async { self.service.delete(&Caller::local(), &JobId::parse(&request.get_ref().job_id)?).await };
        answer(delete.await.map(|()| pb::DeleteJobResponse {}))
    }

    async fn send_input(
        &self,
        request: Request<pb::SendInputRequest>,
    ) -> Result<Response<pb::SendInputResponse>, Status> {
        let request = request.into_inner();
        let send = async {
            self.service
                .send_input(&Caller::local(), &JobId::parse(&request.job_id)?, &request.input_id)
                .await
        };
        answer(send.await.map(|job| pb::SendInputResponse { job: Some(job) }))
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
        Ok(Response::new(pb::ListToolsResponse { tools: self.service.tools() }))
    }

    async fn get_server_info(
        &self,
        _: Request<pb::GetServerInfoRequest>,
    ) -> Result<Response<pb::GetServerInfoResponse>, Status> {
        let info = self.service.info();
        Ok(Response::new(pb::GetServerInfoResponse {
            version: info.version.to_owned(),
            planner: info.planner.to_owned(),
            provider: String::new(),
            model: String::new(),
            engine: info.engine.to_owned(),
            capabilities: info.capabilities.iter().map(|name| (*name).to_owned()).collect(),
        }))
    }
}

/// Health by the gRPC health protocol: SERVING while new jobs are taken.
pub(super) struct Readiness(JobService);

pub(super) fn health(service: &JobService) -> HealthServer<Readiness> {
    HealthServer::new(Readiness(service.clone()))
}

impl Readiness {
    fn status(&self, service: &str) -> Result<HealthCheckResponse, Status> {
        let is_known = matches!(service, "" | "conductor.gateway.v1.GatewayService");
        if !is_known {
            return Err(Status::not_found("no service of that name"));
        }
        let status = if self.0.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing };
        Ok(HealthCheckResponse { status: status as i32 })
    }
}

#[tonic::async_trait]
impl Health for Readiness {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.status(&request.get_ref().service).map(Response::new)
    }

    /// The status now, and NOT_SERVING when the gateway closes.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let now = self.status(&request.get_ref().service)?;
        let closing = self.0.closing().clone();
        let closed = async move {
            closing.cancelled().await;
            Ok(HealthCheckResponse { status: ServingStatus::NotServing as i32 })
        };
        let statuses = futures_util::stream::once(async move { Ok(now) });
        let closed = futures_util::stream::once(closed);
        Ok(Response::new(Box::pin(futures_util::StreamExt::chain(statuses, closed))))
    }
}
