//! Each caller's settings: which environment and project later runs are about.

use std::{fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{ConversationStore, Layout, names::without_key};
use crate::{
    engine::is_id,
    error::{Error, Reason, Result},
    files::{ReplaceDurability, Root, create_private_directory, replace},
    principal::Principal,
};

/// A caller's settings, kept across restarts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The environment that later runs are about.
    pub environment: Option<String>,
    /// The project that later runs are about.
    pub project: Option<String>,
}

const DIRECTORY: &str = "settings";
const MAX_BYTES: u64 = 64 * 1024;

fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(Reason::ToolFailed, format!("the settings cannot be kept: {error}"))
}

fn read(layout: &Layout, caller: &Principal) -> Result<Settings> {
    let directory = layout.data_directory.join(DIRECTORY);
    let root = match Root::open(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Settings::default()),
        root => root.map_err(failed)?,
    };
    let name = layout.names.settings(caller);
    // An earlier build named the file by a digest without a key.
    let earlier = PathBuf::from(format!("{}.json", without_key(caller.name())));
    if root.kind(&name).map_err(failed)?.is_none() && root.kind(&earlier).map_err(failed)?.is_some() {
        fs::rename(directory.join(&earlier), directory.join(&name)).map_err(failed)?;
    }
    let settings: Settings = match root.read(&name, MAX_BYTES) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Settings::default(),
        Err(error) => return Err(failed(error)),
    };
    // An earlier build accepted any name.
    Ok(Settings {
        environment: settings.environment.filter(|name| is_id(name)),
        project: settings.project.filter(|name| is_id(name)),
    })
}

impl ConversationStore {
    /// Returns a caller's settings.
    ///
    /// # Errors
    /// [`Reason::ToolFailed`] when they cannot be read.
    pub async fn settings(&self, caller: &Principal) -> Result<Settings> {
        let caller = caller.clone();
        self.files(move |layout| read(layout, &caller)).await
    }

    /// Changes a caller's settings and returns them. Of two concurrent changes neither is lost.
    ///
    /// # Errors
    /// [`Reason::ToolFailed`] when they cannot be read or written.
    pub async fn change_settings(
        &self,
        caller: &Principal,
        change: impl FnOnce(&mut Settings) + Send + 'static,
    ) -> Result<Settings> {
        let caller = caller.clone();
        let turn = self.inner.settings_writes.clone().lock_owned().await;
        self.files(move |layout| {
            let _turn = turn;
            let mut settings = read(layout, &caller)?;
            change(&mut settings);
            let directory = layout.data_directory.join(DIRECTORY);
            create_private_directory(&directory).map_err(failed)?;
            let bytes = serde_json::to_vec(&settings).map_err(failed)?;
            replace(&directory.join(layout.names.settings(&caller)), &bytes, ReplaceDurability::Process)
                .map_err(failed)?;
            Ok(settings)
        })
        .await
    }
}
