//! Printing a whole answer of a running gateway's job.

use super::print;
use crate::{client::Client, error::Result};

/// Prints a complete answer: unchanged for a program, without what moves the cursor on a terminal.
pub(super) async fn print_result(client: &Client, job_id: &str) -> Result<()> {
    print::answer(&client.result(job_id).await?);
    Ok(())
}
