//! Printing what a running gateway streams: a job's events, a whole answer.

use prost::Message;
use tonic::transport::Channel;

use super::{
    client,
    print::{self, EventPrinter},
};
use crate::{
    error::{Error, Result},
    pb::{self, JobEvent, gateway_service_client::GatewayServiceClient},
};

/// Prints a stream of frames to its end.
pub(super) async fn print_frames(
    mut frames: tonic::Streaming<pb::EventFrame>,
    printer: &mut EventPrinter,
) -> Result<()> {
    while let Some(frame) = frames.message().await.map_err(|status| client::refused(&status))? {
        if let Some(event) = frame.event {
            printer.event(&JobEvent::decode(event).map_err(Error::internal)?);
        }
    }
    Ok(())
}

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
