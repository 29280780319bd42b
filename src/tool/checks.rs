//! Checks whether the engine can run at all, from its files and by starting it.

use std::{path::Path, time::Duration};

use tokio::time::Instant;

use super::{Toolbox, engine_run::last_words, toolbox::ToolboxConfig};
use crate::{
    engine::{Exit, Kind, storage_kind},
    files::{EntryKind, Root},
};

/// The time limit for starting the engine with `--list`; an engine that takes longer counts as one that does not start.
const START_TIME: Duration = Duration::from_secs(30);

fn problem_of_files(config: &ToolboxConfig) -> Option<String> {
    let root = &config.engine.root;
    if config.engine.kind == Kind::Bundled {
        return config.workspace().err().map(|error| error.message().to_owned());
    }
    let kind = Root::open(root).and_then(|opened| opened.kind(Path::new("config.yaml")));
    match kind {
        Err(error) => return Some(format!("the engine's root {} cannot be read: {error}", root.display())),
        Ok(Some(EntryKind::File)) => {}
        Ok(_) => return Some(format!("the engine has no config.yaml in {}", root.display())),
    }
    match storage_kind(root) {
        Err(error) => Some(error.to_string()),
        Ok(kind) if kind == "mongodb" && !config.engine.environment.contains_key("MONGO_URI") => Some(
            "the engine keeps its agents in MongoDB and is not given MONGO_URI; set it, and name it in conductor.pass_environment"
                .to_owned(),
        ),
        Ok(_) => None,
    }
}

impl Toolbox {
    /// Returns why the engine cannot run, as far as its files show; `None` when they show no problem.
    pub async fn engine_problem(&self) -> Option<String> {
        match self.inner.blocking(|config| Ok(problem_of_files(config))).await {
            Ok(problem) => problem,
            Err(error) => Some(error.message().to_owned()),
        }
    }

    /// Starts the engine and returns why that failed, if it did: a real engine that lacks a package reports that only
    /// when it is started. Returns `None` for the bundled engine without starting it.
    pub async fn engine_start_problem(&self) -> Option<String> {
        if self.engine().kind == Kind::Bundled {
            return None;
        }
        match self.inner.run_plainly("--list".to_owned(), Instant::now() + START_TIME).await {
            Ok(finished) if finished.exit != Exit::Code(0) => {
                Some(format!("the engine does not start: {}", last_words(&finished)))
            }
            Ok(_) => None,
            Err(error) => Some(format!("the engine does not start: {}", error.message())),
        }
    }
}
