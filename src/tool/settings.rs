//! `set_environment` and `get_system_config`.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    CallContext, Done,
    arguments::EnvironmentArguments,
    names::without_key,
    result::{EnvironmentSet, SystemConfig},
    toolbox::{Inner, ToolboxConfig},
};
use crate::{
    engine::{is_id, read_yaml},
    error::{Error, Reason, Result},
    files::{Durability, Root, create_private_directory, replace},
    principal::Principal,
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

const DIRECTORY: &str = "settings";
const MAX_BYTES: u64 = 64 * 1024;

fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(Reason::ToolFailed, format!("the settings cannot be kept: {error}"))
}

fn read(config: &ToolboxConfig, caller: &Principal) -> Result<Settings> {
    let directory = config.data_directory.join(DIRECTORY);
    let root = match Root::open(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Settings::default()),
        root => root.map_err(failed)?,
    };
    let name = config.names.settings(caller);
    // What an earlier build kept is named by a digest alone.
    let earlier = PathBuf::from(format!("{}.json", without_key(caller.name())));
    if root.kind(&name).map_err(failed)?.is_none() && root.kind(&earlier).map_err(failed)?.is_some() {
        fs::rename(directory.join(&earlier), directory.join(&name)).map_err(failed)?;
    }
    let settings: Settings = match root.read(&name, MAX_BYTES) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Settings::default(),
        Err(error) => return Err(failed(error)),
    };
    // An earlier build took any name.
    Ok(Settings {
        environment: settings.environment.filter(|name| is_id(name)),
        project: settings.project.filter(|name| is_id(name)),
    })
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
    // Read and written in one turn, so that two at once lose neither.
    let turn = inner.settings_writes.clone().lock_owned().await;
    let settings = inner
        .blocking(move |config| {
            let _turn = turn;
            let mut settings = read(config, &caller)?;
            settings.environment = Some(arguments.environment);
            settings.project = arguments.project.or(settings.project).filter(|project| !project.is_empty());
            let directory = config.data_directory.join(DIRECTORY);
            create_private_directory(&directory).map_err(failed)?;
            let bytes = serde_json::to_vec(&settings).map_err(failed)?;
            replace(&directory.join(config.names.settings(&caller)), &bytes, Durability::Process)
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
