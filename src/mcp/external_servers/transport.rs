//! Opening the connection to an outside server: over HTTP, or over the standard streams of a process.

use super::{CONNECT_TIME, ExternalServerConnection, Listener, MAX_LINE_BYTES};
use crate::{
    engine::{HOME_VARIABLE, OurPipes, ProcessCommand, prepare_environment},
    error::{Error, Result},
};
use rmcp::{
    RoleClient,
    service::{ClientLifecycleMode, ClientServiceExt, RunningService},
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use std::{
    collections::HashMap,
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, ReadBuf},
    net::unix::pipe::{Receiver, Sender},
};

impl ExternalServerConnection {
    pub(super) async fn open(
        &self,
        listener: Listener,
    ) -> Result<RunningService<RoleClient, Listener>, String> {
        let lifecycle = ClientLifecycleMode::Auto {
            preferred_versions: vec![rmcp::model::ProtocolVersion::V_2026_07_28],
            legacy_version: None,
        };
        match &self.config.url {
            Some(url) => {
                let transport = self.over_http(url)?;
                listener
                    .serve_with_lifecycle(transport, lifecycle)
                    .await
                    .map_err(|error| self.in_words(&error))
            }
            None => {
                let transport = self.over_streams().await.map_err(|error| error.to_string())?;
                listener
                    .serve_with_lifecycle(transport, lifecycle)
                    .await
                    .map_err(|error| self.in_words(&error))
            }
        }
    }

    /// Returns an error for the log without the address and the headers, which may hold keys.
    pub(super) fn in_words(&self, error: &dyn std::fmt::Display) -> String {
        let mut text = error.to_string();
        // The address as it was configured, as the client writes it, and its query alone.
        let url = self.config.url.as_deref().unwrap_or_default();
        let parsed = reqwest::Url::parse(url).ok();
        let query = parsed.as_ref().and_then(|url| url.query()).unwrap_or_default().to_owned();
        let parsed = parsed.map(|url| url.to_string()).unwrap_or_default();
        let secrets = self.config.headers.values().map(|value| value.expose());
        for secret in secrets.chain([url, &parsed, &query]).filter(|secret| !secret.is_empty()) {
            text = text.replace(secret, "…");
        }
        text
    }

    fn over_http(&self, url: &str) -> Result<StreamableHttpClientTransport<reqwest::Client>, String> {
        // The model's connection installs the process's TLS provider, but this may run first.
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HashMap::new();
        for (name, value) in &self.config.headers {
            let header: http::HeaderName =
                name.parse().map_err(|_| format!("`{name}` is no header's name"))?;
            let mut value = http::HeaderValue::from_str(value.expose())
                .map_err(|_| format!("the value of the header `{name}` cannot be sent"))?;
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIME)
            .tcp_nodelay(true)
            // The headers hold keys that are meant for this server only.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|_| "no connection can be made".to_owned())?;
        let config = StreamableHttpClientTransportConfig::with_uri(url).custom_headers(headers);
        Ok(StreamableHttpClientTransport::with_client(client, config))
    }

    async fn over_streams(&self) -> Result<(ProcessOutput, Sender)> {
        let mut environment = prepare_environment(&[]);
        environment.insert(HOME_VARIABLE.to_owned(), self.home.clone());
        environment.extend(
            self.config.environment.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())),
        );
        let command = ProcessCommand {
            program: self.config.command.clone(),
            environment,
            directory: self.directory.clone(),
            has_input: true,
        };
        let mut process = self.supervisor.start(command).await?;
        let OurPipes { stdout, stderr, stdin } =
            process.take_pipes().ok_or_else(|| Error::internal("no pipes"))?;
        let stdin = stdin.ok_or_else(|| Error::internal("no input pipe"))?;
        let name = self.name.clone();
        self.tasks.spawn("outside_server_log", async move {
            // Read to the end whatever it is, because a server whose standard error nobody reads would block.
            let (mut stderr, mut buffer) = (stderr, [0; 4096]);
            while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
                for line in String::from_utf8_lossy(&buffer[..read]).lines() {
                    let line: String = line.chars().filter(|c| !c.is_control()).take(500).collect();
                    tracing::debug!(server = &*name, line, "an MCP server says");
                }
            }
        });
        Ok((ProcessOutput { stdout, line_bytes: 0, _process: process }, stdin))
    }
}

/// A process's output; the process lives as long as this does.
struct ProcessOutput {
    stdout: Receiver,
    /// The length of the current line so far, all of which the library keeps in memory.
    line_bytes: usize,
    _process: crate::engine::Process,
}

impl AsyncRead for ProcessOutput {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stdout).poll_read(context, buffer);
        let new = &buffer.filled()[before..];
        match new.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => self.line_bytes = new.len() - end - 1,
            None => self.line_bytes += new.len(),
        }
        if self.line_bytes > MAX_LINE_BYTES {
            return Poll::Ready(Err(io::Error::other("an MCP server wrote a line that is no message")));
        }
        read
    }
}
