//! Loading: defaults, file, environment, flags; every mistake is collected before anything is reported.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{Config, tree, validate};
use crate::{
    secret::is_secret_name,
    text::{bounded, quoted},
};

/// The file that is read when no other is named.
const DEFAULT_FILE: &str = "config.yaml";

/// Where values come from besides the defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A file that must exist; if unset, `config.yaml` in the working directory is read if it exists.
    pub file: Option<PathBuf>,
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

/// Loads the configuration.
///
/// # Errors
/// All mistakes together: unknown keys with the nearest name, values of a wrong type, values that contradict each other.
pub fn load(sources: &Sources) -> Result<Loaded, Mistakes> {
    let mut mistakes = Vec::new();
    let defaults =
        serde_json::to_value(Config::default()).map_err(|error| Mistakes(vec![error.to_string()]))?;
    let known = tree::paths(&defaults);
    let mut settings = from_file(sources, &defaults, &known, &mut mistakes);
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
                let error = in_words(&setting.path, &error);
                mistakes.push(format!("{} ({}): {error}", setting.path, setting.origin));
                continue;
            }
        };
        tree::set(&mut merged, &setting.path, value);
        origins.insert(&setting.path, &setting.origin);
    }
    let config = match serde_json::from_value::<Config>(merged.clone()) {
        Ok(config) => config,
        Err(error) => {
            mistakes.push(without_value(&error.to_string()));
            return Err(Mistakes(mistakes));
        }
    };
    mistakes.extend(validate::validate(&config));
    mistakes.extend(validate::model(&config, &sources.environment));
    if !mistakes.is_empty() {
        return Err(Mistakes(mistakes));
    }
    let explained = known
        .iter()
        .map(|path| {
            let value = tree::get(&merged, path).cloned().unwrap_or_default();
            (path.clone(), value, (*origins.get(path.as_str()).unwrap_or(&"default")).to_owned())
        })
        .collect();
    Ok(Loaded { config, explained })
}

/// Describes what is wrong with a value. A value that may be, or contain, a secret is not quoted.
fn in_words(path: &str, error: &serde_json::Error) -> String {
    let holds_secrets =
        |name: &str| is_secret_name(name) || matches!(name, "headers" | "environment" | "mcp_servers");
    let sentence = error.to_string();
    if path.split('.').any(holds_secrets) { without_value(&sentence) } else { bounded(&sentence, 300) }
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
        None => format!("{} ({origin}): there is no such key; config.yaml lists them all", quoted(path)),
    }
}

fn from_file(
    sources: &Sources,
    defaults: &Value,
    known: &[String],
    mistakes: &mut Vec<String>,
) -> Vec<Setting> {
    let path = match &sources.file {
        Some(path) => path.as_path(),
        None if sources.text.is_some() => Path::new("text"),
        None if Path::new(DEFAULT_FILE).exists() => Path::new(DEFAULT_FILE),
        None => return Vec::new(),
    };
    let origin = path.display().to_string();
    let text = match &sources.text {
        Some(text) => Ok(text.clone()),
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
    let (mut set, mut unknown) = (Vec::new(), Vec::new());
    tree::compare(defaults, &fields, "", &mut set, &mut unknown);
    mistakes.extend(unknown.iter().map(|path| unknown_key(path, &origin, known)));
    set.into_iter().map(|(path, value)| Setting { path, value, origin: origin.clone() }).collect()
}

fn from_environment(sources: &Sources, defaults: &Value, known: &[String]) -> Vec<Setting> {
    known
        .iter()
        .filter_map(|path| {
            let name = tree::variable(path);
            let text = sources.environment.get(&name)?;
            let value = parse(text, tree::get(defaults, path));
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
            let value = parse(text, tree::get(defaults, path));
            settings.push(Setting { path: path.clone(), value, origin: "command line".to_owned() });
        } else {
            mistakes.push(unknown_key(path, "command line", known));
        }
    }
    settings
}

/// Converts text to a value: unchanged if the default is text, as YAML otherwise (lists in flow form).
fn parse(text: &str, default: Option<&Value>) -> Value {
    match default {
        Some(Value::String(_)) => Value::String(text.to_owned()),
        // "null" removes a value that the file sets.
        Some(Value::Null) if text.trim() == "null" => Value::Null,
        Some(Value::Null) => Value::String(text.to_owned()),
        _ => serde_saphyr::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(environment: &[(&str, &str)], file: Option<&str>) -> Result<Loaded, Mistakes> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.yaml");
        fs::write(&path, file.unwrap_or_default()).unwrap();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        load(&Sources { file: Some(path), text: None, environment, flags: Vec::new() })
    }

    #[test]
    fn the_environment_beats_the_file_and_says_so() {
        let loaded = with(
            &[
                ("PORT", "7000"),
                ("STORAGE_PATH", "/x"),
                ("CORS_ORIGINS", "[https://a.example]"),
                ("CONDUCTOR_TIMEOUT", "5"),
            ],
            Some("server:\n  port: 1\n  host: localhost\n"),
        )
        .unwrap();
        assert_eq!((loaded.config.server.port, loaded.config.server.host.as_str()), (7000, "localhost"));
        assert_eq!(loaded.config.storage.path, Path::new("/x"));
        assert_eq!(
            (loaded.config.server.cors_origins.len(), loaded.config.conductor.timeout_seconds),
            (1, 5)
        );
        let origin = |path: &str| loaded.explained.iter().find(|(p, ..)| p == path).unwrap().2.clone();
        assert_eq!(origin("server.port"), "environment PORT");
        assert_eq!(origin("jobs.max_running"), "default");
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let Mistakes(mistakes) = with(
            &[("JOBS_MAX_RUNNING", "many")],
            Some("server:\n  prot: 1\n  host: 0.0.0.0\nstorage:\n  kind: floppy\nnonsense: 1\n"),
        )
        .unwrap_err();
        let all = mistakes.join("\n");
        for part in [
            "server.prot", "`server.port`", "jobs.max_running", "storage.kind", "nonsense",
            "allow_anonymous_remote",
        ] {
            assert!(all.contains(part), "{part} is missing in {all}");
        }
    }

    #[test]
    fn secrets_are_not_quoted_when_their_values_are_wrong() {
        for (environment, file) in [
            (("AGENT_HEADERS", "canary"), ""),
            (("AGENT_HEADERS", "{a: {b: canary}}"), ""),
            (("AGENT_MCP_SERVERS", "{a: {url: 'http://x', headers: canary}}"), ""),
            (("X", ""), "agent:\n  headers: [canary]\n"),
            (("X", ""), "agent:\n  api_key: {secret: canary}\n"),
            (("X", ""), "agent:\n  api_key: \"canary\n  model: x\n"),
            (("X", ""), "agent:\n  base_url: 'http://u:canary@h/v1'\n  model: m\n"),
        ] {
            let Mistakes(mistakes) = with(&[environment], Some(file)).unwrap_err();
            let all = mistakes.join("\n");
            assert!(!all.contains("canary") && !all.is_empty(), "{all}");
        }
    }

    #[test]
    fn the_shipped_file_holds_every_key_with_its_default() {
        let loaded = load(&Sources { file: Some("config.yaml".into()), ..Sources::default() }).unwrap();
        assert_eq!(loaded.config, Config::default());
        let silent: Vec<_> = loaded.explained.iter().filter(|(_, _, origin)| origin == "default").collect();
        assert!(silent.is_empty(), "config.yaml does not list {silent:?}");
    }
}
