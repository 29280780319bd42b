//! `serve`: starts the gateway, waits for a signal, and shuts down in order.

use std::{io::IsTerminal, process::ExitCode};

use clap::Args;

use super::{global::GlobalArguments, print, terminal::has_colour};
use crate::{
    app::App,
    config::Loaded,
    error::{Error, Result},
    logging,
    task::{Group, HANG_UP, Termination, has_terminal},
};

#[derive(Debug, Default, Args)]
pub(super) struct Arguments {
    /// The address to bind
    #[arg(long)]
    host: Option<String>,
    /// The port to bind; 0 lets the system choose
    #[arg(long)]
    port: Option<u16>,
    /// The port of the MCP server; 0 lets the system choose
    #[arg(long, value_name = "PORT")]
    mcp_port: Option<u16>,
}

pub(super) async fn serve(global: &GlobalArguments, arguments: &Arguments) -> Result<ExitCode> {
    let flags = [
        ("server.host", arguments.host.clone()),
        ("server.port", arguments.port.map(|port| port.to_string())),
        ("server.mcp_port", arguments.mcp_port.map(|port| port.to_string())),
    ];
    let loaded = global.load_for_service(&flags)?;
    let Loaded { config, explained, notes } = &loaded;
    let log = logging::start(&config.telemetry, has_colour())
        .map_err(|message| Error::new(crate::error::Reason::InvalidArgument, message))?;
    for note in notes {
        tracing::info!(note, "the configuration was read");
    }
    // These names are often set for something else.
    for (key, value, origin) in explained {
        if let Some(name @ ("HOST" | "PORT")) = origin.strip_prefix("environment ") {
            tracing::warn!(key, %value, "taken from the environment variable {name}; CONDUCTOR_GATEWAY_{name} would win");
        }
    }
    let mut termination = Termination::listen().map_err(Error::internal)?;
    let app = tokio::select! {
        app = App::start(config) => app?,
        // Nothing was served yet, and the next start finds what was begun.
        signal = termination.next() => {
            tracing::warn!(signal, "ended while starting");
            return Ok(ExitCode::from(130));
        }
    };
    let data_root = config.storage.path.clone();
    let sources = global.clone();
    let load = move || {
        let flags: Vec<_> = flags.iter().map(|(key, value)| (*key, value.clone())).collect();
        sources.load_for_service(&flags)
    };
    let reloader = app.reloader(loaded, load, log);
    let reloads = Group::new("reload");
    let addresses = app.addresses();
    tracing::info!(address = %addresses.api, mcp = addresses.mcp_url(), data = %data_root.display(), version = env!("CARGO_PKG_VERSION"), "the gateway is ready");
    if std::io::stderr().is_terminal() {
        let mcp = addresses.mcp_url().map(|url| format!("; MCP at {url}")).unwrap_or_default();
        print::to_stderr(&format!("\n  open http://{}/{mcp}\n  Ctrl-C ends it\n\n", addresses.api));
    }
    let signal = loop {
        let signal = termination.next().await;
        // From a closed terminal this signal means the end; from a service manager it means reloading the configuration.
        if signal != HANG_UP || has_terminal() {
            break signal;
        }
        let reloader = reloader.clone();
        // Files that hang do not keep the next signal waiting.
        reloads.spawn("reload", async move {
            match reloader.reload().await {
                Ok(report) if report.taken.is_empty() => tracing::info!(signal, "no setting was changed"),
                Ok(_) => {}
                Err(error) => tracing::warn!(signal, %error, "the configuration was not reloaded"),
            }
        });
    };
    tracing::info!(signal, "shutting down");
    if std::io::stderr().is_terminal() {
        print::to_stderr("waiting for running jobs to end; the same key again ends them at once\n");
    }
    let status = tokio::select! {
        () = app.shut_down() => ExitCode::SUCCESS,
        // A second signal exits at once; the guardian kills what is left.
        signal = termination.next() => {
            tracing::warn!(signal, "exiting at once");
            ExitCode::from(130)
        }
    };
    tracing::info!("the gateway has ended");
    Ok(status)
}
