//! The licences, names and sources of everything that is linked or built with, against `deny.toml`.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;

/// The texts of a list in `deny.toml`.
fn list(file: &str, key: &str) -> BTreeSet<String> {
    let (_, behind) =
        file.split_once(&format!("\n{key} = [")).unwrap_or_else(|| panic!("deny.toml has no {key}"));
    let (list, _) = behind.split_once(']').unwrap();
    // A comment may hold quotes too.
    let lines = list.lines().map(|line| line.split('#').next().unwrap());
    lines.flat_map(|line| line.split('"').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// Whether a licence expression (SPDX) is met by what is allowed. `AND` binds closer than `OR`; `/` is an older `OR`.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let plain = expression.replace('/', " OR ");
    let (mut depth, mut top) = (0, vec![String::new()]);
    let mut kinds = Vec::new();
    for word in plain.replace('(', " ( ").replace(')', " ) ").split_whitespace() {
        match word {
            "(" => depth += 1,
            ")" => depth -= 1,
            "AND" | "OR" if depth == 0 => {
                kinds.push(word.to_owned());
                top.push(String::new());
                continue;
            }
            _ => {}
        }
        let last = top.last_mut().unwrap();
        last.push_str(if last.is_empty() { "" } else { " " });
        last.push_str(word);
    }
    if top.len() == 1 {
        let inner = top[0].strip_prefix("( ").and_then(|inner| inner.strip_suffix(" )"));
        return match inner {
            Some(inner) => is_met(inner, allowed),
            None => allowed.contains(top[0].split(" WITH ").next().unwrap()),
        };
    }
    // Split at the loosest word.
    let at = kinds.iter().position(|kind| kind == "OR").unwrap_or(0);
    let join = |parts: &[String], kinds: &[String]| {
        parts[1..]
            .iter()
            .zip(kinds)
            .fold(parts[0].clone(), |all, (part, kind)| format!("{all} {kind} {part}"))
    };
    let (left, right) = (join(&top[..=at], &kinds[..at]), join(&top[at + 1..], &kinds[at + 1..]));
    match kinds[at].as_str() {
        "OR" => is_met(&left, allowed) || is_met(&right, allowed),
        _ => is_met(&left, allowed) && is_met(&right, allowed),
    }
}

#[test]
fn expressions_are_read_as_spdx_has_them() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "ISC".to_owned()]);
    for met in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/GPL-3.0",
        "(GPL-3.0 OR MIT) AND ISC",
        "MIT AND ISC",
        "ISC WITH x OR GPL-3.0",
    ] {
        assert!(is_met(met, &allowed), "{met}");
    }
    for unmet in ["GPL-3.0", "MIT AND GPL-3.0", "GPL-3.0 OR MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", ""]
    {
        assert!(!is_met(unmet, &allowed), "{unmet}");
    }
}

/// The platform that this was built on, as `rustc` calls it.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

#[test]
fn licences_names_and_sources() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = fs::read_to_string(root.join("deny.toml")).unwrap();
    let (licences, banned) = (list(&file, "allow"), list(&file, "deny"));
    let registries = list(&file, "allow-registry");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--locked", "--offline", "--format-version", "1"]).current_dir(root);
    // What other platforms need is not built here, and need not be on this machine.
    cargo.args(["--filter-platform", &host()]);
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100, "everything is listed");
    for package in packages.iter().filter(|package| !package["source"].is_null()) {
        let name = package["name"].as_str().unwrap();
        let (licence, source) =
            (package["license"].as_str().unwrap_or_default(), package["source"].as_str().unwrap());
        assert!(is_met(licence, &licences), "{name}: the licence `{licence}` is not allowed");
        assert!(!banned.contains(name), "{name} is banned");
        let registry = source.strip_prefix("registry+").unwrap_or_default();
        assert!(registries.contains(registry), "{name} comes from {source}");
    }
}
