//! The fixtures that the MCP conformance suite asks for, behind the gateway's own listener and mounting code: what the
//! suite finds out about transport, sessions and headers holds for the product too.
//!
//! `conformance-server PORT` serves http://127.0.0.1:PORT/mcp until it is killed; port 0 lets the system choose. It
//! prints the address.

#![allow(missing_docs, unreachable_pub, deprecated)]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod content;
mod fixture;
mod input;
mod prompts;
mod tools;

use std::sync::Arc;

use conductor_gateway::{
    edge::{AuthConfig, HeaderPolicy, Server, ServerConfig, mcp},
    task::Group,
};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() {
    let port = std::env::args().nth(1).map_or(0, |port| port.parse().expect("a port"));
    let config = ServerConfig::default();
    let listener = Server::bind(&config, port).await.expect("the port is free");
    println!("http://{}{}", listener.local_addr().expect("an address"), mcp::PATH);
    let stop = CancellationToken::new();
    let doors = mcp::router(Arc::new(fixture::Fixture::new()), &config, stop.clone(), &Group::new("fixture"));
    let server = Server::new(
        listener,
        &config,
        &AuthConfig::default(),
        doors,
        HeaderPolicy::Mcp,
        &conductor_gateway::edge::Capacity::of(&config),
    )
    .expect("a server");
    server.serve(stop).await;
}
