//! The arguments that every command takes, and the configuration that they choose.

use std::path::PathBuf;

use clap::Args;

use crate::{
    config::{Config, Loaded, Sources, load},
    error::{Error, Reason, Result},
    journal, logging,
};

#[derive(Clone, Debug, Args)]
pub(super) struct GlobalArguments {
    /// Read this configuration file instead of ./config.yaml
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Set a configuration key, such as server.port=5007
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
}

impl GlobalArguments {
    /// Loads the configuration with additional settings from the command's own flags.
    ///
    /// # Errors
    /// All mistakes at once.
    pub(super) fn load(&self, further: &[(&str, Option<String>)]) -> Result<Loaded> {
        let mut flags = Vec::new();
        for setting in &self.set {
            let (key, value) = setting.split_once('=').ok_or_else(|| {
                Error::new(Reason::InvalidArgument, format!("--set {setting}: write it as KEY=VALUE"))
            })?;
            flags.push((key.to_owned(), value.to_owned()));
        }
        let given = further.iter().filter_map(|(key, value)| Some(((*key).to_owned(), value.clone()?)));
        flags.extend(given);
        let sources =
            Sources { file: self.config.clone(), text: None, environment: std::env::vars().collect(), flags };
        load(&sources).map_err(|mistakes| {
            Error::new(Reason::InvalidArgument, format!("the configuration is not valid:\n{mistakes}"))
        })
    }
}

impl GlobalArguments {
    /// Loads the configuration of a process whose jobs end with it, and starts its log. The store is in memory, because
    /// a running gateway may hold the one on disk; only warnings are logged, unless the configuration says otherwise.
    ///
    /// # Errors
    /// All mistakes at once.
    pub(super) fn load_for_one_process(&self) -> Result<Config> {
        let mut config = self.load(&[])?.config;
        config.storage.kind = journal::StoreKind::Memory;
        if config.telemetry == logging::Config::default() {
            config.telemetry.log = "warn".into();
        }
        logging::start(&config.telemetry).map_err(|message| Error::new(Reason::InvalidArgument, message))?;
        Ok(config)
    }
}
