//! Reads a whole body within its size limit and its deadline, with the same errors at every door.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::timed_body::BodyError;
use crate::error::{Error, Reason, Result};

fn too_large(limit: usize) -> Error {
    Error::new(
        Reason::TooLarge,
        format!("the body is larger than {limit} bytes; send less, or raise server.max_body_bytes"),
    )
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// [`Reason::TooLarge`], [`Reason::RequestTimedOut`], [`Reason::MalformedBody`].
pub(super) async fn read_whole(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: usize| length > limit) {
        return Err(too_large(limit));
    }
    let read = Limited::new(body, limit).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            return too_large(limit);
        }
        let is_late = std::iter::successors(Some(&*error as &dyn std::error::Error), |error| error.source())
            .any(|error| matches!(error.downcast_ref(), Some(BodyError::TimedOut)));
        if is_late {
            Error::new(Reason::RequestTimedOut, "the body did not come in time; send it again")
        } else {
            Error::new(Reason::MalformedBody, "the body could not be read").because(error)
        }
    })?;
    Ok(read.to_bytes())
}
