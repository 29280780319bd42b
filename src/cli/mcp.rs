//! `mcp`: serves the tools on standard input and output, for desktop clients; `mcp config` prints what such a client needs.

use std::{io::IsTerminal, net::IpAddr, process::ExitCode, sync::Arc, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use rmcp::{ServiceExt, transport::stdio};
use serde_json::{Value, json};

use super::{global::GlobalArguments, print};
use crate::{
    app::Core,
    error::{Error, Reason, Result},
    mcp::LineTransport,
    principal::Principal,
    task::Termination,
};

/// How long writing the last responses may take.
const LAST_WORDS: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the configuration of an MCP client that uses this gateway
    Config {
        /// How the client shall reach it
        #[arg(long, value_enum, default_value = "stdio")]
        transport: Transport,
        /// The file's form: most clients take mcp-servers, VS Code takes vscode
        #[arg(long, value_enum, default_value = "mcp-servers")]
        form: Form,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Transport {
    /// The client starts `conductor-gateway mcp`
    Stdio,
    /// The client uses a gateway that runs
    Http,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    McpServers,
    Vscode,
}

pub(super) async fn mcp(global: &GlobalArguments, arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.command {
        Some(Command::Config { transport, form }) => print_config(global, *transport, *form),
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

fn print_config(global: &GlobalArguments, transport: Transport, form: Form) -> Result<ExitCode> {
    // Mistakes in the configuration are reported here, and not only when the client starts the server.
    let config = global.load(&[])?.config;
    let server = match transport {
        Transport::Stdio => {
            let program = std::env::current_exe().map_err(Error::internal)?;
            let directory = std::env::current_dir().map_err(Error::internal)?;
            let mut arguments = vec!["mcp".to_owned()];
            if let Some(file) = &global.config {
                let file = std::path::absolute(file).map_err(Error::internal)?;
                arguments.extend(["--config".to_owned(), file.display().to_string()]);
            }
            arguments.extend(global.set.iter().flat_map(|setting| ["--set".to_owned(), setting.clone()]));
            json!({"command": program, "args": arguments, "cwd": directory})
        }
        Transport::Http => {
            let server = config.server;
            let Some(port) = server.mcp_port.filter(|port| *port != 0) else {
                let message = "a client needs a port that stays; set server.mcp_port";
                return Err(Error::new(Reason::Unsupported, message));
            };
            let host = match server.host.parse::<IpAddr>() {
                // The gateway listens on every address of this machine; the client uses the loopback address.
                Ok(address) if address.is_unspecified() => "127.0.0.1".to_owned(),
                Ok(IpAddr::V6(address)) => format!("[{address}]"),
                _ => server.host,
            };
            json!({"type": "http", "url": format!("http://{host}:{port}{}", crate::edge::mcp::PATH)})
        }
    };
    let name = match form {
        Form::McpServers => "mcpServers",
        Form::Vscode => "servers",
    };
    let document: Value = json!({ name: { "conductor": server } });
    let text = serde_json::to_string_pretty(&document).map_err(Error::internal)?;
    print::to_stdout(&format!("{text}\n"));
    Ok(ExitCode::SUCCESS)
}
