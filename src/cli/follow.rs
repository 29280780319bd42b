//! Printing a whole answer of a running gateway's job.

use tonic::transport::Channel;

use super::{client, print};
use crate::{
    error::Result,
    pb::{self, gateway_service_client::GatewayServiceClient},
};

/// Prints a complete answer: unchanged for a program, without what moves the cursor on a terminal.
pub(super) async fn print_result(client: &mut GatewayServiceClient<Channel>, job_id: String) -> Result<()> {
    let refused = |status: tonic::Status| client::refused(&status);
    let request = pb::GetJobResultRequest { job_id, offset: 0 };
    let mut pieces = client.get_job_result(request).await.map_err(refused)?.into_inner();
    let mut text = Vec::new();
    while let Some(piece) = pieces.message().await.map_err(refused)? {
        text.extend_from_slice(&piece.data);
    }
    print::answer(&String::from_utf8_lossy(&text));
    Ok(())
}
