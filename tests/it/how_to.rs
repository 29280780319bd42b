//! The examples of docs/how-to: each touches only what its page names, and applies. That what they add works is shown by
//! `tests/how-to/check`, which `tests/all` runs.

use std::{collections::HashMap, fs, path::Path};

/// The pages, in the order in which their examples are applied one upon the other.
const PAGES: [&str; 7] = ["wire", "store", "driver", "error-reason", "configuration-key", "tool", "door"];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A part of a patch: the lines that it finds and those that it leaves.
#[derive(Default)]
struct Hunk {
    before: String,
    after: String,
}

/// Reads a patch as git writes it: its files with their hunks.
fn files(patch: &str) -> Vec<(String, Vec<Hunk>)> {
    let mut files: Vec<(String, Vec<Hunk>)> = Vec::new();
    for line in patch.lines().skip_while(|line| !line.starts_with("diff --git ")) {
        let hunk = files.last_mut().and_then(|(_, hunks)| hunks.last_mut());
        match (line.split_at_checked(1), hunk) {
            _ if line.starts_with("diff --git ") => {
                let (_, path) = line.split_once(" b/").unwrap();
                files.push((path.to_owned(), Vec::new()));
            }
            _ if line.starts_with("@@ ") => files.last_mut().unwrap().1.push(Hunk::default()),
            (Some((" ", text)), Some(hunk)) => {
                hunk.before += &format!("{text}\n");
                hunk.after += &format!("{text}\n");
            }
            (Some(("-", text)), Some(hunk)) => hunk.before += &format!("{text}\n"),
            (Some(("+", text)), Some(hunk)) => hunk.after += &format!("{text}\n"),
            (_, None) => {}
            _ => panic!("no line of a patch: {line}"),
        }
    }
    files
}

/// Returns a page with those that it leads to.
fn page(name: &str) -> String {
    let text = read(&format!("docs/how-to/{name}.md"));
    let links = regex::Regex::new(r"\]\(([a-z-]+\.md)\)").unwrap();
    let linked = links.captures_iter(&text).map(|link| read(&format!("docs/how-to/{}", &link[1])));
    linked.fold(text.clone(), |all, page| all + &page)
}

/// Returns whether one of the quoted names of a page stands for a path: `src/room/<name>/mod.rs`, `src/room/`, or `tests::` for a
/// file of tests.
fn is_named(page: &str, path: &str) -> bool {
    page.split('`').skip(1).step_by(2).any(|quoted| {
        let pattern = regex::escape(quoted).replace("<name>", "[^/]+");
        let pattern = match quoted.strip_suffix("::") {
            Some(tests) => format!("^tests/it/{tests}\\.rs$"),
            None if quoted.ends_with('/') => format!("^{pattern}"),
            None => format!("^{pattern}$"),
        };
        regex::Regex::new(&pattern).is_ok_and(|pattern| pattern.is_match(path))
    })
}

#[test]
fn examples_touch_only_what_their_pages_name() {
    for name in PAGES {
        let (page, files) = (page(name), files(&read(&format!("tests/how-to/{name}.patch"))));
        assert!(files.len() > 1, "{name}");
        for (path, _) in files {
            assert!(is_named(&page, &path), "docs/how-to/{name}.md does not name {path}");
        }
    }
    assert!(!is_named(&page("tool"), "src/app.rs"), "a tool needs no composition");
}

#[test]
fn examples_apply_one_upon_the_other() {
    let mut tree: HashMap<String, String> = HashMap::new();
    for name in PAGES {
        for (path, hunks) in files(&read(&format!("tests/how-to/{name}.patch"))) {
            let is_new = hunks.first().is_some_and(|hunk| hunk.before.is_empty());
            let text =
                tree.entry(path.clone()).or_insert_with(|| if is_new { String::new() } else { read(&path) });
            for Hunk { before, after } in hunks {
                assert!(text.contains(&before), "tests/how-to/{name}.patch, {path}: there is no\n{before}");
                *text = text.replacen(&before, &after, 1);
            }
        }
    }
    assert!(tree["src/tool/toolbox.rs"].contains("Call::ListTags"), "{}", tree["src/tool/toolbox.rs"]);
}
