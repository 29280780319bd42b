//! The gRPC client of the commands that talk to a running gateway.

use std::time::Duration;

use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

use super::global::GlobalArguments;
use crate::{
    error::{Error, Reason, Result},
    pb::gateway_service_client::GatewayServiceClient,
    text::bounded,
};

/// How often a connection is asked for a sign of life, and how long one may take.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Connects to `server`, or to the address at which the configured gateway listens.
pub(super) async fn connect(
    global: &GlobalArguments,
    server: Option<String>,
) -> Result<GatewayServiceClient<Channel>> {
    let url = match server {
        Some(url) if url.contains("://") => url,
        Some(address) => format!("http://{address}"),
        None => {
            let config = global.load(&[])?.config.server;
            format!("http://{}:{}", config.host, config.port)
        }
    };
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
    Ok(GatewayServiceClient::new(channel).max_decoding_message_size(16 * 1024 * 1024))
}

/// Returns the reason that a gateway gave; `None` if the answer is not a gateway's.
pub(super) fn reason(status: &Status) -> Option<Reason> {
    let details = status.get_error_details();
    details.error_info().and_then(|info| Reason::from_name(&info.reason))
}

/// Returns the error that a gateway responded with.
pub(super) fn refused(status: &Status) -> Error {
    Error::new(reason(status).unwrap_or(Reason::Unreachable), bounded(status.message(), 4096))
}
