//! Where values come from, as people write them; files and variables that are somebody else's.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use crate::{cli::Printed, support::BINARY};

fn run_with(arguments: &[&str], directory: &Path, environment: &[(&str, &str)]) -> Printed {
    let output = Command::new(BINARY)
        .args(arguments)
        .current_dir(directory)
        .env("XDG_DATA_HOME", directory)
        .env_remove("HOST")
        .env("AGENT_PROVIDER", "none")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Printed::of(&output)
}

const LIST: &[&str] = &["run", "conductor --list"];

#[test]
fn another_programs_file_is_passed_over_with_a_line() {
    for foreign in ["site_name: docs\nnav:\n  - a\n", "a: !tag [\n b: {{ x }}\n", "- 1\n- 2\n"] {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("config.yaml"), foreign).unwrap();
        let printed = run_with(LIST, directory.path(), &[]);
        assert_eq!(printed.status, 0, "{}", printed.stderr);
        assert!(printed.stderr.contains("./config.yaml is passed over: it has none"), "{}", printed.stderr);
        // Named, it has to be right.
        let named = run_with(&["--config", "config.yaml", "config", "check"], directory.path(), &[]);
        assert_eq!(named.status, 64, "{}", named.stdout);
    }
    // One of ours with a mistake is not passed over.
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("config.yaml"), "server:\n  prot: 1\nother: 1\n").unwrap();
    assert_eq!(run_with(LIST, directory.path(), &[]).status, 64);
}

#[test]
fn a_strange_directory_is_not_obeyed() {
    let directory = tempfile::tempdir().unwrap();
    let seen = directory.path().join("seen");
    let file = format!(
        "conductor:\n  command: [sh, -c, \"touch {0}\"]\nagent:\n  base_url: http://127.0.0.1:1/v1\n  mcp_servers: {{x: {{command: [touch, {0}]}}}}\njobs:\n  max_running: 3\n",
        seen.display()
    );
    fs::write(directory.path().join("config.yaml"), file).unwrap();
    let printed = run_with(LIST, directory.path(), &[]);
    assert_eq!(printed.status, 0, "{}", printed.stderr);
    assert!(!seen.exists(), "nothing of it was started");
    for key in ["conductor.command", "agent.base_url", "agent.mcp_servers"] {
        assert!(
            printed.stderr.contains(&format!("note: {key} of ./config.yaml is not taken")),
            "{}",
            printed.stderr
        );
    }
    assert!(!printed.stderr.contains("jobs.max_running"), "what is harmless is taken");
    // Named, it is obeyed.
    run_with(&["--config", "config.yaml", "run", "conductor --list"], directory.path(), &[]);
    assert!(seen.exists());
    // What others can write is not even read.
    fs::remove_file(&seen).unwrap();
    let path = directory.path().join("config.yaml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let shown = run_with(&["config", "show"], directory.path(), &[]);
    assert!(
        shown.stdout.contains("jobs.max_running: 8  # default") || !shown.stdout.contains("max_running: 3")
    );
    assert!(shown.stderr.contains("others can write it"), "{}", shown.stderr);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let shown = run_with(&["config", "show"], directory.path(), &[]);
    assert!(shown.stderr.contains("others can write it"), "{}", shown.stderr);
}

#[test]
fn places_and_variables_have_an_order() {
    let directory = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    let place = home.path().join("conductor-gateway");
    fs::create_dir(&place).unwrap();
    fs::write(
        place.join("config.yaml"),
        "jobs:\n  max_running: 5\n  timeout_seconds: 2h\nserver:\n  port: 1111\n",
    )
    .unwrap();
    fs::write(directory.path().join("config.yaml"), "server.port: 2222\n").unwrap();
    let user = home.path().to_str().unwrap();
    let show = |further: &[(&str, &str)]| {
        let environment: Vec<_> =
            [("XDG_CONFIG_HOME", user)].into_iter().chain(further.iter().copied()).collect();
        run_with(&["config", "show"], directory.path(), &environment).stdout
    };
    let shown = show(&[]);
    let origin = place.join("config.yaml");
    assert!(shown.contains(&format!("jobs.max_running: 5  # {}", origin.display())), "{shown}");
    assert!(
        shown.contains("jobs.timeout_seconds: 7200  # ")
            && shown.contains("server.port: 2222  # config.yaml")
    );
    let shown = show(&[
        ("PORT", "3333"),
        ("CONDUCTOR_GATEWAY_PORT", "4444"),
        ("JOBS_MAX_RUNNING", ""),
        ("CORS_ORIGINS", "https://a.example, https://b.example"),
        ("MAX_BODY_BYTES", "2MiB"),
    ]);
    assert!(shown.contains("server.port: 4444  # environment CONDUCTOR_GATEWAY_PORT"), "{shown}");
    assert!(shown.contains("jobs.max_running: 5  # "), "an empty variable is none: {shown}");
    assert!(
        shown.contains(r#"server.cors_origins: ["https://a.example","https://b.example"]  # "#),
        "{shown}"
    );
    assert!(shown.contains("server.max_body_bytes: 2097152  # environment MAX_BODY_BYTES"), "{shown}");
    // Where something is wrong, the rest is shown, and the mistake is said in words of people, with its place.
    let wrong =
        run_with(&["config", "show"], directory.path(), &[("PORT", "many"), ("JOBS_MAX_RUNNING", "4")]);
    assert_eq!(wrong.status, 64);
    assert!(wrong.stdout.contains("jobs.max_running: 4  # environment JOBS_MAX_RUNNING"), "{}", wrong.stdout);
    assert!(
        wrong.stderr.contains("server.port (environment PORT): ")
            && wrong.stderr.contains("expected a number")
    );
    assert!(!wrong.stderr.contains("u16"), "{}", wrong.stderr);
    // What it prints, it takes.
    let shown = run_with(&["config", "show"], directory.path(), &[]).stdout;
    fs::write(directory.path().join("printed.yaml"), &shown).unwrap();
    let taken = run_with(&["--config", "printed.yaml", "config", "check"], directory.path(), &[]);
    assert_eq!(taken.status, 0, "{}", taken.stderr);
}

#[test]
fn one_data_root_holds_everything() {
    let directory = tempfile::tempdir().unwrap();
    let origin = |key: &str, environment: &[(&str, &str)]| {
        let shown = run_with(&["config", "show"], directory.path(), environment).stdout;
        shown.lines().find_map(|line| line.strip_prefix(&format!("{key}: "))).unwrap().to_owned()
    };
    let home = directory.path().to_str().unwrap();
    let data = [("XDG_DATA_HOME", "/x/data")];
    assert_eq!(origin("storage.path", &data), "\"/x/data/conductor-gateway\"  # XDG_DATA_HOME");
    let no_data = [("XDG_DATA_HOME", ""), ("HOME", home)];
    assert!(origin("storage.path", &no_data).contains(".local/share/conductor-gateway\"  # HOME"));
    // What is moved is moved together.
    let moved = [("STORAGE_PATH", "/y")];
    assert_eq!(origin("storage.path", &moved), "\"/y\"  # environment STORAGE_PATH");
    assert_eq!(origin("conductor.workspace", &moved), "\"/y/engine\"  # below storage.path");
    assert_eq!(origin("conductor.backup_roots", &moved), "[\"/y/backups\"]  # below storage.path");
    // What an earlier build made in the working directory is used where it is.
    fs::create_dir_all(directory.path().join("conductor-data/engine")).unwrap();
    assert!(origin("storage.path", &data).starts_with("\"conductor-data\"  # the working directory"));
    assert!(origin("conductor.workspace", &moved).starts_with("\"conductor-data/engine\""));
    // `run` and `serve` use the same agents.
    let user = tempfile::tempdir().unwrap();
    let place = [("XDG_DATA_HOME", user.path().to_str().unwrap())];
    let elsewhere = tempfile::tempdir().unwrap();
    assert_eq!(run_with(LIST, elsewhere.path(), &place).status, 0);
    assert!(user.path().join("conductor-gateway/engine/.conductor_workspace").is_dir());
    assert_eq!(
        fs::read_dir(elsewhere.path()).unwrap().count(),
        0,
        "nothing is left in the working directory"
    );
}
