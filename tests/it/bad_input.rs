//! Bad input on every door: the right code, a text that helps, and nothing accepted.

use conductor_gateway::pb;
use serde_json::{Value, json};
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{Gateway, send};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn bodies() {
    let gateway = Gateway::start();
    let long = "x".repeat(200_000);
    let cases: Vec<(&str, String, u16, &str, &str)> = vec![
        ("broken JSON", "{\"command\": ".into(), 422, "MALFORMED_BODY", "line 1"),
        ("two documents", "{} {}".into(), 422, "MALFORMED_BODY", "goes on"),
        ("a list", "[1]".into(), 422, "MALFORMED_BODY", "object"),
        ("wrong type", json!({"command": 5}).to_string(), 422, "MALFORMED_BODY", "command"),
        ("wrong option", json!({"command": "x", "timeout_seconds": "soon"}).to_string(), 422, "MALFORMED_BODY", "timeout_seconds"),
        ("negative", json!({"command": "x", "timeout_seconds": -1}).to_string(), 422, "MALFORMED_BODY", "timeout_seconds"),
        ("nothing", "{}".into(), 400, "NO_TASK", "No command found in payload"),
        ("no body", String::new(), 400, "NO_TASK", "No command found in payload"),
        ("empty", json!({"command": ""}).to_string(), 400, "NO_TASK", "No command found in payload"),
        ("blank", json!({"textEntries": [{"content": " \n"}]}).to_string(), 400, "NO_TASK", "No command found in payload"),
        ("no entries", json!({"textEntries": []}).to_string(), 400, "NO_TASK", "No command found in payload"),
        ("two tasks", json!({"command": "x", "tool": "y"}).to_string(), 400, "INVALID_ARGUMENT", "exactly one"),
        ("half a run", json!({"agent_id": "A"}).to_string(), 400, "INVALID_ARGUMENT", "input_text"),
        ("no tool", json!({"arguments": {}}).to_string(), 400, "INVALID_ARGUMENT", "tool"),
        ("unknown tool", json!({"tool": "list_agents"}).to_string(), 400, "UNKNOWN_TOOL", "list_available_agents"),
        ("arguments of a wrong type", json!({"tool": "get_agent_info", "arguments": {"agent_id": 1}}).to_string(), 400, "INVALID_ARGUMENT", "agent_id"),
        ("missing argument", json!({"tool": "get_agent_info"}).to_string(), 400, "INVALID_ARGUMENT", "agent_id"),
        ("unknown argument", json!({"tool": "get_system_config", "arguments": {"x": 1}}).to_string(), 400, "INVALID_ARGUMENT", "unknown field `x`"),
        ("body that is a list", "[\"list agents\"]".into(), 422, "MALFORMED_BODY", "object"),
        ("arguments that are a list", json!({"tool": "get_system_config", "arguments": [1]}).to_string(), 400, "INVALID_ARGUMENT", "arguments"),
        ("bad enum", json!({"tool": "execute_agent_stateless", "arguments": {"agent_id": "A", "input_text": "x", "output_format": "xml"}}).to_string(), 400, "INVALID_ARGUMENT", "output_format"),
        ("id with a path", json!({"agent_id": "../../x", "input_text": "x"}).to_string(), 400, "INVALID_ARGUMENT", "agent_id"),
        ("id like a flag", json!({"agent_id": "--restore", "input_text": "x"}).to_string(), 400, "INVALID_ARGUMENT", "agent_id"),
        ("id with NUL", json!({"agent_id": "a\u{0}b", "input_text": "x"}).to_string(), 400, "INVALID_ARGUMENT", "agent_id"),
        ("id of 5,000", json!({"agent_id": "a".repeat(5000), "input_text": "x"}).to_string(), 400, "INVALID_ARGUMENT", "agent_id"),
        ("empty id", json!({"agent_id": "", "input_text": "x"}).to_string(), 400, "INVALID_ARGUMENT", "agent_id"),
        ("empty input", json!({"agent_id": "A", "input_text": ""}).to_string(), 400, "INVALID_ARGUMENT", "input_text"),
        ("input with NUL", json!({"agent_id": "A", "input_text": "a\u{0}"}).to_string(), 400, "INVALID_ARGUMENT", "NUL"),
        ("input too long", json!({"agent_id": "A", "input_text": long}).to_string(), 413, "TOO_LARGE", "131000"),
        ("template with a path", json!({"tool": "install_agent_templates", "arguments": {"template_name": "../config"}}).to_string(), 400, "INVALID_ARGUMENT", "template_name"),
        ("bad conversation", json!({"command": "x", "conversation_id": "../x"}).to_string(), 400, "INVALID_ARGUMENT", "conversation_id"),
        ("bad key", json!({"command": "x", "idempotency_key": "a b"}).to_string(), 400, "INVALID_ARGUMENT", "idempotency_key"),
        ("bad label", json!({"command": "x", "labels": {"a b": "c"}}).to_string(), 400, "INVALID_ARGUMENT", "labels"),
        ("labels of a wrong type", json!({"command": "x", "labels": ["a"]}).to_string(), 422, "MALFORMED_BODY", "labels"),
        ("working directory", json!({"command": "x", "working_directory": "/"}).to_string(), 409, "UNSUPPORTED", "working_directory"),
        ("bad disconnect", json!({"command": "x", "on_disconnect": "explode"}).to_string(), 422, "MALFORMED_BODY", "on_disconnect"),
        ("10 MB", format!("{{\"command\": \"{}\"}}", "x".repeat(10_000_000)), 413, "TOO_LARGE", "bytes"),
    ];
    for path in ["/execute", "/api/v1/stream-execute"] {
        for (what, body, status, reason, text) in &cases {
            let answer = send(&gateway.address, "POST", path, &[JSON], Some(body.clone().into_bytes())).await;
            assert_eq!(answer.status, *status, "{what}: {}", answer.text());
            assert_eq!(answer.headers["content-type"], "application/problem+json; charset=utf-8", "{what}");
            let problem = answer.json();
            assert_eq!(
                (problem["reason"].as_str(), problem["status"].as_u64()),
                (Some(*reason), Some(u64::from(*status))),
                "{what}"
            );
            assert!(problem["detail"].as_str().unwrap().contains(text), "{what}: {problem}");
        }
    }
    assert_eq!(gateway.get("/api/v1/jobs").await.json()["jobs"], json!([]), "nothing was accepted");
}

/// Members that nobody knows have no effect, and that is said.
#[tokio::test]
async fn unknown_members_are_named() {
    let gateway = Gateway::start();
    for path in ["/api/v1/stream-execute", "/execute"] {
        let answer = gateway.post(path, &json!({"command": "list the agents", "timeout": 5})).await.json();
        assert_eq!(answer["ignored_members"], json!(["timeout"]), "{path}: {answer}");
        let answer = gateway.post(path, &json!({"command": "list the agents"})).await.json();
        assert_eq!(answer["ignored_members"], Value::Null, "{path}: {answer}");
    }
    let body = json!({"textEntries": [{"content": "list the agents", "kind": "y"}]});
    let answer = gateway.post("/api/v1/stream-execute", &body).await.json();
    assert_eq!(answer["ignored_members"], json!(["textEntries.0.kind"]), "{answer}");
    let cancel = format!("/api/v1/jobs/{}/cancel", answer["job_id"].as_str().unwrap());
    let answer = gateway.post(&cancel, &json!({"wait_seconds": 20, "force": true})).await.json();
    assert_eq!(answer["ignored_members"], json!(["force"]), "{answer}");
    assert_eq!(
        gateway.post(&cancel, &json!({})).await.json(),
        gateway.get(cancel.trim_end_matches("/cancel")).await.json()
    );
    let refused = gateway.post("/api/v1/stream-execute", &json!({"prompt": "x", "\u{202e}": 1})).await.json();
    let message = refused["detail"].as_str().unwrap();
    assert!(message.contains("`prompt`") && !message.contains('\u{202e}'), "{refused}");
    let many = (0..100).map(|number| (format!("{number}{}", "x".repeat(500)), json!(1)));
    let refused = gateway.post("/execute", &Value::Object(many.collect())).await;
    assert!(refused.status == 400 && refused.text().len() < 8192, "{}", refused.text());
}

#[tokio::test]
async fn requests() {
    let gateway = Gateway::start();
    let job_id = gateway.submit(&json!({"command": "list the agents"})).await;
    gateway.events(&job_id).await;
    let unknown = "job_00000000000000000000000000000000000v";
    let stream = format!("/api/v1/stream/{job_id}");
    let huge = "h".repeat(100_000);
    let cases: Vec<(&str, &str, String, Vec<(&str, &str)>, u16, &str)> = vec![
        ("unknown path", "GET", "/nothing".into(), vec![], 404, "ROUTE_NOT_FOUND"),
        ("wrong method", "DELETE", "/execute".into(), vec![], 405, "METHOD_NOT_ALLOWED"),
        ("wrong method", "GET", "/execute".into(), vec![], 405, "METHOD_NOT_ALLOWED"),
        ("unknown job", "GET", format!("/api/v1/jobs/{unknown}"), vec![], 404, "JOB_NOT_FOUND"),
        ("unknown stream", "GET", format!("/api/v1/stream/{unknown}"), vec![], 404, "JOB_NOT_FOUND"),
        ("no job id", "GET", "/api/v1/jobs/..%2F..%2Fx".into(), vec![], 404, "JOB_NOT_FOUND"),
        (
            "cancel of an unknown job",
            "POST",
            format!("/api/v1/jobs/{unknown}/cancel"),
            vec![],
            404,
            "JOB_NOT_FOUND",
        ),
        (
            "delete of an unknown job",
            "DELETE",
            format!("/api/v1/jobs/{unknown}"),
            vec![],
            404,
            "JOB_NOT_FOUND",
        ),
        ("cursor abc", "GET", format!("{stream}?after=abc"), vec![], 400, "INVALID_ARGUMENT"),
        ("cursor -1", "GET", format!("{stream}?after=-1"), vec![], 400, "INVALID_ARGUMENT"),
        (
            "cursor in the header",
            "GET",
            stream.clone(),
            vec![("last-event-id", "abc")],
            400,
            "INVALID_ARGUMENT",
        ),
        ("cursor beyond", "GET", format!("{stream}?after=99"), vec![], 400, "CURSOR_BEYOND_LOG"),
        (
            "the header beats the query",
            "GET",
            format!("{stream}?after=1"),
            vec![("last-event-id", "99")],
            400,
            "CURSOR_BEYOND_LOG",
        ),
        ("bad state", "GET", "/api/v1/jobs?state=sleeping".into(), vec![], 400, "INVALID_ARGUMENT"),
        ("bad page size", "GET", "/api/v1/jobs?page_size=many".into(), vec![], 400, "INVALID_ARGUMENT"),
        ("large page size", "GET", "/api/v1/jobs?page_size=501".into(), vec![], 400, "INVALID_ARGUMENT"),
        ("bad token", "GET", "/api/v1/jobs?page_token=x".into(), vec![], 400, "INVALID_ARGUMENT"),
        ("bad label", "GET", "/api/v1/jobs?label=x".into(), vec![], 400, "INVALID_ARGUMENT"),
        (
            "form",
            "POST",
            "/execute".into(),
            vec![("content-type", "application/x-www-form-urlencoded")],
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        (
            "plain text",
            "POST",
            "/execute".into(),
            vec![("content-type", "text/plain")],
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        (
            "foreign page",
            "POST",
            "/execute".into(),
            vec![JSON, ("origin", "https://evil.example")],
            403,
            "ORIGIN_NOT_ALLOWED",
        ),
        ("foreign name", "GET", "/health".into(), vec![("host", "evil.example")], 403, "ORIGIN_NOT_ALLOWED"),
    ];
    for (what, method, path, headers, status, reason) in &cases {
        let answer = send(&gateway.address, method, path, headers, None).await;
        assert_eq!(answer.status, *status, "{what}: {}", answer.text());
        assert_eq!(answer.json()["reason"], *reason, "{what}");
        assert!(answer.json()["detail"].as_str().unwrap().len() > 20, "{what} is explained");
    }
    let beyond = gateway.get(&format!("{stream}?after=99")).await.json();
    assert_eq!((&beyond["last_sequence"], &beyond["job_id"]), (&json!(7), &json!(job_id)));
    let answer = send(&gateway.address, "GET", "/health", &[("x-huge", &huge)], None).await;
    assert_eq!(answer.status, 431);
    let input =
        gateway.post(&format!("/api/v1/jobs/{job_id}/input"), &json!({"input_id": "x", "value": 1})).await;
    assert_eq!((input.status, &input.json()["reason"]), (409, &json!("NO_OPEN_QUESTION")));
    let wait = gateway.post(&format!("/api/v1/jobs/{job_id}/cancel"), &json!({"wait_seconds": 301})).await;
    assert_eq!(wait.status, 400);
    assert_eq!(gateway.get("/health").await.status, 200);
}

fn command(text: &str) -> Option<pb::Task> {
    Some(pb::Task { task: Some(pb::task::Task::Command(text.into())) })
}

fn run(agent_id: &str, input_text: &str) -> Option<pb::Task> {
    let run = pb::AgentRun { agent_id: agent_id.into(), input_text: input_text.into() };
    Some(pb::Task { task: Some(pb::task::Task::AgentRun(run)) })
}

fn call(tool: &str, arguments: &str) -> Option<pb::Task> {
    let arguments = Some(pb::Json { text: arguments.into() });
    Some(pb::Task { task: Some(pb::task::Task::ToolCall(pb::ToolCall { tool: tool.into(), arguments })) })
}

#[tokio::test]
async fn submissions_over_grpc() {
    let gateway = Gateway::start();
    let mut client = gateway.grpc().await;
    let long = "x".repeat(200_000);
    let options = |change: fn(&mut pb::TaskOptions)| {
        let mut options = pb::TaskOptions::default();
        change(&mut options);
        Some(options)
    };
    let cases = [
        ("nothing", None, None, Code::InvalidArgument, "NO_TASK"),
        ("no arm", Some(pb::Task::default()), None, Code::InvalidArgument, "NO_TASK"),
        ("empty", command(" "), None, Code::InvalidArgument, "NO_TASK"),
        ("unknown tool", call("nope", "{}"), None, Code::InvalidArgument, "UNKNOWN_TOOL"),
        ("broken arguments", call("get_agent_info", "{"), None, Code::InvalidArgument, "INVALID_ARGUMENT"),
        (
            "arguments against the schema",
            call("get_agent_info", "{\"id\":1}"),
            None,
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
        ),
        ("path", run("../../x", "x"), None, Code::InvalidArgument, "INVALID_ARGUMENT"),
        ("flag", run("--restore", "x"), None, Code::InvalidArgument, "INVALID_ARGUMENT"),
        ("NUL", run("a\0", "x"), None, Code::InvalidArgument, "INVALID_ARGUMENT"),
        ("long id", run(&"a".repeat(5000), "x"), None, Code::InvalidArgument, "INVALID_ARGUMENT"),
        ("long input", run("A", &long), None, Code::InvalidArgument, "TOO_LARGE"),
        (
            "directory",
            command("x"),
            options(|o| o.working_directory = "/tmp".into()),
            Code::FailedPrecondition,
            "UNSUPPORTED",
        ),
        (
            "disconnect",
            command("x"),
            options(|o| o.on_disconnect = 2),
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
        ),
        (
            "unknown enum",
            command("x"),
            options(|o| o.on_disconnect = 77),
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
        ),
        (
            "conversation",
            command("x"),
            options(|o| o.conversation_id = "a b".into()),
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
        ),
    ];
    for (what, task, options, code, reason) in cases {
        let status = client.submit_job(pb::SubmitJobRequest { task, options }).await.unwrap_err();
        assert_eq!(status.code(), code, "{what}: {status}");
        let details = status.get_error_details();
        assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some(reason), "{what}");
        assert!(status.message().len() > 15, "{what} is explained: {status}");
    }
    let field =
        client.submit_job(pb::SubmitJobRequest { task: run("../x", "x"), options: None }).await.unwrap_err();
    let violations = field.get_error_details().bad_request().unwrap().field_violations.clone();
    assert_eq!(violations[0].field, "task.agent_run.agent_id");
    let big = client
        .submit_job(pb::SubmitJobRequest { task: command(&"x".repeat(10_000_000)), options: None })
        .await;
    assert!(matches!(big.unwrap_err().code(), Code::OutOfRange | Code::ResourceExhausted));
    assert_eq!(gateway.get("/api/v1/jobs").await.json()["jobs"], json!([]), "nothing was accepted");
}

#[tokio::test]
async fn calls_over_grpc() {
    let gateway = Gateway::start();
    let job_id = gateway.submit(&json!({"command": "list the agents"})).await;
    gateway.events(&job_id).await;
    let mut client = gateway.grpc().await;
    let unknown = || "job_00000000000000000000000000000000000v".to_owned();
    let reason =
        |status: &tonic::Status| status.get_error_details().error_info().map(|info| info.reason.clone());
    let watch = |job_id: String, after_sequence| pb::WatchJobRequest { job_id, after_sequence };
    let status = client.watch_job(watch(unknown(), 0)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_deref()), (Code::NotFound, Some("JOB_NOT_FOUND")));
    let status = client.watch_job(watch(job_id.clone(), 99)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_deref()), (Code::OutOfRange, Some("CURSOR_BEYOND_LOG")));
    assert_eq!(status.get_error_details().error_info().unwrap().metadata["last_sequence"], "7");
    for bad in [unknown(), "../../x".into(), String::new(), "\0".into()] {
        assert_eq!(
            client.get_job(pb::GetJobRequest { job_id: bad.clone() }).await.unwrap_err().code(),
            Code::NotFound
        );
        assert_eq!(
            client.delete_job(pb::DeleteJobRequest { job_id: bad.clone() }).await.unwrap_err().code(),
            Code::NotFound
        );
        let cancel = pb::CancelJobRequest { job_id: bad, wait_seconds: 0 };
        assert_eq!(client.cancel_job(cancel).await.unwrap_err().code(), Code::NotFound);
    }
    let input = pb::SendInputRequest { job_id: job_id.clone(), input_id: "x".into(), value: None };
    assert_eq!(client.send_input(input).await.unwrap_err().code(), Code::FailedPrecondition);
    let list = pb::ListJobsRequest { page_size: 501, ..Default::default() };
    assert_eq!(client.list_jobs(list).await.unwrap_err().code(), Code::InvalidArgument);
    let list = pb::ListJobsRequest { states: vec![99], ..Default::default() };
    assert_eq!(client.list_jobs(list).await.unwrap_err().code(), Code::InvalidArgument);
    let cancel = pb::CancelJobRequest { job_id, wait_seconds: 301 };
    assert_eq!(client.cancel_job(cancel).await.unwrap_err().code(), Code::InvalidArgument);
    // Huge metadata ends that call and nothing else.
    let mut request = tonic::Request::new(pb::GetServerInfoRequest {});
    request.metadata_mut().insert("x-huge", "h".repeat(100_000).parse().unwrap());
    assert!(client.get_server_info(request).await.is_err());
    let info = gateway.grpc().await.get_server_info(pb::GetServerInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.planner.as_str(), info.engine.as_str()), ("direct", "bundled"));
    let _: Value = gateway.get("/api/v1/info").await.json();
}
