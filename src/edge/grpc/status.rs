//! Renders errors as gRPC statuses with google.rpc details.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{error::Error, text::bounded};

/// The `ErrorInfo.domain` of every error.
const DOMAIN: &str = "conductor.gateway";

/// Some clients refuse trailers beyond 8 KiB and fail every later call of the connection. The message is sent three times:
/// percent-encoded, at most three times as long, and twice within the base64-encoded details.
const MAX_MESSAGE_BYTES: usize = 800;
const MAX_FIELD_BYTES: usize = 200;

/// Returns the status: the code of the table, `ErrorInfo` with the reason, `RetryInfo`, and the invalid field.
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
    let said = bounded(error.message(), MAX_MESSAGE_BYTES);
    let field = error.field().map(|field| bounded(field, MAX_FIELD_BYTES));
    if let Some(field) = &field {
        details.add_bad_request_violation(field, &said);
    }
    if let Some(cause) = error.cause() {
        tracing::warn!(reason = codes.name, cause, "request failed");
    }
    let message = match field {
        Some(field) => format!("{field}: {said}"),
        None => said,
    };
    Status::with_error_details(Code::from_i32(codes.grpc as i32), message, details)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Reason;

    #[test]
    fn trailers_stay_below_8_kib_whatever_is_quoted() {
        for text in ["x", "é", "\u{1b}", "𝄞", "%"] {
            let error = Error::invalid(text.repeat(40_000), text.repeat(40_000))
                .for_job("job_x")
                .with_sequence(u32::MAX)
                .retry_after(std::time::Duration::from_secs(1));
            let response = to_status(&error).into_http::<String>();
            let bytes: usize =
                response.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
            assert!(bytes < 8 * 1024, "{text}: {bytes}");
        }
        assert_eq!(to_status(&Error::new(Reason::NoTask, "short")).message(), "short");
    }
}
