//! Finds model servers on this machine. A server that responds is only offered: no prompt is sent before somebody has chosen it.

use std::time::Duration;

use serde::Deserialize;

use super::{Provider, connection::install_tls_provider};

/// The time limit of a probe; a local server that is running responds within it.
const PROBE_TIME: Duration = Duration::from_millis(300);
/// The maximum number of models listed per server.
const MAX_MODELS: usize = 50;
const MAX_LIST_BYTES: usize = 256 * 1024;

/// A model server on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectedServer {
    /// Which kind of server it is.
    pub provider: Provider,
    /// Its base URL, in the form that `agent.base_url` takes.
    pub base_url: String,
    /// The ids of the models that the server lists, in the server's order: at least one and at most 50. A listed model may
    /// be unable to call tools.
    pub models: Vec<String>,
}

#[derive(Deserialize)]
struct ModelList {
    data: Vec<ListedModel>,
}

#[derive(Deserialize)]
struct ListedModel {
    id: String,
}

/// The usual ports of local servers, the most distinctive first: 8000 and 8080 are used by many other programs.
const PLACES: &[(u16, Provider)] = &[
    (11434, Provider::Ollama),
    (1234, Provider::OpenAi),
    (8080, Provider::LlamaCpp),
    (8000, Provider::Vllm),
];

/// Probes the usual loopback ports and returns the servers found. An open port is not enough: a server counts if it
/// lists its models as JSON and, for Ollama and llama.cpp, responds on a path that only they have.
pub(crate) async fn detect() -> Vec<DetectedServer> {
    install_tls_provider();
    let Ok(client) = reqwest::Client::builder().timeout(PROBE_TIME).no_proxy().build() else {
        return Vec::new();
    };
    let probes = PLACES.iter().map(|(port, provider)| probe(&client, *port, *provider));
    futures_util::future::join_all(probes).await.into_iter().flatten().collect()
}

async fn probe(client: &reqwest::Client, port: u16, provider: Provider) -> Option<DetectedServer> {
    let root = format!("http://127.0.0.1:{port}");
    let listing: ModelList = get_json(client, &format!("{root}/v1/models")).await?;
    let sign = match provider {
        Provider::Ollama => Some("/api/version"),
        Provider::LlamaCpp => Some("/props"),
        _ => None,
    };
    if let Some(path) = sign {
        get_json::<serde_json::Value>(client, &format!("{root}{path}")).await?;
    }
    let models: Vec<String> = listing.data.into_iter().map(|model| model.id).take(MAX_MODELS).collect();
    (!models.is_empty()).then(|| DetectedServer { provider, base_url: format!("{root}/v1"), models })
}

async fn get_json<T: serde::de::DeserializeOwned>(client: &reqwest::Client, url: &str) -> Option<T> {
    let mut response = client.get(url).send().await.ok()?.error_for_status().ok()?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_LIST_BYTES {
            return None;
        }
    }
    serde_json::from_slice(&body).ok()
}
