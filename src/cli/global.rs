//! The arguments that every command takes, and the configuration that they choose.

use std::path::PathBuf;

use clap::Args;

use super::{print, terminal::has_colour};
use crate::{
    config::{Config, Loaded, Mistakes, Resolved, Sources, load, resolve},
    error::{Error, Reason, Result},
    journal, logging,
};

#[derive(Clone, Debug, Args)]
pub(super) struct GlobalArguments {
    /// Read this configuration file, and no other; left out, those of the directory, the user and the system
    #[arg(long, global = true, value_name = "FILE", help_heading = "Configuration")]
    pub(super) config: Option<PathBuf>,
    /// Set a configuration key, such as server.port=5007; `config show` lists them all
    #[arg(long, global = true, value_name = "KEY=VALUE", help_heading = "Configuration")]
    pub(super) set: Vec<String>,
}

/// Returns whether a shell takes a byte as it is.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"./:=_-@%+,".contains(&byte)
}

impl GlobalArguments {
    /// Returns the flags with which another command reaches the same gateway, each after a space. Settings of other sections say
    /// nothing of its address, and may be secrets.
    pub(super) fn reaching(&self, server: Option<&str>) -> String {
        let flag = |(name, value): (&str, String)| match value.bytes().all(is_plain) {
            true => format!(" {name} {value}"),
            false => format!(" {name} '{}'", value.replace('\'', "'\\''")),
        };
        match server {
            Some(server) => flag(("--server", server.to_owned())),
            None => {
                let config = self.config.iter().map(|path| ("--config", path.display().to_string()));
                let address = self.set.iter().filter(|set| set.starts_with("server."));
                config.chain(address.map(|set| ("--set", set.clone()))).map(flag).collect()
            }
        }
    }

    /// Loads the configuration with additional settings from the command's own flags, for a command that obeys the
    /// directory in which it is typed. What was passed over is said on standard error.
    ///
    /// # Errors
    /// All mistakes at once.
    pub(super) fn load(&self, further: &[(&str, Option<String>)]) -> Result<Loaded> {
        let loaded = self.load_from(true, further)?;
        say(&loaded.notes);
        Ok(loaded)
    }

    /// Loads the configuration as [`Self::load_for_one_process`] does, without saying what was passed over.
    ///
    /// # Errors
    /// All mistakes at once.
    pub(super) fn load_quietly(&self) -> Result<Loaded> {
        self.load_from(false, &[])
    }

    /// Loads the configuration of a service, which says in its log what was passed over.
    ///
    /// # Errors
    /// All mistakes at once.
    pub(super) fn load_for_service(&self, further: &[(&str, Option<String>)]) -> Result<Loaded> {
        self.load_from(true, further)
    }

    fn load_from(&self, obeys_directory: bool, further: &[(&str, Option<String>)]) -> Result<Loaded> {
        load(&self.sources(obeys_directory, further)?).map_err(|mistakes| not_valid(&mistakes))
    }

    /// Returns what every source says, also where something is wrong with it.
    ///
    /// # Errors
    /// When `--set` is not written as `KEY=VALUE`.
    pub(super) fn resolve(&self) -> Result<Resolved> {
        Ok(resolve(&self.sources(true, &[])?))
    }

    fn sources(&self, obeys_directory: bool, further: &[(&str, Option<String>)]) -> Result<Sources> {
        let mut flags = Vec::new();
        for setting in &self.set {
            let (key, value) = setting.split_once('=').ok_or_else(|| {
                Error::new(Reason::InvalidArgument, format!("--set {setting}: write it as KEY=VALUE"))
            })?;
            flags.push((key.to_owned(), value.to_owned()));
        }
        let given = further.iter().filter_map(|(key, value)| Some(((*key).to_owned(), value.clone()?)));
        flags.extend(given);
        Ok(Sources {
            file: self.config.clone(),
            obeys_directory,
            text: None,
            environment: std::env::vars().collect(),
            flags,
        })
    }
}

/// Returns the error that lists every mistake.
pub(super) fn not_valid(mistakes: &Mistakes) -> Error {
    Error::new(Reason::InvalidArgument, format!("the configuration is not valid:\n{mistakes}"))
}

impl GlobalArguments {
    /// Loads the configuration of a process whose jobs end with it, and starts its log. The store is in memory, because
    /// a running gateway may hold the one on disk; only warnings are logged, unless the configuration says otherwise. A file that
    /// was only found in the working directory starts no program and says not where keys are sent.
    ///
    /// # Errors
    /// All mistakes at once.
    pub(super) fn load_for_one_process(&self) -> Result<Config> {
        let Loaded { mut config, notes, .. } = self.load_from(false, &[])?;
        say(&notes);
        config.storage.kind = journal::StoreKind::Memory;
        if config.telemetry == logging::LoggingConfig::default() {
            config.telemetry.log = "warn".into();
        }
        logging::start(&config.telemetry, has_colour())
            .map_err(|message| Error::new(Reason::InvalidArgument, message))?;
        Ok(config)
    }
}

fn say(notes: &[String]) {
    for note in notes {
        print::to_stderr(&format!("note: {note}\n"));
    }
}
