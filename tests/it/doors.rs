//! The doors themselves: health, reflection, grpc-web, CORS, HTTP/2.

use conductor_gateway::pb;
use prost::Message;
use serde_json::json;

use crate::support::{Gateway, Options, send};

#[tokio::test]
async fn health_and_readiness() {
    let gateway = Gateway::start();
    for path in ["/health", "/health/live", "/health/ready"] {
        assert_eq!(gateway.get(path).await.status, 200);
    }
    let channel = tonic::transport::Channel::from_shared(gateway.url()).unwrap().connect().await.unwrap();
    let mut client = tonic_health::pb::health_client::HealthClient::new(channel);
    for (service, is_known) in [("", true), ("conductor.gateway.v1.GatewayService", true), ("nope", false)] {
        let request = tonic_health::pb::HealthCheckRequest { service: service.into() };
        assert_eq!(client.check(request).await.is_ok(), is_known, "{service}");
    }
}

#[tokio::test]
async fn listings() {
    let gateway = Gateway::start();
    let mut client = gateway.grpc().await;
    let tools = client.list_tools(pb::ListToolsRequest {}).await.unwrap().into_inner().tools;
    let over_http = gateway.get("/api/v1/tools").await.json();
    assert_eq!(over_http["tools"].as_array().unwrap().len(), tools.len());
    assert_eq!(over_http["tools"][0]["input_schema"]["type"], "object", "a schema is a value, not text");
    let page = pb::ListAgentsRequest { page_size: 3, page_token: String::new() };
    let first = client.list_agents(page).await.unwrap().into_inner();
    assert_eq!(first.agents.len(), 3);
    let page = pb::ListAgentsRequest { page_size: 500, page_token: first.next_page_token };
    let second = client.list_agents(page).await.unwrap().into_inner();
    assert_eq!(second.agents.len(), 5);
    assert_eq!(gateway.get("/api/v1/agents").await.json()["agents"].as_array().unwrap().len(), 8);
}

#[tokio::test]
async fn grpc_web_speaks_over_http_1() {
    let gateway = Gateway::start();
    let request = pb::StreamExecuteRequest {
        task: Some(pb::Task { task: Some(pb::task::Task::Command("list the agents".into())) }),
        options: None,
    };
    let message = request.encode_to_vec();
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend_from_slice(&message);
    let headers = [
        ("content-type", "application/grpc-web+proto"),
        ("x-grpc-web", "1"),
        ("origin", "http://localhost:3000"),
    ];
    let path = "/conductor.gateway.v1.GatewayService/StreamExecute";
    let answer = send(&gateway.address, "POST", path, &headers, Some(body)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["access-control-allow-origin"], "http://localhost:3000");
    let exposed = answer.headers["access-control-expose-headers"].to_str().unwrap().to_owned();
    for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
        assert!(exposed.contains(name), "{exposed}");
    }
    let (mut events, mut trailers, mut rest) = (Vec::new(), String::new(), &answer.body[..]);
    while !rest.is_empty() {
        let length = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
        let frame = &rest[5..5 + length];
        if rest[0] & 0x80 != 0 {
            trailers = String::from_utf8_lossy(frame).into_owned();
        } else if let Some(event) = pb::EventFrame::decode(frame).unwrap().event {
            events.push(pb::JobEvent::decode(event).unwrap());
        }
        rest = &rest[5 + length..];
    }
    assert!(trailers.contains("grpc-status:0"), "{trailers:?}");
    assert_eq!(events.len(), 7);
    assert_eq!(gateway.job(&events[0].job_id).await["door"], "GRPC_WEB");
    assert_eq!(gateway.watch(&events[0].job_id, 0).await, events);
}

#[tokio::test]
async fn preflights_name_exact_origins() {
    let gateway = Gateway::start();
    let preflight = async |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type,x-grpc-web,idempotency-key"),
        ];
        send(&gateway.address, "OPTIONS", "/execute", &headers, None).await
    };
    let good = preflight("http://127.0.0.1:8080").await;
    assert_eq!(good.headers["access-control-allow-origin"], "http://127.0.0.1:8080");
    assert!(good.headers["vary"].to_str().unwrap().contains("origin"));
    assert!(!preflight("https://evil.example").await.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn unknown_methods_are_unimplemented() {
    let gateway = Gateway::start();
    let channel = tonic::transport::Channel::from_shared(gateway.url()).unwrap().connect().await.unwrap();
    let mut client = tonic::client::Grpc::new(channel);
    for path in ["/conductor.gateway.v1.GatewayService/Nope", "/no.such.Service/Call"] {
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<pb::GetJobRequest, pb::GetJobResponse>::default();
        let request = tonic::Request::new(pb::GetJobRequest::default());
        let status = client.unary(request, path.parse().unwrap(), codec).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unimplemented, "{path}: {status}");
    }
    let both = gateway.post("/execute", &json!({"command": "conductor --list"})).await;
    assert_eq!(both.status, 200);
}

/// The page at `/` names the doors; a problem leads to the page of its reason, relative to its own path.
#[tokio::test(flavor = "multi_thread")]
async fn pages_say_what_is_here_and_what_an_error_means() {
    let gateway = Gateway::start_with(Options::default().set("server.console", false));
    assert_eq!(gateway.get("/console/app.js").await.status, 404);
    let start = gateway.get("/").await;
    assert_eq!(start.status, 200);
    let policy = start.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    for part in ["api/v1/jobs", "docs/errors", &gateway.mcp, "bundled"] {
        assert!(start.text().contains(part), "{part} is missing in {}", start.text());
    }
    for (path, link) in [
        ("/api/v1/jobs/nope", "<../../../docs/errors/JOB_NOT_FOUND>; rel=\"help\""),
        ("/nope", "<docs/errors/ROUTE_NOT_FOUND>; rel=\"help\""),
    ] {
        let answer = gateway.get(path).await;
        assert_eq!(answer.headers["link"], link, "{}", answer.text());
        let base = reqwest::Url::parse(&format!("http://proxy.example/some/path{path}")).unwrap();
        let target = base.join(link[1..].split('>').next().unwrap()).unwrap();
        let page = gateway.get(target.path().strip_prefix("/some/path").unwrap()).await;
        assert_eq!(page.status, 200, "{target}");
        assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html"));
    }
    for reason in conductor_gateway::error::Reason::ALL {
        let page = gateway.get(&format!("/docs/errors/{}", reason.name())).await;
        assert!(page.status == 200 && page.text().contains("exit status"), "{}", reason.name());
    }
    let strange = gateway.get("/docs/errors/%3Cscript%3E").await;
    assert_eq!(strange.status, 404);
    assert!(strange.headers["content-type"].to_str().unwrap().starts_with("application/problem+json"));
}
