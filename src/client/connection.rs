//! The connection to a gateway, and what its refusals mean.

use std::time::Duration;

use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

use crate::{
    error::{Error, Reason, Result},
    pb::gateway_service_client::GatewayServiceClient,
    text::bounded,
};

/// How often a connection is asked for a sign of life, and how long one may take.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// The largest message that is taken.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// How long a gateway that does not answer is tried again.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(200);
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Connects to a gateway.
///
/// # Errors
/// [`Reason::InvalidArgument`], [`Reason::Unreachable`].
pub(crate) async fn connect(address: &str) -> Result<GatewayServiceClient<Channel>> {
    let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    if !url.starts_with("http://") {
        return Err(Error::invalid(
            "--server",
            format!("`{url}`: this version speaks http:// only; write http://HOST:PORT"),
        ));
    }
    let unreachable = |error: &dyn std::error::Error| {
        // The outermost error carries no information; the innermost one names the cause.
        let mut cause = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Error::new(
            Reason::Unreachable,
            format!("no gateway answers at {url}; start one with `conductor-gateway serve`"),
        )
        .because(cause)
    };
    let endpoint = Endpoint::from_shared(url.clone())
        .map_err(|error| Error::invalid("--server", format!("`{url}` is no address: {error}")))?
        .connect_timeout(Duration::from_secs(5))
        // A network that is gone closes nothing; a stream over it would be silent for ever.
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    let channel = endpoint.connect().await.map_err(|error| unreachable(&error))?;
    Ok(GatewayServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES))
}

/// Returns the reason that a gateway gave; `None` if the answer is not a gateway's.
fn reason(status: &Status) -> Option<Reason> {
    let details = status.get_error_details();
    details.error_info().and_then(|info| Reason::from_name(&info.reason))
}

/// Returns the error that a gateway responded with.
pub(crate) fn refused(status: &Status) -> Error {
    Error::new(reason(status).unwrap_or(Reason::Unreachable), bounded(status.message(), 4096))
}

/// Returns whether the connection, and not the request, is what failed.
pub(super) fn is_cut(status: &Status) -> bool {
    let is_lost =
        matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled);
    match reason(status) {
        Some(Reason::Shutdown | Reason::ShuttingDown | Reason::TooManyStreams | Reason::StoreUnavailable) => {
            true
        }
        Some(_) => false,
        None => is_lost,
    }
}
