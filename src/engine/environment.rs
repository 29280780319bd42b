//! The environment of an engine's process: an allow-list, with UTF-8 enforced.

use std::{collections::BTreeMap, env, path::Path};

/// Variables that every run receives if they are set. None of them carries a secret.
const ALLOWED: &[&str] = &[
    "HOME", "USER", "LOGNAME", "SHELL", "PATH", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_CTYPE", "SSL_CERT_FILE",
];

/// Returns the variables of a run: the allowed ones that are set, those that the configuration passes on, and
/// those that make a Python engine print UTF-8 without buffering.
pub(crate) fn prepare(pass_environment: &[String]) -> BTreeMap<String, String> {
    let mut variables: BTreeMap<String, String> = ALLOWED
        .iter()
        .copied()
        .chain(pass_environment.iter().map(String::as_str))
        .filter_map(|name| Some((name.to_owned(), env::var(name).ok()?)))
        .collect();
    variables.entry("PATH".to_owned()).or_insert_with(|| "/usr/local/bin:/usr/bin:/bin".to_owned());
    for (name, value) in [("PYTHONIOENCODING", "utf-8"), ("PYTHONUTF8", "1"), ("PYTHONUNBUFFERED", "1")] {
        variables.insert(name.to_owned(), value.to_owned());
    }
    let is_utf8 = |locale: &String| locale.to_ascii_lowercase().replace('-', "").contains("utf8");
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| variables.get(name));
    if !locale.is_some_and(is_utf8) {
        variables.insert("LC_ALL".to_owned(), "C.UTF-8".to_owned());
    }
    variables
}

/// Puts the project's virtual environment first on PATH, if there is one, and returns the path of its interpreter.
pub(super) fn use_virtual_environment(
    root: &Path,
    variables: &mut BTreeMap<String, String>,
) -> Option<String> {
    let directory =
        [".venv", "venv"].iter().map(|name| root.join(name)).find(|path| path.join("bin/python").exists())?;
    let bin = directory.join("bin");
    let path = variables.get("PATH").cloned().unwrap_or_default();
    variables.insert("PATH".to_owned(), format!("{}:{path}", bin.display()));
    variables.insert("VIRTUAL_ENV".to_owned(), directory.display().to_string());
    Some(bin.join("python").display().to_string())
}
