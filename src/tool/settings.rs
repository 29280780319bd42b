//! `set_environment` and `get_system_config`.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    CallContext, Done,
    arguments::EnvironmentArguments,
    engine_run::file_name,
    result::{EnvironmentSet, SystemConfig},
    toolbox::{Inner, ToolboxConfig},
};
use crate::{
    caller::Caller,
    engine::read_yaml,
    error::{Error, Reason, Result},
};

/// Keys of the engine's configuration that are shown. What is not listed may be a secret.
const SHOWN_KEYS: &[&str] = &["storage", "prompt_format", "tool_plugins", "timeout", "provider", "language"];

/// A caller's settings, kept across restarts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Settings {
    pub(super) environment: Option<String>,
    pub(super) project: Option<String>,
}

fn path(config: &ToolboxConfig, caller: &Caller) -> PathBuf {
    config.data_directory.join("settings").join(format!("{}.json", file_name(caller.name())))
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(Reason::ToolFailed, format!("the settings cannot be kept: {error}"))
}

fn read(config: &ToolboxConfig, caller: &Caller) -> Result<Settings> {
    match fs::read_to_string(path(config, caller)) {
        Ok(text) => serde_json::from_str(&text).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Settings::default()),
        Err(error) => Err(failed(error)),
    }
}

pub(super) async fn of(inner: &Inner, context: &CallContext) -> Result<Settings> {
    let caller = context.caller.clone();
    inner.blocking(move |config| read(config, &caller)).await
}

pub(super) async fn set_environment(
    inner: &Inner,
    context: &CallContext,
    arguments: &EnvironmentArguments,
) -> Result<Done> {
    let caller = context.caller.clone();
    let arguments = arguments.clone();
    let settings = inner
        .blocking(move |config| {
            let mut settings = read(config, &caller)?;
            settings.environment = Some(arguments.environment);
            settings.project = arguments.project.or(settings.project).filter(|project| !project.is_empty());
            let path = path(config, &caller);
            let new = path.with_extension("new");
            fs::create_dir_all(config.data_directory.join("settings"))
                .and_then(|()| fs::write(&new, serde_json::to_vec(&settings)?))
                .and_then(|()| fs::rename(&new, &path))
                .map_err(failed)?;
            Ok(settings)
        })
        .await?;
    let text = format!(
        "Your later runs are about environment {} and project {}.",
        settings.environment.as_deref().unwrap_or("none"),
        settings.project.as_deref().unwrap_or("none")
    );
    Done::new(text, &EnvironmentSet { environment: settings.environment, project: settings.project })
}

fn shown_config(config: &ToolboxConfig) -> Result<BTreeMap<String, Value>> {
    let document = match read_yaml::<BTreeMap<String, Value>>(&config.engine.root.join("config.yaml")) {
        Ok(document) => document,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(Error::new(Reason::ToolFailed, format!("config.yaml: {error}"))),
    };
    let known = document.iter().filter(|(key, _)| SHOWN_KEYS.contains(&key.as_str()));
    let mut shown: BTreeMap<_, _> = known.map(|(key, value)| (key.clone(), value.clone())).collect();
    // Of the storage only what names a place: a connection string holds a password.
    if let Some(Value::Object(storage)) = shown.get_mut("storage") {
        storage.retain(|key, _| matches!(key.as_str(), "type" | "path"));
    }
    Ok(shown)
}

pub(super) async fn system_config(inner: &Inner, context: &CallContext) -> Result<Done> {
    let caller = context.caller.clone();
    let result = inner
        .blocking(move |config| {
            let settings = read(config, &caller)?;
            let shown = shown_config(config)?;
            let storage_type = shown
                .get("storage")
                .and_then(|storage| storage["type"].as_str())
                .unwrap_or("filesystem")
                .to_owned();
            let workspace = config.workspace().map(|workspace| workspace.directory.display().to_string());
            Ok(SystemConfig {
                engine: config.engine.kind.name().to_owned(),
                root: config.engine.root.display().to_string(),
                workspace: workspace.unwrap_or_default(),
                storage_type,
                timeout_seconds: config.conductor.timeout_seconds,
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
    Done::new(text, &result)
}
