//! What clients subscribe to beside the answers to their calls, and the log that they ask for.

#![expect(deprecated, reason = "clients of older versions still set a log level")]

use rmcp::{
    ErrorData, RoleServer,
    model::{
        LoggingLevel, LoggingMessageNotificationParam, ResourceUpdatedNotificationParam,
        SetLevelRequestMethod, SubscriptionFilter,
    },
    service::{Peer, RequestContext, SubscriptionContext},
};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    server::McpHandler,
    subscriptions::{MAX_WATCHED, is_sessionless, session_id},
};
use crate::{principal::Principal, task::Group};

impl McpHandler {
    /// Handles `logging/setLevel`, which versions without sessions no longer have.
    pub(super) fn set_log_level(
        &self,
        level: LoggingLevel,
        context: &RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        if is_sessionless(context) {
            return Err(ErrorData::method_not_found::<SetLevelRequestMethod>());
        }
        self.watching.with(context, |session| session.level = Some(level));
        Ok(())
    }

    /// Sends a client a line of the log about its call, if the client wants lines of this level.
    pub(super) async fn log(&self, context: &RequestContext<RoleServer>, level: LoggingLevel, message: &str) {
        let wanted = if is_sessionless(context) {
            context.meta.log_level()
        } else {
            self.watching.sessions().get(&session_id(context)).and_then(|session| session.level)
        };
        if wanted.is_some_and(|wanted| level as u8 >= wanted as u8) {
            let param =
                LoggingMessageNotificationParam::new(level, json!(message)).with_logger("conductor-gateway");
            let _client_left = context.peer.notify_logging_message(param).await;
        }
    }

    /// Handles `resources/subscribe`: notifies the session whenever the agents have changed.
    pub(super) async fn subscribe_to_resource(
        &self,
        uri: &str,
        caller: &Principal,
        context: &RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.check_resource(uri, caller).await?;
        let changes = self.toolbox.changes();
        let stop = CancellationToken::new();
        let is_new = self.watching.with(context, |session| {
            if session.watched.len() >= MAX_WATCHED && !session.watched.contains_key(uri) {
                let message =
                    format!("a session may watch {MAX_WATCHED} resources; unsubscribe from one first");
                return Err(ErrorData::invalid_params(message, None));
            }
            let is_new = !session.watched.contains_key(uri);
            session.watched.entry(uri.to_owned()).or_insert_with(|| stop.clone());
            Ok(is_new)
        })?;
        if is_new {
            let (peer, uri) = (context.peer.clone(), uri.to_owned());
            Group::new("MCP subscriptions").spawn("mcp_subscription", tell_updates(peer, uri, changes, stop));
        }
        Ok(())
    }

    /// Handles `resources/unsubscribe`.
    pub(super) fn unsubscribe_from_resource(&self, uri: &str, context: &RequestContext<RoleServer>) {
        self.watching.with(context, |session| {
            if let Some(stop) = session.watched.remove(uri) {
                stop.cancel();
            }
        });
    }

    /// Handles `subscriptions/listen`: the same for versions without sessions, for as long as the request is open.
    pub(super) async fn listen_to_changes(&self, context: SubscriptionContext) {
        let mut changes = self.toolbox.changes();
        let SubscriptionFilter { resources_list_changed, resource_subscriptions, .. } =
            context.accepted().clone();
        loop {
            tokio::select! {
                // Cancel safe: both branches only wait.
                changed = changes.changed() => if changed.is_err() { return },
                () = context.cancelled() => return,
            }
            if resources_list_changed == Some(true) {
                let _client_left = context.sink().notify_resource_list_changed().await;
            }
            for uri in resource_subscriptions.iter().flatten() {
                let _client_left = context.sink().notify_resource_updated(uri).await;
            }
        }
    }
}

async fn tell_updates(
    peer: Peer<RoleServer>,
    uri: String,
    mut changes: watch::Receiver<u64>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            // Cancel safe: all branches only wait.
            changed = changes.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
            () = tokio::time::sleep(std::time::Duration::from_secs(30)) => {
                if peer.is_transport_closed() {
                    return;
                }
                continue;
            }
        }
        let told = peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri.clone())).await;
        if told.is_err() {
            return;
        }
    }
}
