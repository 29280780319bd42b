//! The client of the commands that talk to a running gateway.

use tonic::transport::Channel;

use super::global::GlobalArguments;
pub(super) use crate::client::refused;
use crate::{client::Client, error::Result, pb::gateway_service_client::GatewayServiceClient};

/// Connects to `server`, or to the address at which the configured gateway listens.
pub(super) async fn connected(global: &GlobalArguments, server: Option<String>) -> Result<Client> {
    let address = match server {
        Some(address) => address,
        None => {
            let config = global.load(&[])?.config.server;
            format!("http://{}:{}", config.host, config.port)
        }
    };
    Client::connect(&address).await
}

/// The same, for the calls of the contract.
pub(super) async fn connect(
    global: &GlobalArguments,
    server: Option<String>,
) -> Result<GatewayServiceClient<Channel>> {
    Ok(connected(global, server).await?.calls())
}
