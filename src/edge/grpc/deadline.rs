//! A call's own deadline (gRPC over HTTP/2, `grpc-timeout`), and the refusal of requests that are not gRPC calls.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, extract::Request, middleware::Next};
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::Status;

use super::{super::form, status::to_status};
use crate::{
    error::{Error, Reason},
    pb::Door,
    text::quoted,
};

const HEADER: &str = "grpc-timeout";

/// Parses a timeout: at most eight digits and a unit.
fn read(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

fn over() -> Status {
    to_status(&Error::new(
        Reason::RequestTimedOut,
        "the call's own deadline is over; a job that it submitted and did not hold goes on",
    ))
}

/// Refuses POST requests to gRPC paths that are not gRPC calls (415, as the protocol requires).
pub(super) async fn require_grpc_call(request: Request, next: Next) -> Response<Body> {
    let is_call = match form::door_of(request.headers()) {
        Door::Grpc => request.version() == http::Version::HTTP_2,
        door => door == Door::GrpcWeb,
    };
    if !is_call && request.method() == http::Method::POST {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    next.run(request).await
}

/// Ends a call at its deadline, streams included.
pub(super) async fn enforce(request: Request, next: Next) -> Response<Body> {
    let timeout = match request.headers().get(HEADER).map(|timeout| timeout.to_str().unwrap_or_default()) {
        None => return next.run(request).await,
        Some(text) => match read(text) {
            Some(timeout) => timeout,
            None => {
                let message = format!("`{}` is no timeout such as 10S or 500m", quoted(text));
                return to_status(&Error::invalid(HEADER, message)).into_http();
            }
        },
    };
    let deadline = Instant::now() + timeout;
    // At the deadline the call is dropped, with its disconnect guard if it has one.
    match tokio::time::timeout_at(deadline, next.run(request)).await {
        Ok(response) => response.map(|body| {
            Body::new(UntilDeadline {
                body,
                sleep: Box::pin(tokio::time::sleep_until(deadline)),
                is_over: false,
            })
        }),
        Err(_) => over().into_http(),
    }
}

/// A response body that ends with DEADLINE_EXCEEDED at the deadline.
struct UntilDeadline {
    body: Body,
    sleep: Pin<Box<Sleep>>,
    is_over: bool,
}

impl http_body::Body for UntilDeadline {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if self.sleep.as_mut().poll(context).is_ready() {
            self.is_over = true;
            self.body = Body::empty();
            let mut trailers = HeaderMap::new();
            if let Err(error) = over().add_header(&mut trailers) {
                return Poll::Ready(Some(Err(axum::Error::new(error))));
            }
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_over { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

#[cfg(test)]
mod tests;
