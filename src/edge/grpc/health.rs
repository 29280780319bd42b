//! The gRPC health service.

use std::pin::Pin;

use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health, HealthServer},
};

use crate::{error::Result, job::JobService};

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
