//! `mcp config`: what an MCP client has to be given to use this gateway, in the client's own form.

use std::{collections::BTreeMap, net::IpAddr, path::Path, process::ExitCode};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{global::GlobalArguments, print};
use crate::{
    config::Loaded,
    error::{Error, Reason, Result},
    secret::{is_secret_name, masked_url},
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How the client shall reach it: it starts `conductor-gateway mcp`, or it uses a gateway that runs on the configured port
    #[arg(long, value_enum, default_value = "stdio")]
    transport: Transport,
    /// The client
    #[arg(long, value_enum, default_value = "claude-desktop")]
    client: Client,
    /// The file's form, for a client that is not among them: most take mcp-servers
    #[arg(long, value_enum, conflicts_with = "client")]
    form: Option<Form>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Transport {
    Stdio,
    Http,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    McpServers,
    Vscode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Client {
    ClaudeDesktop,
    ClaudeCode,
    Vscode,
    Cursor,
    Gemini,
    Codex,
    Windsurf,
}

impl Client {
    /// Returns where the client looks for it.
    fn place(self) -> &'static str {
        match self {
            Self::ClaudeDesktop => "claude_desktop_config.json (Settings, Developer, Edit Config)",
            Self::ClaudeCode => ".mcp.json of the project",
            Self::Vscode => ".vscode/mcp.json of the workspace",
            Self::Cursor => "~/.cursor/mcp.json",
            Self::Gemini => "~/.gemini/settings.json",
            Self::Codex => "~/.codex/config.toml",
            Self::Windsurf => "~/.codeium/windsurf/mcp_config.json",
        }
    }
}

pub(super) fn print_config(global: &GlobalArguments, arguments: &Arguments) -> Result<ExitCode> {
    // Mistakes in the configuration are reported here, and not only when the client starts the server.
    let loaded = global.load(&[])?;
    let client = match arguments.form {
        Some(Form::Vscode) => Client::Vscode,
        Some(Form::McpServers) => Client::Cursor,
        None => arguments.client,
    };
    let server = match arguments.transport {
        Transport::Stdio => started(global, &loaded, client)?,
        Transport::Http => reached(loaded, client)?,
    };
    let text = match client {
        Client::Codex => toml(&server),
        Client::Vscode => pretty(&json!({"servers": {"conductor": server}}))?,
        _ => pretty(&json!({"mcpServers": {"conductor": server}}))?,
    };
    print::to_stdout(&format!("{text}\n"));
    if arguments.form.is_none() {
        print::to_stderr(&format!("it belongs into {}\n", client.place()));
    }
    Ok(ExitCode::SUCCESS)
}

fn pretty(document: &Value) -> Result<String> {
    serde_json::to_string_pretty(document).map_err(Error::internal)
}

/// Returns the entry of a client that starts the gateway. Clients start it in a directory of their own and with few variables, so
/// that every path is absolute and what the environment says is written down.
fn started(global: &GlobalArguments, loaded: &Loaded, client: Client) -> Result<Value> {
    let absolute = |path: &Path| std::path::absolute(path).map_err(Error::internal);
    let program = std::env::current_exe().map_err(Error::internal)?;
    let mut arguments = vec!["mcp".to_owned()];
    let local = Path::new("config.yaml");
    let is_used = loaded.explained.iter().any(|(_, _, origin)| origin == "config.yaml");
    if let Some(file) = global.config.as_deref().or_else(|| is_used.then_some(local)) {
        arguments.extend(["--config".to_owned(), absolute(file)?.display().to_string()]);
    }
    arguments.extend(global.set.iter().flat_map(|setting| ["--set".to_owned(), setting.clone()]));
    for (key, path) in [
        ("storage.path", &loaded.config.storage.path),
        ("conductor.workspace", &loaded.config.conductor.workspace),
    ] {
        if path.is_relative() && !global.set.iter().any(|setting| setting.starts_with(key)) {
            arguments.extend(["--set".to_owned(), format!("{key}={}", absolute(path)?.display())]);
        }
    }
    let mut environment = BTreeMap::new();
    let mut secret = Vec::new();
    for (key, _, origin) in &loaded.explained {
        let Some(name) = origin.strip_prefix("environment ") else { continue };
        let (field, text) =
            (key.rsplit('.').next().unwrap_or_default(), std::env::var(name).unwrap_or_default());
        // Headers and outside servers hold secrets in their values, an address may in its query.
        let is_secret = is_secret_name(field)
            || matches!(field, "headers" | "mcp_servers")
            || (field.ends_with("url") && masked_url(&text) != text);
        match is_secret {
            true => secret.push(name.to_owned()),
            false => {
                environment.insert(name.to_owned(), text);
            }
        }
    }
    let keys = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "GROQ_API_KEY"];
    secret.extend(keys.iter().filter(|name| std::env::var_os(name).is_some()).map(|name| (*name).to_owned()));
    if !secret.is_empty() {
        print::to_stderr(&format!(
            "secrets are not printed; put {} beside `env` where agents shall have the model\n",
            secret.join(", ")
        ));
    }
    let mut server = json!({"command": program, "args": arguments});
    if !environment.is_empty() {
        server["env"] = json!(environment);
    }
    if matches!(client, Client::ClaudeCode | Client::Vscode) {
        server["type"] = json!("stdio");
    }
    Ok(server)
}

/// Returns the entry of a client that uses a gateway which runs.
fn reached(loaded: Loaded, client: Client) -> Result<Value> {
    let server = loaded.config.server;
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
    let url = format!("http://{host}:{port}{}", crate::edge::mcp::PATH);
    Ok(match client {
        Client::Gemini => json!({"httpUrl": url}),
        Client::Windsurf => json!({"serverUrl": url}),
        Client::Codex => json!({"url": url}),
        // It takes servers over HTTP only through its own connectors; a bridge starts for it.
        Client::ClaudeDesktop => json!({"command": "npx", "args": ["-y", "mcp-remote", url]}),
        _ => json!({"type": "http", "url": url}),
    })
}

/// Writes an entry as TOML. A JSON string, and an array of them, is one of TOML as well.
fn toml(server: &Value) -> String {
    let mut text = "[mcp_servers.conductor]".to_owned();
    for (name, value) in server.as_object().into_iter().flatten().filter(|(_, value)| !value.is_object()) {
        text += &format!("\n{name} = {value}");
    }
    if let Some(environment) = server.get("env").and_then(Value::as_object) {
        text += "\n\n[mcp_servers.conductor.env]";
        for (name, value) in environment {
            text += &format!("\n{name} = {value}");
        }
    }
    text
}
