//! Checks that the types of single values cannot make: ranges, and values that contradict each other.

use std::collections::BTreeMap;

use super::Config;
use crate::{agent::Autodetect, llm, tool::ToolName};

/// Returns what is wrong with the choice of the model. A server that is only detected at startup cannot be checked.
pub(super) fn model(config: &Config, environment: &BTreeMap<String, String>) -> Vec<String> {
    let wanted = match config.agent.wanted() {
        Ok(wanted) => wanted,
        Err(mistake) => return vec![mistake],
    };
    let chosen = llm::choose(&wanted, |name| environment.get(name).cloned(), &[]);
    match chosen {
        Err(_) if config.agent.autodetect == Autodetect::Use => Vec::new(),
        Err(mistake) => vec![mistake],
        Ok(choice) => {
            choice.selected.and_then(|selected| llm::connect(&selected).err()).into_iter().collect()
        }
    }
}

/// Headers that clients send for other reasons: if one of them named the caller, every client could choose its own name.
const NO_IDENTITY: &[&str] = &[
    "authorization", "host", "content-type", "content-length", "content-encoding", "cookie", "origin",
    "referer", "user-agent", "accept", "connection", "transfer-encoding", "te", "upgrade", "idempotency-key",
    "last-event-id", "mcp-session-id", "mcp-protocol-version", "grpc-timeout", "x-api-key",
];

pub(super) fn validate(config: &Config) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut require = |holds: bool, mistake: &str| {
        if !holds {
            mistakes.push(mistake.to_owned());
        }
    };
    for (model, price) in &config.agent.prices {
        require(
            !price.is_unusable(),
            &format!("agent.prices.{model}: must be US dollars for a million tokens, from 0 to 1000000"),
        );
    }
    require(
        config.agent.history_bytes <= 64 * 1024 * 1024,
        "agent.history_bytes: must be at most 67108864; what a conversation remembers is read for each command",
    );
    let host = config.server.host.as_str();
    let is_loopback = crate::loopback::is_loopback_host(host);
    require(
        is_loopback || config.server.allow_anonymous_remote,
        "server.host: an address beyond this machine lets anybody who reaches it run agents; bind 127.0.0.1, or say server.allow_anonymous_remote: true",
    );
    require(
        config.server.port == 0 || config.server.mcp_port != Some(config.server.port),
        "server.mcp_port: is the same as server.port; each needs its own",
    );
    for origin in &config.server.cors_origins {
        let is_origin = origin == "loopback"
            || origin.split_once("://").is_some_and(|(scheme, host)| {
                matches!(scheme, "http" | "https") && !host.is_empty() && !host.contains(['/', '*'])
            });
        require(
            is_origin,
            &format!(
                "server.cors_origins: `{origin}` is no origin; write such as https://app.example or loopback"
            ),
        );
    }
    for name in &config.server.cors_headers {
        require(
            name.parse::<http::HeaderName>().is_ok(),
            &format!("server.cors_headers: `{name}` is no header's name"),
        );
    }
    let positive = [
        ("server.max_body_bytes", config.server.max_body_bytes),
        ("server.max_message_bytes", config.server.max_message_bytes),
        ("server.request_timeout_seconds", config.server.request_timeout_seconds),
        ("server.heartbeat_seconds", config.server.heartbeat_seconds),
        ("server.stall_timeout_seconds", config.server.stall_timeout_seconds),
        ("server.max_connections", config.server.max_connections),
        ("server.max_streams", config.server.max_streams),
        ("conductor.timeout", config.conductor.timeout_seconds),
        ("conductor.max_output_bytes", config.conductor.max_output_bytes),
        ("conductor.session_input_timeout_seconds", config.conductor.session_input_timeout_seconds),
        ("server.mcp_max_sessions", config.server.mcp_max_sessions),
        ("server.mcp_session_idle_seconds", config.server.mcp_session_idle_seconds),
        ("agent.max_steps", config.agent.max_steps),
        ("agent.parallel_tool_calls", config.agent.parallel_tool_calls),
        ("agent.max_tool_errors", config.agent.max_tool_errors),
        ("agent.max_result_bytes", config.agent.max_result_bytes),
        ("agent.max_attempts", config.agent.max_attempts),
        ("agent.connect_timeout_seconds", config.agent.connect_timeout_seconds),
        ("agent.first_byte_timeout_seconds", config.agent.first_byte_timeout_seconds),
        ("agent.idle_timeout_seconds", config.agent.idle_timeout_seconds),
        ("agent.step_timeout_seconds", config.agent.step_timeout_seconds),
        ("agent.input_timeout_seconds", config.agent.input_timeout_seconds),
        ("jobs.max_running", config.jobs.max_running),
        ("jobs.timeout_seconds", config.jobs.timeout_seconds),
    ];
    for (key, value) in positive {
        require(value > 0, &format!("{key}: must be at least 1"));
    }
    // What is received is held in memory, and what is kept of it must be readable again.
    let bounded = [
        ("server.max_body_bytes", config.server.max_body_bytes, 64 << 20),
        ("server.max_message_bytes", config.server.max_message_bytes, 64 << 20),
        ("agent.max_result_bytes", config.agent.max_result_bytes, 16 << 20),
        ("jobs.tail_bytes", config.jobs.tail_bytes, 256 << 20),
    ];
    for (key, value, most) in bounded {
        require(value <= most, &format!("{key}: must be at most {most}"));
    }
    for (name, server) in &config.agent.mcp_servers {
        require(
            crate::engine::is_id(name),
            &format!("agent.mcp_servers: `{name}` must be letters, digits, `_` and `-`"),
        );
        if let Some(mistake) = server.mistake() {
            require(false, &format!("agent.mcp_servers.{name}: {mistake}"));
        }
    }
    for tool in &config.agent.tools {
        let is_known = tool == "ask_user" || ToolName::find(tool).is_ok();
        require(is_known, &format!("agent.tools: there is no tool `{tool}`"));
    }
    if let Some(header) = &config.auth.caller_header {
        let is_header = header.parse::<http::HeaderName>().is_ok();
        require(is_header, &format!("auth.caller_header: `{header}` is no header's name"));
        let is_identity = !NO_IDENTITY.iter().any(|name| header.eq_ignore_ascii_case(name));
        require(
            is_identity,
            &format!(
                "auth.caller_header: `{header}` says something else than who calls, and clients send it themselves"
            ),
        );
        require(
            !config.server.cors_headers.iter().any(|name| name.eq_ignore_ascii_case(header)),
            "server.cors_headers: holds auth.caller_header, which is not for pages to send",
        );
    }
    if let Some(temperature) = config.agent.temperature {
        require((0.0..=2.0).contains(&temperature), "agent.temperature: must be 0 to 2");
    }
    let readable = config.server.max_message_bytes as usize;
    require(
        readable >= 512 * 1024,
        "server.max_message_bytes: must be at least 524288, so that every event fits one message",
    );
    if let Some(path) = &config.conductor.project_path {
        let script = path.join("conductor");
        let is_there = path.is_dir() && (!config.conductor.command.is_empty() || script.is_file());
        require(
            is_there,
            &format!(
                "conductor.project_path: {} holds no conductor; leave the key out for the bundled engine",
                path.display()
            ),
        );
    }
    if let Some(program) = config.conductor.command.first() {
        let is_there = !program.contains('/') || std::path::Path::new(program).exists();
        require(is_there, &format!("conductor.command: {program} does not exist"));
    }
    require(!config.storage.path.as_os_str().is_empty(), "storage.path: must not be empty");
    require(
        tracing_subscriber::EnvFilter::try_new(&config.telemetry.log).is_ok(),
        "telemetry.log: must be a level such as info, or filters such as info,conductor_gateway::journal=debug",
    );
    mistakes
}
