//! Which configuration files are read: one that is named, or the system's, the user's and the directory's own.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::text::shown;

/// The name of the file in the working directory.
const LOCAL_NAME: &str = "config.yaml";
/// The directory of the user's and the system's file.
const DIRECTORY: &str = "conductor-gateway";

/// A file that is read.
#[derive(Clone, Debug)]
pub(super) struct ConfigFile {
    /// Its path, as it is shown.
    pub(super) path: PathBuf,
    /// Whether it was found in the working directory, which may be a stranger's.
    pub(super) is_local: bool,
}

/// Returns the files that exist, the least important first, and what is to be said of those that are passed over.
pub(super) fn found(
    environment: &BTreeMap<String, String>,
    sections: &[String],
) -> (Vec<ConfigFile>, Vec<String>) {
    let (mut files, mut notes) = (Vec::new(), Vec::new());
    let set = |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
    let places = [Some(Path::new("/etc").join(DIRECTORY)), user.map(|root| root.join(DIRECTORY))];
    for place in places.into_iter().flatten() {
        let path = place.join(LOCAL_NAME);
        if path.is_file() {
            files.push(ConfigFile { path, is_local: false });
        }
    }
    let local = PathBuf::from(LOCAL_NAME);
    if local.exists() {
        match passed_over(&local, sections) {
            None => files.push(ConfigFile { path: local, is_local: true }),
            Some(why) => {
                notes.push(format!("./{LOCAL_NAME} is passed over: {why}; --config {LOCAL_NAME} reads it"))
            }
        }
    }
    (files, notes)
}

/// Returns why a file of the working directory is not read, if it is not.
fn passed_over(path: &Path, sections: &[String]) -> Option<String> {
    let Ok(file) = fs::metadata(path) else { return Some("it cannot be looked at".to_owned()) };
    if !file.is_file() {
        return Some("it is no file".to_owned());
    }
    let directory = fs::metadata(".").ok()?;
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let is_others = |metadata: &fs::Metadata| metadata.uid() != user && metadata.uid() != 0;
    // A group that is the user's own is nobody else's.
    let is_open = |metadata: &fs::Metadata| {
        let mode = metadata.mode();
        mode & 0o002 != 0 || (mode & 0o020 != 0 && metadata.gid() != group)
    };
    if is_others(&file) || is_others(&directory) {
        return Some("it belongs to another user".to_owned());
    }
    // Root may be careless with its own files; whoever runs as root obeys nobody else's directory.
    if is_open(&file) || is_open(&directory) {
        return Some("others can write it, or its directory".to_owned());
    }
    let text = fs::read_to_string(path).ok()?;
    if text.trim().is_empty() || has_section(&text, sections) {
        return None;
    }
    let names: Vec<String> = top_level(&text).take(3).map(|name| format!("`{}`", shown(&name))).collect();
    let has = if names.is_empty() { String::new() } else { format!(" (it has {})", names.join(", ")) };
    Some(format!("it has none of this gateway's sections{has}, so that it is another program's"))
}

/// Returns the names at the top level of a YAML document, also of one that cannot be parsed.
fn top_level(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().filter_map(|line| {
        let (name, _) = line.split_once(':')?;
        let name = name.trim_matches(['"', '\'']);
        let is_name = !name.is_empty() && !name.starts_with([' ', '\t', '#', '-', '{']);
        is_name.then(|| name.chars().take(60).collect())
    })
}

/// Returns whether a document has one of the sections, or a comment is all that it has.
fn has_section(text: &str, sections: &[String]) -> bool {
    let mut names = top_level(text).peekable();
    let is_comment = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    let is_ours = |name: &str| {
        let section = name.split('.').next().unwrap_or_default();
        sections.iter().any(|known| known == section)
    };
    is_comment
        || names.any(|name| is_ours(&name))
        || (text.trim_start().starts_with('{')
            && sections.iter().any(|section| text.contains(section.as_str())))
}

/// The keys that start programs or say where keys are sent. A file that was found in a directory is not obeyed in them by a
/// command that somebody types there.
pub(super) const STRANGE: &[&str] = &[
    "conductor.command", "conductor.project_path", "agent.base_url", "agent.mcp_servers",
    "agent.api_key_file",
];
