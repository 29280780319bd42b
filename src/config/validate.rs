//! What single values cannot say: ranges, and values that do not go together.

use super::Config;

pub(super) fn validate(config: &Config) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut require = |holds: bool, mistake: &str| {
        if !holds {
            mistakes.push(mistake.to_owned());
        }
    };
    let host = config.server.host.as_str();
    let is_loopback =
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    require(
        is_loopback || config.server.allow_anonymous_remote,
        "server.host: an address beyond this machine lets anybody who reaches it run agents; bind 127.0.0.1, or say server.allow_anonymous_remote: true",
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
    let positive = [
        ("server.max_body_bytes", config.server.max_body_bytes),
        ("server.max_message_bytes", config.server.max_message_bytes),
        ("server.request_timeout_seconds", config.server.request_timeout_seconds),
        ("server.heartbeat_seconds", config.server.heartbeat_seconds),
        ("server.stall_timeout_seconds", config.server.stall_timeout_seconds),
        ("server.max_connections", config.server.max_connections),
        ("conductor.timeout", config.conductor.timeout_seconds),
        ("conductor.max_output_bytes", config.conductor.max_output_bytes),
        ("jobs.max_running", config.jobs.max_running),
        ("jobs.timeout_seconds", config.jobs.timeout_seconds),
    ];
    for (key, value) in positive {
        require(value > 0, &format!("{key}: must be at least 1"));
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
