//! Reads the configuration again and applies what can change while the gateway runs.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::{
    config::{Config, Explained, Loaded, can_change, contradictions, masked, with_values},
    conversation::ConversationStore,
    error::{Error, Reason, Result},
    files::Pool,
    job::JobService,
    logging::LogFilter,
};

/// The longest time that reading the sources may take.
const READ_TIME: Duration = Duration::from_secs(10);

/// The parts of the running gateway whose settings can change.
#[derive(Clone)]
pub(crate) struct Reloadable {
    /// The filter of the log.
    pub(crate) log: LogFilter,
    /// The job service.
    pub(crate) service: JobService,
    /// The store of conversations.
    pub(crate) conversations: ConversationStore,
}

/// Reads every source again, as it was read at the start.
type Load = dyn Fn() -> Result<Loaded> + Send + Sync;

/// Reloads the configuration. Clones share the settings that apply now.
#[derive(Clone)]
pub(crate) struct Reloader {
    load: Arc<Load>,
    /// What applies now, and a turn for whoever changes it.
    applied: Arc<Mutex<(Config, Explained)>>,
    parts: Reloadable,
    pool: Pool,
}

/// One setting that differs from the one that applied before. Secrets are masked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SettingChange {
    /// The configuration key.
    pub(crate) key: String,
    /// The value that applied before.
    pub(crate) before: Value,
    /// The value that the sources give now.
    pub(crate) after: Value,
    /// The source of the new value.
    pub(crate) origin: String,
}

/// What a reload found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReloadReport {
    /// The settings that apply from now on.
    pub(crate) taken: Vec<SettingChange>,
    /// The settings that apply only after a restart; each is reported again by every reload until then.
    pub(crate) needs_restart: Vec<SettingChange>,
    /// What is to be said of files and values that were passed over.
    pub(crate) notes: Vec<String>,
}

impl Reloader {
    /// Returns a reloader of a gateway that was started with `loaded`; `load` reads its sources again.
    pub(crate) fn new(
        loaded: (Config, Explained),
        load: impl Fn() -> Result<Loaded> + Send + Sync + 'static,
        parts: Reloadable,
    ) -> Self {
        Self { load: Arc::new(load), applied: Arc::new(Mutex::new(loaded)), parts, pool: Pool::default() }
    }

    /// Reads the configuration and applies what can change, everything or nothing.
    ///
    /// # Errors
    /// Every mistake of the configuration at once; nothing is applied then. [`Reason::ToolFailed`] when its files cannot be
    /// read within 10 seconds.
    pub(crate) async fn reload(&self) -> Result<ReloadReport> {
        let mut applied = self.applied.lock().await;
        let load = self.load.clone();
        let Loaded { explained, notes, .. } = self.pool.run_fallible(READ_TIME, move || load()).await?;
        let (running, origins) = &mut *applied;
        let mut report = ReloadReport { notes, ..ReloadReport::default() };
        let mut changes = Vec::new();
        for (applies, found) in origins.iter_mut().zip(&explained) {
            let ((key, before, _), (_, after, origin)) = (&*applies, found);
            if before == after {
                continue;
            }
            let name = key.rsplit('.').next().unwrap_or_default();
            let change = SettingChange {
                key: key.clone(),
                before: masked(name, before),
                after: masked(name, after),
                origin: origin.clone(),
            };
            if can_change(key) {
                report.taken.push(change);
                changes.push(found.clone());
            } else {
                report.needs_restart.push(change);
            }
        }
        let config = with_values(running, &changes).map_err(Error::internal)?;
        // Each source was valid as a whole; what is applied of it has to be, too.
        let contradictions = contradictions(&config);
        if !contradictions.is_empty() {
            let message =
                format!("what can change does not fit what needs a restart:\n{}", contradictions.join("\n"));
            return Err(Error::new(Reason::InvalidArgument, message));
        }
        // The only step that can fail comes first.
        self.parts
            .log
            .set(&config.telemetry)
            .map_err(|message| Error::new(Reason::InvalidArgument, message))?;
        self.parts.service.reconfigure(config.jobs.clone());
        self.parts.conversations.reconfigure(config.conversations.clone());
        for change in changes {
            if let Some(applies) = origins.iter_mut().find(|(key, _, _)| *key == change.0) {
                *applies = change;
            }
        }
        *running = config;
        for SettingChange { key, before, after, origin } in &report.taken {
            tracing::info!(key, %before, %after, origin, "a setting was changed");
        }
        for SettingChange { key, origin, .. } in &report.needs_restart {
            tracing::warn!(key, origin, "a changed setting needs a restart");
        }
        Ok(report)
    }
}
