//! Behind nginx and haproxy: a silent job keeps its stream longer than the proxy's time-out, the first byte is through at
//! once, and gRPC works.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use conductor_gateway::pb::{self, gateway_service_client::GatewayServiceClient};
use prost::Message;

use crate::{
    checker::{check_events, run},
    raw::{Door, Stream},
    scenario::{Scenario, is_full},
    support::{Gateway, Options, SseReader, eventually},
};

/// The short form's time-out of a proxy, instead of its default of a minute.
const SHORT: u64 = 3;

struct Proxy {
    process: Child,
    address: String,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn start(mut command: Command, port: u16) -> Proxy {
    let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("tests/all installs it");
    let address = format!("127.0.0.1:{port}");
    eventually(Duration::from_secs(10), "the proxy listens", async || {
        tokio::net::TcpStream::connect(&address).await.is_ok()
    })
    .await;
    Proxy { process, address }
}

/// nginx as it comes, but for where it writes; in the short form with a shorter time-out.
async fn nginx(directory: &Path, gateway: &str, is_grpc: bool) -> Proxy {
    let port = free_port();
    let (listen, pass, module) = match is_grpc {
        true => ("http2", format!("grpc_pass grpc://{gateway};"), "grpc"),
        false => ("", format!("proxy_pass http://{gateway};"), "proxy"),
    };
    let timeout = if is_full() { String::new() } else { format!("{module}_read_timeout {SHORT}s;") };
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {}/{what};", directory.display()))
        .join(" ");
    let config = format!(
        "daemon off; master_process off; pid {0}/nginx{port}.pid; error_log stderr;\nevents {{}}\nhttp {{ access_log off; \
         {temporary}\nserver {{ listen 127.0.0.1:{port} {listen}; location / {{ {pass} {timeout} }} }} }}\n",
        directory.display()
    );
    let path = directory.join(format!("nginx{port}.conf"));
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&path).arg("-p").arg(directory).stderr(Stdio::null());
    start(command, port).await
}

async fn haproxy(directory: &Path, gateway: &str) -> Proxy {
    let port = free_port();
    let timeout = if is_full() { 60 } else { SHORT };
    let config = format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client {timeout}s\n timeout server {timeout}s\n\
         frontend in\n bind 127.0.0.1:{port} proto h2\n default_backend out\n\
         backend out\n server gateway {gateway} proto h2\n"
    );
    let path = directory.join(format!("haproxy{port}.cfg"));
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-f").arg(&path).stderr(Stdio::null());
    start(command, port).await
}

async fn grpc_events(proxy: &Proxy, job_id: &str) -> Vec<pb::JobEvent> {
    let mut client = GatewayServiceClient::connect(format!("http://{}", proxy.address)).await.unwrap();
    let request = pb::WatchJobRequest { job_id: job_id.to_owned(), after_sequence: 0 };
    let mut frames = client.watch_job(request).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(frame) = frames.message().await.unwrap() {
        events.extend(frame.event.map(|event| pb::JobEvent::decode(event).unwrap()));
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx and haproxy"]
async fn proxies() {
    let scenario = Scenario::begin("proxies").await;
    let mut options = Options::default();
    if !is_full() {
        options = options.set("server.heartbeat_seconds", 1);
    }
    let gateway = Gateway::mean(options);
    let directory = tempfile::tempdir().unwrap();
    let web = nginx(directory.path(), &gateway.address, false).await;
    let nginx_grpc = nginx(directory.path(), &gateway.address, true).await;
    let haproxy = haproxy(directory.path(), &gateway.address).await;

    let silence = Duration::from_secs(if is_full() { 600 } else { 3 * SHORT });
    let job_id = gateway.submit(&run(&format!("sleep {}", silence.as_millis()), "silent")).await;
    let opened = Instant::now();
    let mut reader = SseReader::open(&web.address, &job_id, 0).await;
    let first = reader.next().await.unwrap();
    let first_byte = opened.elapsed();
    assert!(first_byte < Duration::from_secs(1), "the first event took {first_byte:?}");
    let (rest, by_nginx, by_haproxy) =
        tokio::join!(reader.rest(), grpc_events(&nginx_grpc, &job_id), grpc_events(&haproxy, &job_id));
    assert!(opened.elapsed() >= silence, "it was silent for so long");
    let events: Vec<_> = [first].into_iter().chain(rest).collect();
    check_events(&job_id, &events);
    assert_eq!(gateway.watch(&job_id, 0).await, by_nginx);
    assert_eq!(by_nginx, by_haproxy);
    assert_eq!(by_nginx.len(), events.len());
    // grpc-web too, and an error with its status.
    let by_web = Stream::open(&web.address, Door::GrpcWeb, &job_id, 0).await.rest().await;
    assert_eq!(by_web.len(), events.len());
    for proxy in [&nginx_grpc, &haproxy] {
        let mut client = GatewayServiceClient::connect(format!("http://{}", proxy.address)).await.unwrap();
        let unknown = pb::GetJobRequest { job_id: "job_unknown".to_owned() };
        assert_eq!(client.get_job(unknown).await.unwrap_err().code(), tonic::Code::NotFound);
    }
    let timeout = if is_full() { 60 } else { SHORT };
    scenario.report(format_args!(
        "silent for {silence:?} behind nginx and haproxy with time-outs of {timeout} s: every stream whole; first event \
         through after {first_byte:.0?}; gRPC, grpc-web, SSE"
    ));
}
