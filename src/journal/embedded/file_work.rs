//! File work off the runtime's threads, and its errors.

use std::{io, path::Path};

use super::disk::Disk;
use crate::error::{Error, Reason};

/// Returns the error for a failed file operation. The path of the file goes to the log only.
pub(super) fn unavailable(path: &Path, error: &io::Error) -> Error {
    let message = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the store's disk is full; nothing was accepted, try again when there is space"
        }
        _ => "the store does not take or give data now; nothing was accepted, try again later",
    };
    Error::new(Reason::StoreUnavailable, message).because(format_args!("{}: {error}", path.display()))
}

/// Runs file work on a blocking thread, or inline if the disk never blocks.
pub(super) async fn off_runtime<T: Send + 'static, E: From<Error> + Send + 'static>(
    disk: &dyn Disk,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match disk.is_inline() {
        true => work(),
        false => tokio::task::spawn_blocking(work).await.map_err(Error::internal)?,
    }
}
