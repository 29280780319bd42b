//! Tests of `session.rs`.

use std::{pin::pin, time::Duration};

use rmcp::model::GetExtensions;
use rmcp::service::OriginatingRequestId;
use serde_json::{Value, json};

use super::*;

fn from_client(message: Value) -> ClientJsonRpcMessage {
    serde_json::from_value(message).unwrap()
}

fn call(id: u32) -> ClientJsonRpcMessage {
    let params = json!({"name": "x", "arguments": {}, "_meta": {"progressToken": format!("token {id}")}});
    from_client(json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}))
}

fn from_server(message: Value) -> ServerJsonRpcMessage {
    serde_json::from_value(message).unwrap()
}

fn changed(uri: &str) -> ServerJsonRpcMessage {
    let params = json!({"uri": uri});
    from_server(json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": params}))
}

fn answer(id: u32) -> ServerJsonRpcMessage {
    from_server(json!({"jsonrpc": "2.0", "id": id, "result": {}}))
}

fn is_waiting<T>(future: impl Future<Output = T>) -> bool {
    futures_util::FutureExt::now_or_never(future).is_none()
}

/// An event's id with the method of its message, or the code of its error.
fn shown(event: &ServerSseMessage) -> (String, String) {
    let message = serde_json::to_value(event.message.as_deref()).unwrap();
    let method = message["method"].as_str().map(str::to_owned);
    let error = message["error"]["code"].as_i64().map(|code| code.to_string());
    (event.event_id.clone().unwrap_or_default(), method.or(error).unwrap_or_default())
}

#[tokio::test]
async fn what_belongs_to_no_request_is_read_by_one_stream_at_a_time() {
    let (session, _from_client) = Session::new();
    session.route(changed("a")).unwrap();
    let mut first = Box::pin(session.standalone(None));
    let mut second = Box::pin(session.standalone(None));
    assert_eq!(first.next().await.unwrap().event_id.unwrap(), "1", "it was kept until there was a reader");
    session.route(changed("b")).unwrap();
    assert!(is_waiting(second.next()));
    assert_eq!(first.next().await.unwrap().event_id.unwrap(), "2");
    drop(first);
    session.route(changed("c")).unwrap();
    assert_eq!(second.next().await.unwrap().event_id.unwrap(), "3", "the next goes on where the first was");
    drop(second);
    let again: Vec<_> = session.standalone(Some(1)).take(2).collect().await;
    let ids: Vec<_> = again.iter().map(|event| event.event_id.as_deref().unwrap()).collect();
    assert_eq!(ids, ["2", "3"]);
    for number in 0..1000 {
        session.route(changed(&format!("{number}"))).unwrap();
    }
    assert!(session.standalone.bytes() <= MAX_STANDALONE_BYTES);
    let newest = 1003;
    let reading = session.standalone(Some(newest - 1));
    assert_eq!(pin!(reading).next().await.unwrap().event_id.unwrap(), newest.to_string());
}

#[tokio::test]
async fn messages_are_put_on_the_stream_of_their_request() {
    let (session, mut from_client) = Session::new();
    let priming = Some(ServerSseMessage::retry(Duration::from_secs(3)));
    let mut one = Box::pin(session.request(call(1), priming).await.unwrap());
    let two = session.request(call(2), None).await.unwrap();
    assert!(from_client.recv().await.is_some() && from_client.recv().await.is_some());
    let progress = json!({"progressToken": "token 2", "progress": 1.0});
    let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress});
    session.route(from_server(progress)).unwrap();
    // A question with the number of another request, and its withdrawal.
    let asks = json!({"message": "Sure?", "requestedSchema": {"type": "object", "properties": {}}});
    let asks = json!({"jsonrpc": "2.0", "id": 2, "method": "elicitation/create", "params": asks});
    let mut asks = from_server(asks);
    if let ServerJsonRpcMessage::Request(request) = &mut asks {
        request.request.extensions_mut().insert(OriginatingRequestId(RequestId::Number(1)));
    }
    session.route(asks).unwrap();
    let withdrawn = json!({"requestId": 2, "reason": "answered elsewhere"});
    let withdrawn = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": withdrawn});
    session.route(from_server(withdrawn)).unwrap();
    let again: Vec<_> = session.request(call(1), None).await.unwrap().collect().await;
    assert_eq!(shown(&again[0]).1, "-32600", "a second one with the same id");
    session.route(answer(2)).unwrap();
    session.route(answer(1)).unwrap();
    let told: Vec<_> = two.map(|event| shown(&event)).collect().await;
    let expected = [("1/1", "notifications/progress"), ("2/1", "")];
    assert_eq!(told, expected.map(|(id, method)| (id.to_owned(), method.to_owned())));
    assert_eq!(shown(&one.next().await.unwrap()).0, "0/0", "where to go on from");
    let told: Vec<_> = one.map(|event| shown(&event)).collect().await;
    let expected = [("1/0", "elicitation/create"), ("2/0", "notifications/cancelled"), ("3/0", "")];
    assert_eq!(told, expected.map(|(id, method)| (id.to_owned(), method.to_owned())));
    let rest: Vec<_> = session.resume(0, 1).unwrap().map(|event| shown(&event).0).collect().await;
    assert_eq!(rest, ["2/0", "3/0"]);
    assert!(session.resume(7, 0).is_none());
}

#[tokio::test]
async fn the_end_ends_every_stream() {
    let (session, mut from_client) = Session::new();
    let request = session.request(call(1), None).await.unwrap();
    assert!(session.last_work().is_some(), "it works");
    let (reading, waiting) = (session.standalone(None), session.standalone(None));
    let (mut reading, mut waiting) = (Box::pin(reading), Box::pin(waiting));
    assert!(is_waiting(reading.next()) && is_waiting(waiting.next()));
    session.end();
    assert_eq!(request.count().await, 0);
    assert!(waiting.next().await.is_none() && reading.next().await.is_none());
    assert!(session.request(call(2), None).await.is_err() && session.route(changed("a")).is_err());
    assert!(from_client.recv().await.is_some() && from_client.recv().await.is_none());
}
