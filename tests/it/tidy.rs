//! The house rules that a compiler does not hold: ranks, sizes, headers, names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::imports;

/// Rooms and their ranks; docs/architecture.md explains them. A room imports only rooms of a lower rank.
const RANKS: &[(&str, u8)] = &[
    ("pb", 0),
    ("ambient", 0),
    ("descriptors", 0),
    ("error", 0),
    ("task", 0),
    ("principal", 0),
    ("quota", 0),
    ("secret", 0),
    ("sync", 0),
    ("telemetry", 0),
    ("text", 0),
    ("time_limit", 0),
    ("lenient_json", 0),
    ("json_rpc", 0),
    ("files", 0),
    ("loopback", 0),
    ("journal", 1),
    ("llm", 1),
    ("engine", 1),
    ("conversation", 2),
    ("tool", 3),
    ("mcp", 4),
    ("agent", 5),
    ("job", 6),
    ("edge", 7),
    ("config", 8),
    ("logging", 8),
    ("client", 9),
    ("operators", 9),
    ("app", 10),
    ("cli", 10),
    ("main", 10),
    ("lib", 10),
    ("simulation", 10),
    ("properties", 10),
];
/// Imports beyond the ranks, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("config", "logging", "the log's section is composed like any other"),
    ("cli", "app", "the command line starts the composition root"),
    ("cli", "bundled", "the bundled engine is started here as a program of its own"),
    ("bundled", "engine", "only engine/workspace.rs: the layout that both engines share"),
    ("bundled", "pb", "the timestamp"),
    ("bundled", "llm", "its agents may have a model"),
];
/// No file is longer; the sizes of all together are held by their own test.
const MAX_LINES: usize = 450;

pub fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn source() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    rust_files(&root.join("src"))
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root.join("src")).unwrap().display().to_string();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn room(name: &str) -> &str {
    name.split('/').next().unwrap().trim_end_matches(".rs")
}

const DOORS: &[&str] = &["grpc", "http", "mcp"];

#[test]
fn rooms_import_lower_ranks_only() {
    let ranks: BTreeMap<&str, u8> = RANKS.iter().copied().collect();
    let imports = imports::read();
    let mut wrong = Vec::new();
    for (module, file) in &imports.files {
        let Some(from) = module.first().map(String::as_str) else { continue };
        // A door takes what the job room hands on, so that what it writes counts; else what holds the thing that is used.
        let paths: BTreeSet<&Vec<String>> = match from {
            "edge" => imports.written[module].iter().collect(),
            _ => imports.written[module].iter().chain(&imports.uses[module]).collect(),
        };
        for path in paths {
            let Some(to) = path.first().map(String::as_str) else { continue };
            if to == from || !(ranks.contains_key(to) || to == "bundled") {
                continue;
            }
            let is_excepted = EXCEPTIONS.iter().any(|(a, b, _)| *a == from && *b == to);
            let is_allowed = match (ranks.get(from), ranks.get(to)) {
                // A door may use the job room and rank 0, and nothing between.
                (Some(7), Some(rank)) => *rank == 6 || *rank == 0,
                (Some(a), Some(b)) => b < a || (*a == 0 && *b == 0),
                // The bundled engine stands outside: rank 0 only.
                (None, Some(rank)) => *rank == 0,
                _ => false,
            };
            if !is_allowed && !is_excepted {
                wrong.push(format!("{file} imports {}", path.join("::")));
            }
        }
        let own = module.get(1).map(String::as_str).filter(|own| from == "edge" && DOORS.contains(own));
        for path in imports.written[module].iter().filter(|path| own.is_some() && path[0] == "edge") {
            let other = path.get(1).map(String::as_str).filter(|other| DOORS.contains(other));
            if other.is_some() && other != own {
                wrong.push(format!("{file} imports its sibling {}", path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_bundled_engine_shares_the_layout_only() {
    for (name, text) in source().iter().filter(|(name, _)| name.starts_with("bundled/")) {
        for (at, _) in text.match_indices("engine::") {
            assert!(text[at..].starts_with("engine::workspace"), "{name} imports more of the engine room");
        }
    }
}

#[test]
fn files_are_small_and_say_what_they_are() {
    for (name, text) in source() {
        let lines = text.lines().count();
        assert!(lines <= MAX_LINES, "{name} has {lines} lines");
        assert!(text.starts_with("//!"), "{name} does not begin with what it is");
        let stem = Path::new(&name).file_stem().unwrap().to_str().unwrap();
        assert!(!["util", "utils", "common", "helpers", "misc"].contains(&stem), "{name} says nothing");
        if stem == "mod" {
            assert!(
                text.contains("*Lives here:*") || name.matches('/').count() > 1,
                "{name} does not say what lives there"
            );
        }
    }
}

/// Others can write what a tool, a run and the bundled engine read and write: a link or a pipe in the way of a plain call
/// leads out of the workspace, or holds the thread. The room `files` opens beneath a root and looks before it opens.
#[test]
fn files_of_others_go_through_the_room_for_files() {
    const PLAIN: [&str; 6] =
        ["fs::read(", "fs::read_to_string(", "File::open(", "fs::copy(", "OpenOptions", "fs::write("];
    for (name, text) in source() {
        // The tree of processes is read from the kernel's own files.
        if !["tool", "engine", "bundled"].contains(&room(&name))
            || name == "engine/tree.rs"
            || name.ends_with("/tests.rs")
        {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap();
        for plain in PLAIN {
            assert!(!code.contains(plain), "{name} calls {plain} on a path that others can write");
        }
    }
}

#[test]
fn there_is_one_event_model() {
    for (name, text) in source().iter().filter(|(name, _)| !name.starts_with("pb/")) {
        for line in text.lines().map(str::trim_start) {
            let declared = line.trim_start_matches("pub ").trim_start_matches("pub(super) ");
            let is_type = declared.starts_with("struct ") || declared.starts_with("enum ");
            let type_name = declared.split([' ', '<', '(', '{', ';']).nth(1).unwrap_or_default();
            assert!(!(is_type && type_name.ends_with("Event")), "{name} declares {type_name}");
        }
    }
}

#[test]
fn every_reason_and_key_is_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let errors = fs::read_to_string(root.join("docs/errors.md")).unwrap();
    for reason in conductor_gateway::error::Reason::ALL {
        let heading = format!("### {}\n", reason.name());
        let section = errors.split_once(&heading).map(|(_, rest)| rest.split("\n### ").next().unwrap());
        let section = section.unwrap_or_else(|| panic!("docs/errors.md does not explain {}", reason.name()));
        let codes = reason.codes();
        let retry = if codes.is_retryable { ", may be retried." } else { "." };
        let codes = format!("HTTP {}, exit status {}{retry}", codes.http, codes.exit);
        assert!(section.contains(&codes), "{}: docs/errors.md does not say {codes:?}", reason.name());
    }
    let protocol = fs::read_to_string(root.join("docs/protocol.md")).unwrap();
    let set = prost_types::FileDescriptorSet::decode(conductor_gateway::pb::DESCRIPTORS).unwrap();
    use prost::Message;
    let messages = set.file.iter().flat_map(|file| &file.message_type);
    for arm in messages.filter(|message| message.name() == "JobEvent").flat_map(|message| &message.field) {
        if arm.oneof_index.is_some() {
            assert!(
                protocol.contains(&format!("`{}`", arm.name())),
                "docs/protocol.md does not explain {}",
                arm.name()
            );
        }
    }
}

#[test]
fn no_circle_within_a_room() {
    let imports = imports::read();
    assert!(imports.renamed_crate.is_empty(), "{:?} give the crate another name", imports.renamed_crate);
    let circles = imports::circles(&imports.uses);
    for circle in &circles {
        eprintln!("--");
        for module in circle {
            let to: Vec<String> = imports.uses[module].intersection(circle).map(|to| to.join("::")).collect();
            eprintln!("{} -> {}", module.join("::"), to.join(", "));
        }
    }
    assert!(circles.is_empty(), "{} circles", circles.len());
}

#[test]
fn most_files_are_read_at_a_glance() {
    let mut lines: Vec<usize> = source().iter().map(|(_, text)| text.lines().count()).collect();
    lines.sort_unstable();
    let (median, short) = (lines[lines.len() / 2], lines.iter().filter(|lines| **lines < 350).count());
    assert!(median <= 125, "the median of the files' lines is {median}");
    assert!(short * 100 >= lines.len() * 95, "{short} of {} files are below 350 lines", lines.len());
}

#[test]
fn public_comments_are_sentences() {
    // What clap prints as help has no full stop.
    let is_help = |name: &str| name.starts_with("cli/") || name == "bundled/arguments.rs";
    for (name, text) in source().into_iter().filter(|(name, _)| !is_help(name)) {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (number, pair) in lines.windows(2).enumerate() {
            // The last line of a comment before a public item.
            let is_last = pair[0].starts_with("/// ") && !pair[1].starts_with("///");
            let is_public =
                pair[1].starts_with("pub ") || pair[1].starts_with("#[") || pair[1].starts_with("pub(");
            let is_end = pair[0].ends_with(['.', ':', '`', '|']);
            assert!(!(is_last && is_public) || is_end, "{name}:{}: {}", number + 1, pair[0]);
        }
    }
}

/// What a page tells somebody to touch is there, and so are the tests that it names.
#[test]
fn how_tos_name_what_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = 0;
    for entry in fs::read_dir(root.join("docs/how-to")).unwrap().map(Result::unwrap) {
        let (name, text) = (entry.file_name(), fs::read_to_string(entry.path()).unwrap());
        pages += 1;
        for quoted in text.split('`').skip(1).step_by(2).filter(|quoted| !quoted.contains(['<', ' '])) {
            let is_path = ["src/", "tests/", "docs/", "proto/", "fuzz/", "benches/"]
                .iter()
                .any(|at| quoted.starts_with(at));
            assert!(!is_path || root.join(quoted).exists(), "{name:?} names {quoted}");
            if let Some(module) = quoted.strip_suffix("::") {
                assert!(
                    root.join(format!("tests/it/{module}.rs")).exists(),
                    "{name:?} names the tests {quoted}"
                );
            }
        }
    }
    assert_eq!(pages, 8, "a page for each thing that is added, and their list");
}

/// What a page says stands in a file stands there, and any other name of the code is one somewhere.
#[test]
fn how_tos_name_what_is_where_they_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Not `tests` itself, where the parts of others are installed, and no build directories.
    let directories = [
        "src", "tests/it", "tests/chaos", "tests/clients", "tests/engines", "proto", "benches/ratios",
        "benches/stores/src", "fuzz/fuzz_targets",
    ];
    let all: String = directories
        .iter()
        .flat_map(|directory| walkdir(&root.join(directory)))
        .chain(
            ["Cargo.toml", "config.yaml", "docs/errors.md", "docs/configuration.md"]
                .map(|file| root.join(file)),
        )
        .filter_map(|file| fs::read_to_string(file).ok())
        .collect();
    let places =
        regex::Regex::new(r"((?:`[\w:]+`(?:, | and )?)+) (?:in|of) (?:the )?`([\w./-]+\.\w+)`").unwrap();
    let names = regex::Regex::new(r"`([\w:]+)`").unwrap();
    let mut checked = 0;
    for entry in fs::read_dir(root.join("docs/how-to")).unwrap().map(Result::unwrap) {
        let (page, text) = (entry.file_name(), fs::read_to_string(entry.path()).unwrap());
        // A sentence may be broken anywhere.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for found in places.captures_iter(&text) {
            let within =
                [&found[2], &format!("src/{}", &found[2])].map(|path| fs::read_to_string(root.join(path)));
            let within = within.into_iter().flatten().next();
            let within = within.unwrap_or_else(|| panic!("{page:?} names the file {}", &found[2]));
            for name in names.captures_iter(&found[1]) {
                let last = name[1].rsplit("::").find(|part| !part.is_empty()).unwrap();
                assert!(within.contains(last), "{page:?}: {} is not in {}", &name[1], &found[2]);
                checked += 1;
            }
        }
        for name in names.captures_iter(&text).map(|name| name[1].to_owned()) {
            let is_code =
                name.contains("::") || name.contains('_') || name.chars().skip(1).any(char::is_uppercase);
            for part in name.split("::").filter(|part| is_code && !part.is_empty() && *part != "NAME") {
                assert!(all.contains(part), "{page:?} names {name}, which is nowhere");
                checked += 1;
            }
        }
    }
    assert!(checked > 80, "{checked} names");
}

/// All files below a directory.
fn walkdir(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walkdir(&path) } else { vec![path] }).collect()
}

/// Pages that say how many tools there are say the same.
#[test]
fn pages_agree_on_the_number_of_tools() {
    let own = conductor_gateway::tool::ToolName::ALL.len();
    let words = ["twelve", "thirteen", "fourteen", "fifteen"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // An MCP client has one more, which answers a session.
    for (page, count) in [("docs/models.md", own), ("README.md", own + 1)] {
        let text = fs::read_to_string(root.join(page)).unwrap();
        assert!(
            text.contains(&format!("{} tools", words[count - 12])),
            "{page} does not speak of {count} tools"
        );
        for (other, word) in words.iter().enumerate().filter(|(other, _)| other + 12 != count) {
            assert!(!text.contains(&format!("{word} tools")), "{page} speaks of {} tools", other + 12);
        }
    }
}
