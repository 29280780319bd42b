//! The gateway's own log.

use std::{fmt, io::IsTerminal, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// The `telemetry` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoggingConfig {
    /// What is logged: a level, or filters such as `info,conductor_gateway::journal=debug`.
    pub log: String,
    /// The format: `auto` is for people on a terminal, and JSON otherwise.
    pub log_format: LogFormat,
}

impl Default for LoggingConfig {
    fn default() -> Self {
        Self { log: "info".into(), log_format: LogFormat::Auto }
    }
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

/// Replaces the filter of the running log.
#[derive(Clone)]
pub(crate) struct LogFilter(Arc<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>);

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogFilter")
    }
}

impl LogFilter {
    /// Applies the filter of a configuration; its format stays as it was.
    ///
    /// # Errors
    /// A sentence if `telemetry.log` is not a valid filter; the filter stays as it was then.
    pub(crate) fn set(&self, config: &LoggingConfig) -> Result<(), String> {
        (self.0)(filter(config)?)
    }
}

fn filter(config: &LoggingConfig) -> Result<EnvFilter, String> {
    // The MCP library logs clients' mistakes, and addresses that contain keys; what an operator needs is logged by the
    // gateway itself. A filter that names the library shows its lines.
    let filter =
        if config.log.contains("rmcp") { config.log.clone() } else { format!("rmcp=off,{}", config.log) };
    EnvFilter::try_new(filter).map_err(|error| format!("telemetry.log: {error}"))
}

/// Starts the log, on standard error, with colours if `has_colour`. Returns what replaces its filter.
///
/// # Errors
/// A sentence if `telemetry.log` is not a valid filter, or a log was started before.
pub(crate) fn start(config: &LoggingConfig, has_colour: bool) -> Result<LogFilter, String> {
    let is_terminal = std::io::stderr().is_terminal();
    let is_json = match config.log_format {
        LogFormat::Auto => !is_terminal,
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(config)?)
        .with_writer(std::io::stderr)
        .with_ansi(has_colour);
    // A panic is one line of the log, whoever catches it; its text is bounded, because it may be foreign.
    std::panic::set_hook(Box::new(|panic| {
        let words = panic.payload_as_str().unwrap_or("no words");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, words = crate::text::bounded(words, 1000), "a part of the gateway panicked");
    }));
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| error.to_string();
    if is_json {
        let builder = builder.json().flatten_event(true).with_filter_reloading();
        let handle = builder.reload_handle();
        builder.try_init().map_err(failed)?;
        Ok(LogFilter(Arc::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))))
    } else {
        let builder = builder.with_filter_reloading();
        let handle = builder.reload_handle();
        builder.try_init().map_err(failed)?;
        Ok(LogFilter(Arc::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))))
    }
}
