//! Loading: defaults, file, environment, flags; every mistake is collected before anything is reported.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{
    Config, data_root,
    files::{self, ConfigFile},
    tree, validate, values,
};
use crate::{
    secret::is_secret_name,
    text::{bounded, quoted},
};

/// The prefix with which every variable may be written; such a one wins over the short one.
const PREFIX: &str = "CONDUCTOR_GATEWAY_";

/// Where values come from besides the defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A file that must exist, and is the only one then. If unset, those that exist are read:
    /// `/etc/conductor-gateway/config.yaml`, the same below the user's directory for configuration, `config.yaml` in the
    /// working directory; the later ones win.
    pub file: Option<PathBuf>,
    /// Whether a file in the working directory may start programs and say where keys are sent. False for commands that are
    /// typed in a directory, which may be a stranger's.
    pub obeys_directory: bool,
    /// The content of the file, if it has been read already.
    pub text: Option<String>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// Settings from the command line: a configuration key, such as `agent.base_url`, and its value as text. They override
    /// the file and the environment; of two pairs with the same key, the later one applies.
    pub flags: Vec<(String, String)>,
}

/// A valid configuration, with the origin of each value.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Each value and where it came from.
    pub explained: Explained,
    /// What is to be said of files and values that were not taken.
    pub notes: Vec<String>,
}

/// Each key with its value and where that came from.
pub type Explained = Vec<(String, Value, String)>;

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Mistakes {}

struct Setting {
    path: String,
    value: Value,
    origin: String,
}

/// Loads the configuration: defaults, then files, then the environment, then flags, each overriding the ones before. Blocks on
/// reading the files. What was left out without being a mistake is in [`Loaded::notes`].
///
/// # Errors
/// All mistakes together: files that cannot be read or parsed, unknown keys of files and flags with the most similar known key,
/// values of a wrong type, and values that contradict each other.
pub fn load(sources: &Sources) -> Result<Loaded, Mistakes> {
    let Resolved { config, explained, notes, mistakes } = resolve(sources);
    match config {
        Some(config) if mistakes.0.is_empty() => Ok(Loaded { config, explained, notes }),
        _ => Err(mistakes),
    }
}

/// What sources say, as far as it can be understood.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The values, if all of them have the right types.
    pub config: Option<Config>,
    /// Each value that could be taken, and where it came from.
    pub explained: Explained,
    /// What is to be said of files and values that were not taken.
    pub notes: Vec<String>,
    /// What is wrong.
    pub mistakes: Mistakes,
}

/// Reads every source and explains each value, also where something is wrong with others.
pub fn resolve(sources: &Sources) -> Resolved {
    let mut mistakes = Vec::new();
    // The defaults are written by this program, and have names for keys.
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    let known = tree::paths(&defaults);
    let mut notes = Vec::new();
    let mut settings = from_files(sources, &defaults, &known, (&mut mistakes, &mut notes));
    settings.extend(from_environment(sources, &defaults, &known));
    settings.extend(from_flags(sources, &defaults, &known, &mut mistakes));
    let mut merged = defaults.clone();
    let mut origins: BTreeMap<&str, &str> = BTreeMap::new();
    for setting in &settings {
        // Each value is tried alone, so that one mistake does not hide another.
        let try_alone = |value: &Value| {
            let mut alone = defaults.clone();
            tree::set(&mut alone, &setting.path, value.clone());
            serde_json::from_value::<Config>(alone).map(|_| value.clone())
        };
        // Text for a key whose default is null may be meant as a number.
        let value = try_alone(&setting.value).or_else(|error| match &setting.value {
            Value::String(text) if tree::get(&defaults, &setting.path).is_some_and(Value::is_null) => {
                try_alone(&serde_saphyr::from_str(text).unwrap_or_default()).map_err(|_| error)
            }
            _ => Err(error),
        });
        let value = match value {
            Ok(value) => value,
            Err(error) => {
                let error = in_words(&setting.path, &error, tree::get(&defaults, &setting.path));
                mistakes.push(format!("{} ({}): {error}", setting.path, setting.origin));
                continue;
            }
        };
        tree::set(&mut merged, &setting.path, value);
        origins.insert(&setting.path, &setting.origin);
    }
    let mut config = serde_json::from_value::<Config>(merged.clone());
    let mut places = BTreeMap::new();
    match &mut config {
        Ok(config) => {
            let (filled, said) = data_root::fill(config, &sources.environment);
            notes.extend(said);
            merged = serde_json::to_value(&*config).unwrap_or(merged);
            places = filled;
            mistakes.extend(validate::validate(config));
            mistakes.extend(validate::model(config, &sources.environment));
        }
        Err(error) => mistakes.push(without_value(&error.to_string())),
    }
    let explained = known
        .iter()
        .map(|path| {
            let value = tree::get(&merged, path).cloned().unwrap_or_default();
            let origin =
                places.get(path.as_str()).or_else(|| origins.get(path.as_str())).unwrap_or(&"default");
            (path.clone(), value, (*origin).to_owned())
        })
        .collect();
    Resolved { config: config.ok(), explained, notes, mistakes: Mistakes(mistakes) }
}

/// Describes what is wrong with a value. A value that may be, or contain, a secret is not quoted.
fn in_words(path: &str, error: &serde_json::Error, default: Option<&Value>) -> String {
    let holds_secrets =
        |name: &str| is_secret_name(name) || matches!(name, "headers" | "environment" | "mcp_servers");
    let sentence = error.to_string();
    if path.split('.').any(holds_secrets) {
        return without_value(&sentence);
    }
    // The names of types mean nothing to whoever wrote the value.
    let is_number = ["u8", "u16", "u32", "u64", "usize", "f64"].iter().any(|name| sentence.ends_with(name));
    match sentence.rsplit_once(", expected ") {
        Some((found, _))
            if is_number || sentence.contains("expected a boolean") || sentence.contains("sequence") =>
        {
            format!("{}; expected {}", bounded(found, 200), values::wanted(path, default))
        }
        _ => bounded(&sentence, 300),
    }
}

fn without_value(sentence: &str) -> String {
    match sentence.rsplit_once(", expected ") {
        Some((_, expected)) => format!("is of another type; expected {}", bounded(expected, 200)),
        None => "is not what is expected".to_owned(),
    }
}

fn unknown_key(path: &str, origin: &str, known: &[String]) -> String {
    match tree::nearest(path, known) {
        Some(nearest) => {
            format!("{} ({origin}): there is no such key; did you mean `{nearest}`?", quoted(path))
        }
        None => format!("{} ({origin}): there is no such key; `config show` lists them all", quoted(path)),
    }
}

/// Reads every file, the least important first.
fn from_files(
    sources: &Sources,
    defaults: &Value,
    known: &[String],
    (mistakes, notes): (&mut Vec<String>, &mut Vec<String>),
) -> Vec<Setting> {
    let files = match (&sources.file, &sources.text) {
        (Some(path), _) => vec![ConfigFile { path: path.clone(), is_local: false }],
        (None, Some(_)) => vec![ConfigFile { path: PathBuf::from("text"), is_local: false }],
        (None, None) => {
            let sections: Vec<String> =
                defaults.as_object().map(|sections| sections.keys().cloned().collect()).unwrap_or_default();
            let (files, passed_over) = files::found(&sources.environment, &sections);
            notes.extend(passed_over);
            files
        }
    };
    let mut settings = Vec::new();
    for file in &files {
        let mut set = from_file(&file.path, sources.text.as_deref(), defaults, known, mistakes);
        if file.is_local && !sources.obeys_directory {
            set.retain(|setting| {
                let is_strange = files::STRANGE.contains(&setting.path.as_str());
                let says_something = tree::get(defaults, &setting.path) != Some(&setting.value);
                if is_strange && says_something {
                    notes.push(format!(
                        "{} of ./{} is not taken, because it starts programs or says where keys go, and the file was only found here; \
                         --config {} obeys it",
                        setting.path, file.path.display(), file.path.display()
                    ));
                }
                !is_strange
            });
        }
        settings.extend(set);
    }
    settings
}

fn from_file(
    path: &Path,
    text: Option<&str>,
    defaults: &Value,
    known: &[String],
    mistakes: &mut Vec<String>,
) -> Vec<Setting> {
    let origin = path.display().to_string();
    let text = match text {
        Some(text) => Ok(text.to_owned()),
        None => fs::read_to_string(path).map_err(|error| error.to_string()),
    };
    let parsed = text.and_then(|text| {
        if text.trim().is_empty() {
            return Ok(None);
        }
        serde_saphyr::from_str::<Option<Map<String, Value>>>(&text).map_err(|error| {
            // The first line says what is wrong and where; the following lines quote the file, and with it perhaps a key.
            bounded(error.to_string().lines().next().unwrap_or_default(), 300)
        })
    });
    let fields = match parsed {
        Ok(fields) => fields.unwrap_or_default(),
        Err(error) => {
            mistakes.push(format!("{origin}: {error}"));
            return Vec::new();
        }
    };
    // A dotted key is its path, as `config show` prints it.
    let (dotted, nested): (Map<String, Value>, Map<String, Value>) =
        fields.into_iter().partition(|(name, _)| known.contains(name) && name.contains('.'));
    let (mut set, mut unknown) = (Vec::new(), Vec::new());
    tree::compare(defaults, &nested, "", &mut set, &mut unknown);
    set.extend(dotted);
    mistakes.extend(unknown.iter().map(|path| unknown_key(path, &origin, known)));
    let settings = set.into_iter().map(|(path, value)| {
        let value = values::with_unit(&path, value);
        Setting { path, value, origin: origin.clone() }
    });
    settings.collect()
}

/// Reads the variables: with the prefix, else without. An empty one counts as not set.
fn from_environment(sources: &Sources, defaults: &Value, known: &[String]) -> Vec<Setting> {
    let set = |name: &str| sources.environment.get(name).filter(|value| !value.is_empty());
    known
        .iter()
        .filter_map(|path| {
            let short = tree::variable(path);
            let long = format!("{PREFIX}{short}");
            let (name, text) = match set(&long) {
                Some(text) => (long, text),
                None => (short.clone(), set(&short)?),
            };
            let value = values::parse(path, text, tree::get(defaults, path));
            Some(Setting { path: path.clone(), value, origin: format!("environment {name}") })
        })
        .collect()
}

fn from_flags(
    sources: &Sources,
    defaults: &Value,
    known: &[String],
    mistakes: &mut Vec<String>,
) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (path, text) in &sources.flags {
        if known.contains(path) {
            let value = values::parse(path, text, tree::get(defaults, path));
            settings.push(Setting { path: path.clone(), value, origin: "command line".to_owned() });
        } else {
            mistakes.push(unknown_key(path, "command line", known));
        }
    }
    settings
}

#[cfg(test)]
mod tests;
