//! The socket of the operators: HTTP over a Unix socket that only the gateway's own user can open.

use std::{
    io,
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{Json, Router, extract::State, response::IntoResponse, routing::post};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use super::{ReloadReport, Reloader};
use crate::{
    error::{Error, Reason, Result},
    task::Group,
};

/// The name of the socket in the data root.
const NAME: &str = "operators.sock";
/// The most connections at a time; a further one waits in the kernel.
const MAX_CONNECTIONS: usize = 8;
/// The longest time that one connection may take, from its first byte to its last.
const CONNECTION_TIME: Duration = Duration::from_secs(20);
/// The longest time that the client waits for its answer.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// The most bytes of an answer.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// A failure, as the socket answers it.
#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    reason: String,
    message: String,
}

/// The bound socket. Its file is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct OperatorSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for OperatorSocket {
    fn drop(&mut self) {
        // A socket that nobody listens on is replaced by the next start.
        let _left = std::fs::remove_file(&self.path);
    }
}

/// Returns a short path of the socket, valid as long as the directory stays open: an address of a Unix socket has at most 107
/// bytes (unix(7)).
fn short_path(directory: &std::fs::File) -> PathBuf {
    format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd()).into()
}

impl OperatorSocket {
    /// Binds the socket in a data root, with mode 0600. A socket that a dead process left is replaced.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] when another process listens on it; what the system says otherwise.
    pub(crate) fn bind(data_root: &Path) -> io::Result<Self> {
        let directory = std::fs::File::open(data_root)?;
        let short = short_path(&directory);
        let path = data_root.join(NAME);
        let listener = match UnixListener::bind(&short) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if std::os::unix::net::UnixStream::connect(&short).is_ok() {
                    return Err(error);
                }
                std::fs::remove_file(&path)?;
                UnixListener::bind(&short)?
            }
            listener => listener?,
        };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Answers requests until `stop` is cancelled.
    pub(crate) async fn serve(self, reloader: Reloader, stop: CancellationToken) {
        let router = Router::new().route("/reload", post(reload)).with_state(reloader);
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let group = Group::new("operators");
        loop {
            let accepted = async {
                // The semaphore is never closed.
                let permit = connections.clone().acquire_owned().await;
                (self.listener.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                accepted = accepted => accepted,
                () = stop.cancelled() => return,
            };
            let Ok((stream, _)) = accepted else {
                // No descriptor was free, for instance; the caller waits in the kernel meanwhile.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let service = hyper_util::service::TowerToHyperService::new(router.clone());
            let stopping = stop.clone();
            group.spawn("operator_connection", async move {
                let _permit = permit;
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service);
                tokio::select! {
                    // Whoever asked has left; there is nobody to tell.
                    _ended = tokio::time::timeout(CONNECTION_TIME, connection) => {}
                    () = stopping.cancelled() => {}
                }
            });
        }
    }
}

async fn reload(State(reloader): State<Reloader>) -> axum::response::Response {
    match reloader.reload().await {
        Ok(report) => Json(report).into_response(),
        Err(error) => {
            tracing::warn!(%error, "the configuration was not reloaded");
            let refusal = Refusal { reason: error.reason().name().to_owned(), message: error.to_string() };
            (StatusCode::BAD_REQUEST, Json(refusal)).into_response()
        }
    }
}

/// Asks the gateway that uses a data root to reload its configuration.
///
/// # Errors
/// [`Reason::Unreachable`] when no gateway uses it; the gateway's own refusal; [`Reason::Internal`] for an answer that makes no
/// sense.
pub(crate) async fn ask_to_reload(data_root: &Path) -> Result<ReloadReport> {
    let unreachable = |error: &dyn std::error::Error| {
        let path = data_root.join(NAME);
        let message = format!(
            "no gateway answers at {}; `storage.path` must be the one of the running gateway, and its user yours",
            path.display()
        );
        Error::new(Reason::Unreachable, message).because(error)
    };
    let asked = async {
        let directory = std::fs::File::open(data_root).map_err(|error| unreachable(&error))?;
        let stream =
            UnixStream::connect(short_path(&directory)).await.map_err(|error| unreachable(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(&error))?;
        let request = Request::post("/reload")
            .header("host", "localhost")
            .body(Full::<Bytes>::default())
            .map_err(Error::internal)?;
        let answered = async {
            let answer = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
            let is_success = answer.status().is_success();
            let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
            let body =
                body.map_err(|error| Error::new(Reason::Internal, "the answer was cut").because(error))?;
            Ok((is_success, body.to_bytes()))
        };
        tokio::pin!(answered);
        // The connection is driven until the answer is here.
        let (is_success, body) = tokio::select! {
            answered = &mut answered => answered?,
            _closed = connection => answered.await?,
        };
        if is_success {
            return serde_json::from_slice(&body).map_err(Error::internal);
        }
        let refusal: Refusal = serde_json::from_slice(&body).map_err(Error::internal)?;
        let reason = Reason::from_name(&refusal.reason).unwrap_or(Reason::Internal);
        Err(Error::new(reason, refusal.message))
    };
    tokio::time::timeout(ANSWER_TIME, asked).await.map_err(|late| unreachable(&late))?
}
