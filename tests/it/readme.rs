//! The README's commands, run as they are printed, against a gateway on a port of its own.

use std::{
    path::Path,
    process::{Command, Output},
};

use crate::support::Gateway;

struct Block {
    language: String,
    text: String,
}

fn blocks() -> Vec<Block> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let mut blocks = Vec::new();
    for part in readme.split("```").skip(1).step_by(2) {
        let (language, text) = part.split_once('\n').unwrap();
        blocks.push(Block { language: language.to_owned(), text: text.to_owned() });
    }
    blocks
}

/// Every expected line is in the output; `…` stands for anything.
fn holds(expected: &str, output: &str) {
    for line in expected.lines().filter(|line| !line.trim().is_empty()) {
        let found = output.lines().any(|printed| {
            let mut rest = printed;
            line.split('…').all(|part| match rest.find(part) {
                Some(at) => {
                    rest = &rest[at + part.len()..];
                    true
                }
                None => false,
            })
        });
        assert!(found, "the README promises {line:?}, but this was printed:\n{output}");
    }
}

fn run(block: &Block, gateway: &Gateway) -> String {
    let binary = env!("CARGO_BIN_EXE_conductor-gateway");
    let outside = std::env::var("OUTSIDE").unwrap_or_default();
    let text = block
        .text
        .replace("cargo run --profile quick -- ", "conductor-gateway ")
        .replace("localhost:5006", &gateway.address.replace("127.0.0.1", "localhost"));
    let path = format!(
        "{}:{outside}/venv/bin:{}",
        Path::new(binary).parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let mut command = match block.language.as_str() {
        "python" => {
            let mut command = Command::new(format!("{outside}/venv/bin/python"));
            command.args(["-c", &text]);
            command
        }
        _ => {
            let mut command = Command::new("sh");
            command.args(["-ec", &text]);
            command
        }
    };
    let directory = tempfile::tempdir().unwrap();
    let Output { status, stdout, stderr } = command
        .current_dir(directory.path())
        .env("XDG_DATA_HOME", directory.path())
        .env("PATH", path)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{text}\n{stderr}");
    String::from_utf8_lossy(&stdout).into_owned()
}

/// Runs the blocks that `wants` and compares each with the output that is printed below it. Answers with how many.
fn check(wants: impl Fn(&Block) -> bool) -> usize {
    let gateway = Gateway::start();
    let all = blocks();
    let mut count = 0;
    for (block, next) in all.iter().zip(all.iter().skip(1)) {
        let is_command = matches!(block.language.as_str(), "sh" | "python");
        // The one that serves is what the harness does.
        if !is_command || block.text.trim() == "cargo run --profile quick" || !wants(block) {
            continue;
        }
        let output = run(block, &gateway);
        if next.language == "text" {
            holds(&next.text, &output);
        }
        count += 1;
    }
    count
}

fn needs_others(block: &Block) -> bool {
    block.language == "python" || block.text.contains("curl")
}

#[test]
fn its_own_commands() {
    assert_eq!(check(|block| !needs_others(block)), 4);
}

#[test]
#[ignore = "needs curl, buf and Python packages"]
fn the_commands_of_others() {
    assert_eq!(check(needs_others), 4);
}

#[test]
fn what_it_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    for part in readme.split("](").skip(1) {
        let target = part.split(')').next().unwrap();
        assert!(root.join(target).exists(), "the README links to {target}");
    }
    assert!(
        readme.contains("`cargo test`") && readme.contains("`tests/all`") && root.join("tests/all").exists()
    );
}
