//! Where data is kept: one root for the store, the bundled engine's workspace and backups.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::Config;

/// The root in the working directory, which is used where it is.
const LOCAL: &str = "conductor-data";
/// The name of the root below the user's directory for data.
const NAME: &str = "conductor-gateway";

/// Sets the paths that nothing sets. Returns which were set, each with where its value comes from, and what is to be said.
pub(super) fn fill(
    config: &mut Config,
    environment: &BTreeMap<String, String>,
) -> (BTreeMap<&'static str, &'static str>, Vec<String>) {
    let (mut origins, mut notes) = (BTreeMap::new(), Vec::new());
    if config.storage.path.as_os_str().is_empty() {
        let (path, origin) = root(environment, &mut notes);
        config.storage.path = path;
        origins.insert("storage.path", origin);
    }
    let root = config.storage.path.clone();
    // An earlier build kept them in the working directory wherever the store was.
    let kept = |name: &str| {
        let earlier = Path::new(LOCAL).join(name);
        if earlier.is_dir() && !root.join(name).exists() { earlier } else { root.join(name) }
    };
    if config.conductor.workspace.as_os_str().is_empty() {
        config.conductor.workspace = kept("engine");
        origins.insert("conductor.workspace", "below storage.path");
    }
    if config.conductor.backup_roots.is_empty() {
        config.conductor.backup_roots = vec![kept("backups")];
        origins.insert("conductor.backup_roots", "below storage.path");
    }
    (origins, notes)
}

/// Returns the root: the one in the working directory if it is this user's, else that of the XDG base directories.
fn root(environment: &BTreeMap<String, String>, notes: &mut Vec<String>) -> (PathBuf, &'static str) {
    let user = rustix::process::geteuid().as_raw();
    match fs::symlink_metadata(LOCAL) {
        Ok(found) if found.is_dir() && found.uid() == user => {
            notes.push(format!("data is kept in ./{LOCAL}, because it is there already"));
            return (LOCAL.into(), "the working directory, where it is already");
        }
        Ok(_) => notes.push(format!("./{LOCAL} is passed over: it is no directory of this user's")),
        Err(_) => {}
    }
    let set = |name: &str| environment.get(name).filter(|value| value.starts_with('/')).map(PathBuf::from);
    match (set("XDG_DATA_HOME"), set("HOME")) {
        (Some(data), _) => (data.join(NAME), "XDG_DATA_HOME"),
        (None, Some(home)) => (home.join(".local/share").join(NAME), "HOME"),
        (None, None) => (LOCAL.into(), "the working directory, because there is no HOME"),
    }
}
