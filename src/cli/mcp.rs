//! `mcp`: serves the tools on standard input and output, for desktop clients.

use std::{io::IsTerminal, process::ExitCode, sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use rmcp::{ServiceExt, transport::stdio};

use super::{global::GlobalArguments, mcp_config, print};
use crate::{
    app::Core,
    error::{Error, Result},
    mcp::LineTransport,
    principal::Principal,
    task::Termination,
};

/// How long writing the last responses may take.
const LAST_WORDS: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<McpCommand>,
}

#[derive(Debug, Subcommand)]
enum McpCommand {
    /// Print the configuration of an MCP client that uses this gateway
    Config(mcp_config::Arguments),
}

pub(super) async fn mcp(global: &GlobalArguments, arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.command {
        Some(McpCommand::Config(arguments)) => mcp_config::print_config(global, arguments),
        None => Box::pin(serve(global)).await,
    }
}

/// Serves until the client closes its end or a signal arrives. Standard output belongs to the protocol.
async fn serve(global: &GlobalArguments) -> Result<ExitCode> {
    let config = global.load_for_one_process()?;
    let mut termination = Termination::listen().map_err(Error::internal)?;
    let core = Core::build(&config).await?;
    let handler = Arc::new(core.mcp_handler_for_streams(Principal::local())?);
    if std::io::stdin().is_terminal() {
        print::to_stderr(
            "this speaks MCP, for a program at the other end of standard input; `mcp config` prints what a client needs\n",
        );
    }
    let (input, output) = stdio();
    let (lines, writing) = LineTransport::new(input, output);
    let serving = async {
        match Box::pin(handler.serve(lines)).await {
            Ok(service) => service.waiting().await.map(|_| ()).map_err(Error::internal),
            // The client closed the stream before it sent anything.
            Err(error) => {
                tracing::debug!(%error, "no MCP client");
                Ok(())
            }
        }
    };
    let talk = async {
        let mut writing = std::pin::pin!(writing);
        let mut serving = std::pin::pin!(serving);
        let served = tokio::select! {
            served = &mut serving => served,
            // The client no longer reads.
            _ = &mut writing => return Ok(()),
        };
        // The last responses are written if the client reads them in time.
        let _in_time = tokio::time::timeout(LAST_WORDS, writing).await;
        served
    };
    let ended = tokio::select! {
        ended = talk => ended,
        // Dropping the signal's branch loses nothing.
        _ = termination.next() => Ok(()),
    };
    // The client is gone, so nobody waits for what is still running.
    core.shut_down(Duration::from_secs(config.conductor.kill_grace_seconds.into()), async {}).await;
    ended.map(|()| ExitCode::SUCCESS)
}
