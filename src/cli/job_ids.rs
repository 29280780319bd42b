//! Short ids of jobs: an id begins with its time, so that its last characters tell jobs apart.

use tonic::transport::Channel;

use super::client;
use crate::{
    error::{Error, Reason, Result},
    pb::{self, gateway_service_client::GatewayServiceClient},
};

/// The length of the ids that are printed.
const SHORT: usize = 8;
/// The fewest characters that are looked up.
const MIN_SUFFIX: usize = 4;
/// The length of a whole id.
const WHOLE: usize = 40;
/// Among how many of the newest jobs a short id is looked up.
const MAX_LOOKED_AT: usize = 10_000;
const PAGE: u32 = 500;

/// Returns the short form of an id.
pub(super) fn short(job_id: &str) -> &str {
    let start = job_id.len().saturating_sub(SHORT);
    job_id.get(start..).unwrap_or(job_id)
}

/// Returns the whole id of a job that is named by its last characters, or by all of them.
///
/// # Errors
/// [`Reason::JobNotFound`] if no job of the caller ends so; [`Reason::InvalidArgument`] if several do.
pub(super) async fn resolve(client: &mut GatewayServiceClient<Channel>, named: &str) -> Result<String> {
    let named = named.trim();
    if named.len() >= WHOLE || named.len() < MIN_SUFFIX {
        // The gateway says what is wrong with it.
        return Ok(named.to_owned());
    }
    let mut request = pb::ListJobsRequest { page_size: PAGE, ..pb::ListJobsRequest::default() };
    let mut found: Vec<String> = Vec::new();
    let mut looked_at = 0;
    while looked_at < MAX_LOOKED_AT {
        let page = client.list_jobs(request.clone()).await;
        let page = page.map_err(|status| client::refused(&status))?.into_inner();
        looked_at += page.jobs.len();
        found.extend(page.jobs.into_iter().map(|job| job.job_id).filter(|id| id.ends_with(named)));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => {
            let message = format!(
                "no job ends with `{}`; `conductor-gateway jobs list` shows them",
                crate::text::quoted(named)
            );
            Err(Error::new(Reason::JobNotFound, message))
        }
        several => {
            let message = format!("{} jobs end so; give more of it: {}", several.len(), several.join(", "));
            Err(Error::invalid("JOB", message))
        }
    }
}
