//! `set_environment` and `get_system_config`.

use std::{collections::BTreeMap, io, path::Path};

use serde_json::Value;

use super::{
    CallContext, ToolResult,
    arguments::EnvironmentArguments,
    parts::{EngineFiles, Parts},
    result::{EnvironmentSet, SystemConfig},
};
use crate::{
    conversation::Settings,
    engine::read_yaml,
    error::{Error, Reason, Result},
    files::Root,
};

/// The keys of the engine's configuration that are shown. Others may hold secrets.
const SHOWN_KEYS: &[&str] = &["storage", "prompt_format", "tool_plugins", "timeout", "provider", "language"];

pub(super) async fn set_environment(
    parts: &Parts,
    context: &CallContext,
    arguments: &EnvironmentArguments,
) -> Result<ToolResult> {
    let arguments = arguments.clone();
    let change = |settings: &mut Settings| {
        settings.environment = Some(arguments.environment);
        settings.project =
            arguments.project.or(settings.project.take()).filter(|project| !project.is_empty());
    };
    let settings = parts.conversations.change_settings(&context.caller, change).await?;
    let text = format!(
        "Your later runs are about environment {} and project {}.",
        settings.environment.as_deref().unwrap_or("none"),
        settings.project.as_deref().unwrap_or("none")
    );
    ToolResult::new(text, &EnvironmentSet { environment: settings.environment, project: settings.project })
}

fn shown_config(config: &EngineFiles) -> Result<BTreeMap<String, Value>> {
    let path = &config.engine.root;
    let read = Root::open(path)
        .and_then(|root| read_yaml::<BTreeMap<String, Value>>(&root, path, Path::new("config.yaml")));
    let document = match read {
        Ok(document) => document,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(Error::new(Reason::ToolFailed, format!("config.yaml: {error}"))),
    };
    let known = document.iter().filter(|(key, _)| SHOWN_KEYS.contains(&key.as_str()));
    let mut shown: BTreeMap<_, _> = known.map(|(key, value)| (key.clone(), value.clone())).collect();
    // Of the storage only its type and path are shown: a connection string holds a password.
    if let Some(Value::Object(storage)) = shown.get_mut("storage") {
        storage.retain(|key, _| matches!(key.as_str(), "type" | "path"));
    }
    Ok(shown)
}

pub(super) async fn system_config(parts: &Parts, context: &CallContext) -> Result<ToolResult> {
    let settings = parts.conversations.settings(&context.caller).await?;
    let (engine, timeout_seconds) = (parts.driver.name().to_owned(), parts.limits.timeout_seconds);
    let result = parts
        .blocking(move |config| {
            let shown = shown_config(config)?;
            let storage_type = shown
                .get("storage")
                .and_then(|storage| storage["type"].as_str())
                .unwrap_or("filesystem")
                .to_owned();
            let workspace = config.workspace().map(|workspace| workspace.directory.display().to_string());
            Ok(SystemConfig {
                engine,
                root: config.engine.root.display().to_string(),
                workspace: workspace.unwrap_or_default(),
                storage_type,
                timeout_seconds,
                config: shown,
                environment: settings.environment,
                project: settings.project,
            })
        })
        .await?;
    let text = format!(
        "engine {} in {}\nworkspace {} ({})\nruns may take {} seconds\nyour environment: {}\nyour project: {}",
        result.engine,
        result.root,
        result.workspace,
        result.storage_type,
        result.timeout_seconds,
        result.environment.as_deref().unwrap_or("none"),
        result.project.as_deref().unwrap_or("none"),
    );
    ToolResult::new(text, &result)
}
