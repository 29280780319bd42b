//! The tools, as a caller uses them.

use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Options};

async fn call(gateway: &Gateway, tool: &str, arguments: Value) -> Answer {
    gateway.post("/execute", &json!({"tool": tool, "arguments": arguments})).await
}

async fn done(gateway: &Gateway, tool: &str, arguments: Value) -> Value {
    let answer = call(gateway, tool, arguments).await;
    assert_eq!(answer.status, 200, "{tool}: {}", answer.text());
    let structured = answer.json()["structured"].clone();
    let tools = gateway.get("/api/v1/tools").await.json();
    let spec = tools["tools"].as_array().unwrap().iter().find(|spec| spec["name"] == tool).unwrap();
    if let Err(error) = jsonschema::validate(&spec["output_schema"], &structured) {
        panic!("{tool} breaks its own schema: {error}\n{structured:#}");
    }
    structured
}

#[tokio::test]
async fn agents_are_listed_described_installed_and_checked() {
    let gateway = Gateway::start();
    let info = done(&gateway, "get_agent_info", json!({"agent_id": "CodeReviewer_Agent"})).await;
    assert!(info["persona"].as_str().unwrap().contains("# Persona"));
    assert_eq!(info["interactions"], 0);
    let unknown = call(&gateway, "get_agent_info", json!({"agent_id": "CodeReviewer"})).await;
    assert_eq!((unknown.status, &unknown.json()["reason"]), (422, &json!("AGENT_NOT_FOUND")));
    assert!(unknown.text().contains("CodeReviewer_Agent"), "the nearest is named");

    assert_eq!(done(&gateway, "validate_conductor_system", json!({})).await["is_valid"], true);
    let agents = gateway.path("conductor-data/engine/.conductor_workspace/agents");
    std::fs::remove_file(agents.join("SqlExpert_Agent/persona.md")).unwrap();
    let broken = done(&gateway, "validate_conductor_system", json!({})).await;
    assert_eq!(broken["is_valid"], false);
    assert!(broken["errors"][0].as_str().unwrap().contains("SqlExpert_Agent"));

    std::fs::remove_dir_all(agents.join("SqlExpert_Agent")).unwrap();
    let templates = done(&gateway, "install_agent_templates", json!({})).await;
    assert!(templates["templates"].as_array().unwrap().len() >= 6);
    let installed = done(&gateway, "install_agent_templates", json!({"template_name": "data"})).await;
    assert_eq!(
        (&installed["installed"], &installed["skipped"]),
        (&json!(["SqlExpert_Agent"]), &json!(["DataAnalyst_Agent"]))
    );
    assert_eq!(call(&gateway, "install_agent_templates", json!({"template_name": "nope"})).await.status, 502);
    let listed = done(&gateway, "install_agent_templates", json!({"template_name": "list"})).await;
    assert_eq!((&listed["installed"], listed["templates"].as_array().unwrap().len()), (&json!([]), 8));
}

#[tokio::test]
async fn conversations_are_remembered_apart_and_cleared() {
    let gateway = Gateway::start();
    let talk = async |conversation: &str, input: &str, clear: bool| {
        let body = json!({
            "tool": "execute_agent_contextual", "conversation_id": conversation,
            "arguments": {"agent_id": "SqlExpert_Agent", "input_text": input, "clear_history": clear},
        });
        gateway.post("/execute", &body).await.json()["result"].as_str().unwrap().to_owned()
    };
    assert!(!talk("a", "first", false).await.contains("remembers"));
    assert!(talk("a", "second", false).await.contains("remembers 1 earlier interaction."));
    assert!(
        !talk("b", "other", false).await.contains("remembers"),
        "another conversation knows nothing of it"
    );
    assert!(talk("a", "third", false).await.contains("remembers 2"));
    assert!(!talk("a", "fourth", true).await.contains("remembers"));
    let body = json!({"tool": "clear_agent_history", "arguments": {"agent_id": "SqlExpert_Agent"}, "conversation_id": "a"});
    let cleared = gateway.post("/execute", &body).await.json();
    assert_eq!(cleared["structured"]["removed"], 1);
    assert!(talk("b", "more", false).await.contains("remembers 1"), "clearing one leaves the other");
    // The shared workspace holds nobody's words.
    let shared =
        gateway.path("conductor-data/engine/.conductor_workspace/agents/SqlExpert_Agent/history.log");
    assert!(!shared.exists());
}

#[tokio::test]
async fn backups_are_made_confined_and_restored() {
    let gateway = Gateway::start();
    let first = done(&gateway, "backup_agents", json!({})).await;
    assert_eq!(first["agents"], 8);
    let named = done(&gateway, "backup_agents", json!({"backup_path": "weekly"})).await;
    assert!(named["backup_path"].as_str().unwrap().contains("conductor-data/backups/weekly/backup_"));
    let persona =
        gateway.path("conductor-data/engine/.conductor_workspace/agents/SqlExpert_Agent/persona.md");
    let before = std::fs::read_to_string(&persona).unwrap();
    std::fs::write(&persona, "broken").unwrap();
    let restored = done(&gateway, "restore_agents", json!({"backup_path": first["backup_path"]})).await;
    assert_eq!(restored["restored"].as_array().unwrap().len(), 8);
    assert_eq!(std::fs::read_to_string(&persona).unwrap(), before);
    let safety = std::path::Path::new(restored["safety_backup_path"].as_str().unwrap())
        .join("agents/SqlExpert_Agent/persona.md");
    assert_eq!(std::fs::read_to_string(safety).unwrap(), "broken", "what was there is kept");
    // Left out, the newest of all is meant, also one with a name; it is said which, and how old it is.
    let tried = call(&gateway, "restore_agents", json!({"dry_run": true})).await.json();
    assert_eq!(tried["structured"]["backup_path"], named["backup_path"]);
    assert!(tried["result"].as_str().unwrap().contains("made a moment ago"), "{tried}");
    // What restores put aside does not grow for ever, and is none of the backups.
    for _ in 0..6 {
        let restored = done(&gateway, "restore_agents", json!({"confirm": "newest"})).await;
        assert_eq!(restored["backup_path"], named["backup_path"]);
    }
    let kept = std::fs::read_dir(gateway.path("conductor-data/backups")).unwrap().flatten();
    let kept = kept.filter(|entry| entry.file_name().to_string_lossy().starts_with("before_restore_"));
    assert_eq!(kept.count(), 5);
    std::os::unix::fs::symlink("/etc", gateway.path("conductor-data/backups/link")).unwrap();
    for path in ["/etc", "../../x", "/tmp/elsewhere", "link", "link/sub", "a/../../.."] {
        for tool in ["backup_agents", "restore_agents"] {
            let refused = call(&gateway, tool, json!({"backup_path": path})).await;
            assert_eq!(refused.status, 422, "{tool} {path}: {}", refused.text());
            assert_eq!(refused.json()["reason"], "INVALID_ARGUMENT", "{tool} {path}");
        }
    }
}

/// A copy that fails is none: it is neither the newest backup nor in the way of the next.
#[tokio::test]
async fn a_copy_that_fails_leaves_nothing() {
    let gateway = Gateway::start();
    let first = done(&gateway, "backup_agents", json!({})).await;
    let agent = gateway.path("conductor-data/engine/.conductor_workspace/agents/SqlExpert_Agent");
    let deep: std::path::PathBuf = (0..40).map(|_| "d").collect();
    std::fs::create_dir_all(agent.join("deep").join(deep)).unwrap();
    let old = gateway.path("conductor-data/backups/.incomplete_backup_1700000000000/agents");
    std::fs::create_dir_all(old).unwrap();
    let refused = call(&gateway, "backup_agents", json!({})).await.json();
    assert!(refused["detail"].as_str().unwrap().contains("directories lie within one another"), "{refused}");
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(gateway.path("conductor-data/backups")).unwrap().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(names(), [first["backup_id"].as_str().unwrap()]);
    let tried = call(&gateway, "restore_agents", json!({"dry_run": true})).await.json();
    assert_eq!(tried["structured"]["backup_path"], first["backup_path"]);
    let refused = call(&gateway, "restore_agents", json!({"confirm": "newest"})).await.json();
    assert_eq!(refused["reason"], "TOOL_FAILED", "nothing is replaced that is not kept: {refused}");
    assert!(agent.join("deep").exists());

    let to = json!({"from_type": "filesystem", "to_type": "filesystem", "path": "moved"});
    let refused = call(&gateway, "migrate_storage", to.clone()).await.json();
    assert_eq!(refused["reason"], "TOOL_FAILED", "{refused}");
    std::fs::remove_dir_all(agent.join("deep")).unwrap();
    let moved = done(&gateway, "migrate_storage", to).await;
    assert_eq!(moved["agents"].as_array().unwrap().len(), 8);
}

#[tokio::test]
async fn storage_is_migrated_with_its_history() {
    let gateway = Gateway::start();
    let to = json!({"from_type": "filesystem", "to_type": "filesystem", "path": "moved"});
    let moved = done(&gateway, "migrate_storage", to.clone()).await;
    assert_eq!((&moved["is_config_updated"], moved["agents"].as_array().unwrap().len()), (&json!(true), 8));
    let config = done(&gateway, "get_system_config", json!({})).await;
    assert_eq!(config["workspace"], moved["path"]);
    assert_eq!(
        done(&gateway, "list_available_agents", json!({})).await["agents"].as_array().unwrap().len(),
        8
    );
    assert_eq!(call(&gateway, "migrate_storage", to).await.status, 422, "never over what is there");
    let mongo =
        call(&gateway, "migrate_storage", json!({"from_type": "filesystem", "to_type": "mongodb"})).await;
    assert_eq!((mongo.status, &mongo.json()["reason"]), (422, &json!("UNSUPPORTED")));
}

#[tokio::test]
async fn settings_reach_later_runs_and_secrets_reach_nobody() {
    let mut options = Options::default();
    options.environment.push(("SECRET_CANARY", "canary-value".into()));
    options.environment.push(("PASSED", "yes".into()));
    let gateway = Gateway::mean(options.set("conductor.pass_environment", "[PASSED]"));
    done(&gateway, "set_environment", json!({"environment": "production", "project": "shop"})).await;
    let flags =
        gateway.post("/execute", &json!({"agent_id": "Mean_Agent", "input_text": "flags"})).await.json();
    let flags = flags["result"].as_str().unwrap();
    assert!(flags.contains("--environment=production") && flags.contains("--project=shop"), "{flags}");
    let names = gateway
        .post("/execute", &json!({"agent_id": "Mean_Agent", "input_text": "environment"}))
        .await
        .json();
    let names = names["result"].as_str().unwrap();
    assert!(
        names.contains("PASSED") && names.contains("CONDUCTOR_JOB_ID") && names.contains("PYTHONUTF8"),
        "{names}"
    );
    assert!(!names.contains("SECRET_CANARY"), "{names}");
    let config = done(&gateway, "get_system_config", json!({})).await;
    assert_eq!((&config["environment"], &config["engine"]), (&json!("production"), &json!("conductor")));
    assert!(!config.to_string().contains("canary"), "{config}");
    let gateway = gateway.crash_and_restart();
    assert_eq!(done(&gateway, "get_system_config", json!({})).await["project"], "shop");
}
