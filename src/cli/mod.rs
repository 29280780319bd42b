//! The commands that a person types.
//!
//! *Lives here:* parsing, printing, exit statuses. *May import:* everything. *May not:* hold logic.

mod answers;
mod arguments;
mod choices;
mod client;
mod configuration;
mod conversations;
mod doctor;
mod event_printer;
mod follow;
mod global;
mod job_ids;
mod job_table;
mod jobs;
mod mcp;
mod mcp_config;
mod output;
mod overview;
mod print;
mod reference;
mod remote_run;
mod run;
mod serve;
mod storage;
mod task_arguments;
mod terminal;

use std::{ffi::OsString, process::ExitCode, time::Duration};

use clap::Parser;

use crate::error::Error;

/// The stack size of every thread. Untrusted JSON, also where libraries parse it, may nest as deep as its longest text allows:
/// serde_json parses what follows one special name with a separate nesting limit, each time in a text of twice the size, so that
/// 64 MiB nest some three thousand times. Memory is committed only as it is used.
const STACK_BYTES: usize = 32 * 1024 * 1024;
/// Threads for file work, which is all that blocks; more of them would only wait for the same disk.
const MAX_BLOCKING_THREADS: usize = 64;
/// So many years that it never expires.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Runs a command line. Returns the exit status.
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let program = arguments.next().unwrap_or_default();
    let mut arguments = arguments.peekable();
    // These two are programs of their own and parse their arguments themselves.
    match arguments.peek().and_then(|first| first.to_str()) {
        Some("engine") => return ExitCode::from(crate::bundled::main(arguments.skip(1))),
        Some("guardian") => return guardian(),
        _ => {}
    }
    let parsed = match arguments::Arguments::try_parse_from(std::iter::once(program).chain(arguments)) {
        Ok(parsed) => parsed,
        Err(error) => {
            // A failure to print the help is ignored.
            let _unheard = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    // This has to precede any thread or file.
    crate::files::keep_private();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_stack_size(STACK_BYTES)
        // Idle threads are kept: if the system has no more threads to give, the store's work continues on the existing ones.
        .thread_keep_alive(FOR_EVER)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Error::internal(error)),
    };
    let status = runtime.block_on(Box::pin(arguments::dispatch(parsed)));
    // A thread that hangs in the kernel must not delay the exit.
    runtime.shutdown_timeout(Duration::from_millis(100));
    match status {
        // EX_IOERR of sysexits.h: the outcome may be good, but the output is incomplete.
        Ok(_) if !print::is_whole() => ExitCode::from(74),
        // As a program that SIGPIPE ends.
        Ok(_) if print::is_unread() => ExitCode::from(141),
        Ok(status) => status,
        Err(error) => fail(&error),
    }
}

fn guardian() -> ExitCode {
    match crate::engine::guardian::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&Error::internal(error)),
    }
}

/// Prints an error for a person and returns its exit status.
fn fail(error: &Error) -> ExitCode {
    let mut text = match error.field() {
        Some(field) => format!("error: {field}: {error}\n"),
        None => format!("error: {error}\n"),
    };
    if let Some(cause) = error.cause() {
        text += &format!("  because: {cause}\n");
    }
    print::to_stderr(&text);
    ExitCode::from(error.reason().codes().exit)
}
