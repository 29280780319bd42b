//! Calls of a cheap tool over MCP, against a bare server of the same library that answers with a constant.

use std::time::Instant;

use rmcp::{
    ErrorData, RoleClient, RoleServer, ServerHandler, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ListToolsResult,
        PaginatedRequestParams, ServerCapabilities, ServerConfig,
    },
    service::{RequestContext, RunningService},
    transport::{
        StreamableHttpClientTransport, StreamableHttpServerConfig, StreamableHttpService,
        streamable_http_client::StreamableHttpClientTransportConfig,
        streamable_http_server::session::local::LocalSessionManager,
    },
};

use super::{
    Figure, median,
    model::processor_time,
    start::{Child, Process},
};

const CALLS: usize = 2000;
const PAIRS: usize = 7;

#[derive(Clone)]
struct Constant;

impl ServerHandler for Constant {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::default())
    }

    async fn call_tool(
        &self,
        _: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        Ok(CallToolResult::success(vec![ContentBlock::text("a constant")]).into())
    }
}

/// Plays the bare server in a process of its own.
pub fn bare_server() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let manager = std::sync::Arc::new(LocalSessionManager::default());
        let config =
            StreamableHttpServerConfig::default().with_legacy_session_mode(true).with_json_response(true);
        let service = StreamableHttpService::new(|| Ok(Constant), manager, config);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let service = hyper_util::service::TowerToHyperService::new(service.clone());
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
}

type Client = RunningService<RoleClient, ()>;

async fn connect(url: String) -> Client {
    let client = reqwest::Client::builder().tcp_nodelay(true).build().unwrap();
    let config = StreamableHttpClientTransportConfig::with_uri(url);
    ().serve(StreamableHttpClientTransport::with_client(client, config)).await.unwrap()
}

/// The median time of a call, in microseconds.
async fn calls(client: &Client, tool: &'static str) -> f64 {
    let mut times = Vec::with_capacity(CALLS + 1);
    for _ in 0..=CALLS {
        let started = Instant::now();
        let result = client.call_tool(CallToolRequestParams::new(tool)).await.unwrap();
        times.push(started.elapsed().as_secs_f64() * 1e6);
        assert_ne!(result.is_error, Some(true));
    }
    median(times)
}

pub async fn figures() -> Vec<Figure> {
    let _once = rustls::crypto::ring::default_provider().install_default();
    let gateway = Process::start(&["telemetry.log=warn,conductor_gateway::cli=info"]).await;
    let bare = Child::start(&["bare-mcp"]);
    let ours = connect(gateway.mcp.clone()).await;
    let theirs = connect(format!("http://{}/mcp", bare.address)).await;
    let tool = "get_system_config";
    calls(&ours, tool).await;
    calls(&theirs, tool).await;
    let (mut ratios, mut our_times, mut their_times) = (Vec::new(), Vec::new(), Vec::new());
    let mut over = Vec::new();
    let cost = |pid: u32, before: std::time::Duration| {
        (processor_time(pid) - before).as_secs_f64() * 1e6 / (CALLS + 1) as f64
    };
    for _ in 0..PAIRS {
        let before = processor_time(bare.id());
        let their_time = calls(&theirs, tool).await;
        let their_cost = cost(bare.id(), before);
        let before = processor_time(gateway.child.id());
        let our_time = calls(&ours, tool).await;
        over.push(cost(gateway.child.id(), before) - their_cost);
        ratios.push(their_time / our_time);
        our_times.push(our_time);
        their_times.push(their_time);
    }
    let note = format!("{:.0} µs against {:.0} µs", median(our_times), median(their_times));
    let rate = Figure {
        what: "a cheap tool called over MCP".into(),
        value: median(ratios),
        floor: 0.85,
        is_ratio: true,
        note,
    };
    let cost = Figure {
        what: "its processor time over the bare server's, us".into(),
        value: median(over),
        floor: 20.0,
        is_ratio: false,
        note: "the tool reads the engine's configuration".into(),
    };
    vec![rate, cost]
}
