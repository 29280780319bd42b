//! Tests of `load.rs`.

use super::*;

fn with(environment: &[(&str, &str)], file: Option<&str>) -> Result<Loaded, Mistakes> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.yaml");
    fs::write(&path, file.unwrap_or_default()).unwrap();
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    load(&Sources { file: Some(path), environment, ..Sources::default() })
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
    assert_eq!((loaded.config.server.cors_origins.len(), loaded.config.conductor.timeout_seconds), (1, 5));
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
    let mut expected = Config::default();
    data_root::fill(&mut expected, &BTreeMap::new());
    assert_eq!(loaded.config, expected);
    let silent: Vec<_> = loaded.explained.iter().filter(|(_, _, origin)| origin == "default").collect();
    assert!(silent.is_empty(), "config.yaml does not list {silent:?}");
}
