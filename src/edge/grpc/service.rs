//! The gateway service over tonic: translate, call the job service, translate back.

use std::{pin::Pin, sync::Arc};

use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::{
    super::{
        Operations,
        access::no_caller,
        operations::{ClientConnection, Origin},
        requests::RequestGuard,
    },
    frames::{EventFrameStream, JobsFrameStream},
    status::to_status,
};
use crate::{
    error::{Error, Reason, Result},
    job::{Conversation, Filter},
    pb::{self, Door, JobState, gateway_service_server::GatewayService},
    principal::Principal,
};

pub(super) struct GrpcGateway {
    operations: Operations,
}

impl GrpcGateway {
    pub(super) fn new(operations: Operations) -> Self {
        Self { operations }
    }

    async fn try_execute(&self, origin: Origin, request: pb::ExecuteRequest) -> Result<pb::Job> {
        let (task, options) = (request.task, request.options.unwrap_or_default());
        let submitted = self.operations.submit(&origin, task, options, ClientConnection::EndsJob).await?;
        let job = self.operations.service().wait(&origin.caller, &submitted.job_id).await;
        if let Some(held) = submitted.held {
            held.release();
        }
        job
    }

    async fn try_stream(
        &self,
        origin: Origin,
        in_progress: Option<Arc<RequestGuard>>,
        request: pb::StreamExecuteRequest,
    ) -> Result<EventFrameStream> {
        let (task, options) = (request.task, request.options.unwrap_or_default());
        let submitted = self.operations.submit(&origin, task, options, ClientConnection::LeavesJob).await?;
        let follower = self.operations.follow(&origin.caller, submitted.job_id.as_str(), 0).await?;
        let events = self.operations.stream(follower, in_progress.as_ref(), submitted.held);
        Ok(EventFrameStream::new(events))
    }

    async fn try_submit(&self, origin: Origin, request: pb::SubmitJobRequest) -> Result<pb::Job> {
        let (task, options) = (request.task, request.options.unwrap_or_default());
        let submitted = self.operations.submit(&origin, task, options, ClientConnection::NotHeld).await?;
        self.operations.job(&origin.caller, submitted.job_id.as_str()).await
    }

    async fn try_list(
        &self,
        caller: Principal,
        request: pb::ListJobsRequest,
    ) -> Result<pb::ListJobsResponse> {
        let mut states = Vec::new();
        let view = request.view();
        for state in request.states {
            match JobState::try_from(state) {
                Ok(JobState::Unspecified) => {}
                Ok(state) => states.push(state),
                Err(_) => {
                    let names = JobState::short_names().join(", ");
                    let message = format!("{state} is no state of a job; there are {names}");
                    return Err(Error::invalid("states", message));
                }
            }
        }
        let pb::ListJobsRequest { labels, conversation_id, text, .. } = request;
        let filter = Filter { states, labels, conversation_id, text };
        let range = (request.page_size, request.page_token.as_str());
        let page = self.operations.jobs(&caller, &filter, range, view).await?;
        Ok(pb::ListJobsResponse { jobs: page.jobs, next_page_token: page.next_page_token })
    }
}

/// Returns the caller that the listener identified.
fn caller_of<T>(request: &Request<T>) -> Result<Principal, Status> {
    request.extensions().get::<Principal>().cloned().ok_or_else(|| to_status(&no_caller()))
}

fn origin<T>(request: &Request<T>) -> Result<Origin, Status> {
    Origin::of(request.extensions(), Door::Grpc).map_err(|error| to_status(&error))
}

fn answer<T>(result: Result<T>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| to_status(&error))
}

#[tonic::async_trait]
impl GatewayService for GrpcGateway {
    type StreamExecuteStream = EventFrameStream;
    type WatchJobStream = EventFrameStream;
    type WatchJobsStream = Pin<Box<dyn Stream<Item = Result<pb::JobsFrame, Status>> + Send>>;
    type GetJobResultStream = Pin<Box<dyn Stream<Item = Result<pb::GetJobResultResponse, Status>> + Send>>;

    async fn execute(
        &self,
        request: Request<pb::ExecuteRequest>,
    ) -> Result<Response<pb::ExecuteResponse>, Status> {
        let origin = origin(&request)?;
        let job = self.try_execute(origin, request.into_inner()).await;
        answer(job.map(|job| pb::ExecuteResponse { job: Some(job) }))
    }

    async fn stream_execute(
        &self,
        request: Request<pb::StreamExecuteRequest>,
    ) -> Result<Response<EventFrameStream>, Status> {
        let origin = origin(&request)?;
        let in_progress = request.extensions().get::<Arc<RequestGuard>>().cloned();
        answer(self.try_stream(origin, in_progress, request.into_inner()).await)
    }

    async fn submit_job(
        &self,
        request: Request<pb::SubmitJobRequest>,
    ) -> Result<Response<pb::SubmitJobResponse>, Status> {
        let origin = origin(&request)?;
        let job = self.try_submit(origin, request.into_inner()).await;
        answer(job.map(|job| pb::SubmitJobResponse { job: Some(job) }))
    }

    async fn watch_job(
        &self,
        request: Request<pb::WatchJobRequest>,
    ) -> Result<Response<EventFrameStream>, Status> {
        let caller = caller_of(&request)?;
        let in_progress = request.extensions().get::<Arc<RequestGuard>>().cloned();
        let request = request.into_inner();
        let follower = self.operations.follow(&caller, &request.job_id, request.after_sequence).await;
        let events = follower.map(|follower| self.operations.stream(follower, in_progress.as_ref(), None));
        answer(events.map(EventFrameStream::new))
    }

    async fn watch_jobs(
        &self,
        request: Request<pb::WatchJobsRequest>,
    ) -> Result<Response<Self::WatchJobsStream>, Status> {
        let caller = caller_of(&request)?;
        let in_progress = request.extensions().get::<Arc<RequestGuard>>().cloned();
        let pb::WatchJobsRequest { jobs, cursor } = request.into_inner();
        let watched = self.operations.watch_jobs(&caller, jobs, &cursor, in_progress.as_ref()).await;
        answer(watched.map(|items| match items {
            Some(items) => Box::pin(JobsFrameStream::new(items)) as Self::WatchJobsStream,
            // All was seen, so the stream ends at once.
            None => Box::pin(tokio_stream::empty()),
        }))
    }

    async fn get_job(
        &self,
        request: Request<pb::GetJobRequest>,
    ) -> Result<Response<pb::GetJobResponse>, Status> {
        let caller = caller_of(&request)?;
        let job = self.operations.job(&caller, &request.get_ref().job_id).await;
        answer(job.map(|job| pb::GetJobResponse { job: Some(job) }))
    }

    async fn get_job_result(
        &self,
        request: Request<pb::GetJobResultRequest>,
    ) -> Result<Response<Self::GetJobResultStream>, Status> {
        let caller = caller_of(&request)?;
        let pb::GetJobResultRequest { job_id, offset } = request.into_inner();
        let whole = self.operations.result(&caller, &job_id).await.map_err(|error| to_status(&error))?;
        if u64::from(offset) > whole.bytes {
            let message = format!("lies beyond the answer, which has {} bytes", whole.bytes);
            return Err(to_status(&Error::invalid("offset", message)));
        }
        let (service, total_bytes) =
            (self.operations.service().clone(), u32::try_from(whole.bytes).unwrap_or(u32::MAX));
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
        let pb::CancelJobRequest { job_id, wait_seconds } = request.into_inner();
        let job = self.operations.cancel(&caller, &job_id, wait_seconds).await;
        answer(job.map(|job| pb::CancelJobResponse { job: Some(job) }))
    }

    async fn delete_job(
        &self,
        request: Request<pb::DeleteJobRequest>,
    ) -> Result<Response<pb::DeleteJobResponse>, Status> {
        let caller = caller_of(&request)?;
        let deleted = self.operations.delete(&caller, &request.get_ref().job_id).await;
        answer(deleted.map(|()| pb::DeleteJobResponse {}))
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
            self.operations.send_input(&caller, &request.job_id, &request.input_id, value).await
        };
        answer(send.await.map(|job| pb::SendInputResponse { job: Some(job) }))
    }

    async fn list_conversations(
        &self,
        request: Request<pb::ListConversationsRequest>,
    ) -> Result<Response<pb::ListConversationsResponse>, Status> {
        let caller = caller_of(&request)?;
        let pb::ListConversationsRequest { page_size, page_token } = request.into_inner();
        let page = self.operations.directory_service().conversations(&caller, page_size, &page_token).await;
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
        let deleted = self
            .operations
            .directory_service()
            .delete_conversation(&caller, &request.get_ref().conversation_id)
            .await;
        answer(deleted.map(|()| pb::DeleteConversationResponse {}))
    }

    async fn list_agents(
        &self,
        request: Request<pb::ListAgentsRequest>,
    ) -> Result<Response<pb::ListAgentsResponse>, Status> {
        let pb::ListAgentsRequest { page_size, page_token } = request.into_inner();
        answer(self.operations.agents(page_size, &page_token).await)
    }

    async fn list_tools(
        &self,
        _: Request<pb::ListToolsRequest>,
    ) -> Result<Response<pb::ListToolsResponse>, Status> {
        Ok(Response::new(pb::ListToolsResponse { tools: self.operations.directory_service().tools() }))
    }

    async fn get_server_info(
        &self,
        _: Request<pb::GetServerInfoRequest>,
    ) -> Result<Response<pb::GetServerInfoResponse>, Status> {
        Ok(Response::new(self.operations.info()))
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
