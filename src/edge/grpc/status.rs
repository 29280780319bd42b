//! An error as a gRPC status with google.rpc details.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::error::Error;

/// Who says it, in `ErrorInfo.domain`.
const DOMAIN: &str = "conductor.gateway";

/// The status: code by the table, `ErrorInfo` with the reason, `RetryInfo`, and the field that is wrong.
pub(super) fn to_status(error: &Error) -> Status {
    let codes = error.reason().codes();
    let mut metadata = HashMap::new();
    if let Some(job_id) = error.job_id() {
        metadata.insert("job_id".to_owned(), job_id.to_owned());
    }
    if let Some(sequence) = error.sequence() {
        metadata.insert("last_sequence".to_owned(), sequence.to_string());
    }
    let mut details = ErrorDetails::with_error_info(codes.name, DOMAIN, metadata);
    if let Some(delay) = error.retry_delay() {
        details.set_retry_info(Some(delay));
    }
    if let Some(field) = error.field() {
        details.add_bad_request_violation(field, error.message());
    }
    if let Some(cause) = error.cause() {
        tracing::warn!(reason = codes.name, cause, "request failed");
    }
    let message = match error.field() {
        Some(field) => format!("{field}: {}", error.message()),
        None => error.message().to_owned(),
    };
    Status::with_error_details(Code::from_i32(codes.grpc as i32), message, details)
}
