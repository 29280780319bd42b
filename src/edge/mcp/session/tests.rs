//! Tests of `session.rs`.

use std::pin::pin;

use rmcp::model::GetExtensions;
use rmcp::service::OriginatingRequestId;
use serde_json::{Value, json};

use super::*;

fn from_client_message(message: Value) -> ClientJsonRpcMessage {
    serde_json::from_value(message).unwrap()
}

fn call(id: u32) -> ClientJsonRpcMessage {
    let params = json!({"name": "x", "arguments": {}, "_meta": {"progressToken": format!("token {id}")}});
    from_client_message(json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}))
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

fn cancelled(id: u32) -> ClientJsonRpcMessage {
    let params = json!({"requestId": id});
    from_client_message(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}))
}

/// Opens a session whose client speaks a version.
async fn opened(version: &str) -> (Session, mpsc::Receiver<ClientJsonRpcMessage>) {
    let (session, mut from_client) = Session::new();
    let params =
        json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}});
    let opens = json!({"jsonrpc": "2.0", "id": 7, "method": "initialize", "params": params});
    let result =
        json!({"protocolVersion": version, "capabilities": {}, "serverInfo": {"name": "x", "version": "1"}});
    let answers = async {
        from_client.recv().await.unwrap();
        session.route(from_server(json!({"jsonrpc": "2.0", "id": 7, "result": result}))).unwrap();
    };
    let (answered, ()) = tokio::join!(session.initialize(from_client_message(opens)), answers);
    answered.unwrap();
    (session, from_client)
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
async fn what_belongs_to_no_request_is_read_by_the_newest_stream() {
    let (session, _from_client) = opened("2025-06-18").await;
    let ids = |events: &[ServerSseMessage]| -> Vec<String> {
        events.iter().map(|event| event.event_id.clone().unwrap()).collect()
    };
    session.route(changed("a")).unwrap();
    let mut first = Box::pin(session.standalone(None));
    assert_eq!(first.next().await.unwrap().event_id.unwrap(), "1", "it was kept until there was a reader");
    // The connection of the first has died, which nobody knows yet.
    let mut second = Box::pin(session.standalone(None));
    session.route(changed("b")).unwrap();
    assert!(is_waiting(first.next()));
    assert_eq!(second.next().await.unwrap().event_id.unwrap(), "2");
    drop(second);
    session.route(changed("c")).unwrap();
    assert_eq!(first.next().await.unwrap().event_id.unwrap(), "3", "it goes on where the newer one was");
    drop(first);
    let again: Vec<_> = session.standalone(Some(1)).take(2).collect().await;
    assert_eq!(ids(&again), ["2", "3"]);
    // What was never sent is no place to go on from.
    drop(session.standalone(Some(u64::MAX)));
    for number in 0..1000 {
        session.route(changed(&format!("{number}"))).unwrap();
    }
    assert!(session.standalone.bytes() <= 16 * 1024);
    let kept: Vec<_> = session.standalone(None).take(50).collect().await;
    assert!(ids(&kept).iter().all(|id| id.parse::<u64>().unwrap() > 800), "{:?}", ids(&kept));

    let (session, _from_client) = opened("2025-11-25").await;
    session.route(changed("a")).unwrap();
    let events: Vec<_> = session.standalone(None).take(2).collect().await;
    assert_eq!((ids(&events), events[0].message.is_none()), (vec!["0".into(), "1".into()], true));
    let events: Vec<_> = session.standalone(None).take(1).collect().await;
    assert_eq!(ids(&events), ["1"], "where to go on from");
}

#[tokio::test]
async fn messages_are_put_on_the_stream_of_their_request() {
    let (session, mut from_client) = opened("2025-11-25").await;
    let mut one = Box::pin(session.request(call(1)).await.unwrap());
    let two = session.request(call(2)).await.unwrap();
    assert!(from_client.recv().await.is_some() && from_client.recv().await.is_some());
    let progress = |token: u32| {
        let progress = json!({"progressToken": token, "progress": 1.0});
        from_server(json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}))
    };
    session.route(progress(1)).unwrap();
    // A question with the number of another request, and its withdrawal.
    let asks = json!({"message": "Sure?", "requestedSchema": {"type": "object", "properties": {}}});
    let asks = json!({"jsonrpc": "2.0", "id": 1, "method": "elicitation/create", "params": asks});
    let asks_of = |number: i64| {
        let mut asks = from_server(asks.clone());
        if let ServerJsonRpcMessage::Request(request) = &mut asks {
            request.request.extensions_mut().insert(OriginatingRequestId(RequestId::Number(number)));
        }
        asks
    };
    session.route(asks_of(0)).unwrap();
    let withdrawn = json!({"requestId": 1, "reason": "answered elsewhere"});
    let withdrawn = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": withdrawn});
    session.route(from_server(withdrawn)).unwrap();
    let again: Vec<_> = session.request(call(1)).await.unwrap().collect().await;
    assert_eq!(shown(&again[0]).1, "-32600", "a second one with the same id");
    session.route(answer(1)).unwrap();
    session.route(answer(0)).unwrap();
    // What comes of a call that is over goes nowhere.
    session.route(progress(1)).unwrap();
    assert!(session.route(asks_of(0)).is_err());
    assert!(is_waiting(pin!(session.standalone(Some(0))).next()));
    let events: Vec<_> = two.collect().await;
    let progress = serde_json::to_value(events[1].message.as_deref()).unwrap();
    assert_eq!(progress["params"]["progressToken"], "token 2", "the client's own token");
    let told: Vec<_> = events.iter().map(shown).collect();
    let expected = [("0/1", ""), ("1/1", "notifications/progress"), ("2/1", "")];
    assert_eq!(told, expected.map(|(id, method)| (id.to_owned(), method.to_owned())));
    assert_eq!(shown(&one.next().await.unwrap()).0, "0/0", "where to go on from");
    let events: Vec<_> = one.collect().await;
    let told: Vec<_> = events.iter().map(shown).collect();
    let expected = [("1/0", "elicitation/create"), ("2/0", "notifications/cancelled"), ("3/0", "")];
    assert_eq!(told, expected.map(|(id, method)| (id.to_owned(), method.to_owned())));
    let answer = serde_json::to_value(events[2].message.as_deref()).unwrap();
    assert_eq!(answer["id"], 1, "the client's own id");
    let rest: Vec<_> = session.resume(0, 1).unwrap().map(|event| shown(&event).0).collect().await;
    assert_eq!(rest, ["2/0", "3/0"]);
    assert!(session.resume(7, 0).is_none());
}

/// A request that was cancelled is another one than the next with its id.
#[tokio::test]
async fn an_id_that_is_used_again_is_another_request() {
    let (session, mut from_client) = opened("2025-06-18").await;
    let first = session.request(call(1)).await.unwrap();
    session.accept(cancelled(1)).await.unwrap();
    let second = session.request(call(1)).await.unwrap();
    session.accept(cancelled(9)).await.unwrap();
    let mut given = Vec::new();
    while let Ok(message) = from_client.try_recv() {
        let message = serde_json::to_value(message).unwrap();
        given.push((message["id"].clone(), message["params"]["requestId"].clone()));
    }
    assert_eq!(given, [(json!(0), Value::Null), (Value::Null, json!(0)), (json!(1), Value::Null)]);
    // The answer to the first comes late.
    session.route(answer(0)).unwrap();
    session.route(answer(1)).unwrap();
    assert_eq!((first.count().await, second.count().await), (0, 1));
    // A large answer does not cost what is kept of others, nor itself.
    let text = "x".repeat(5 << 20);
    let small = session.request(call(2)).await.unwrap();
    let large = session.request(call(3)).await.unwrap();
    session.route(answer(2)).unwrap();
    let result = json!({"content": [{"type": "text", "text": text}]});
    session.route(from_server(json!({"jsonrpc": "2.0", "id": 3, "result": result}))).unwrap();
    drop((small, large));
    for number in [2, 3] {
        let kept: Vec<_> = session.resume(number, 0).unwrap().map(|event| shown(&event).1).collect().await;
        assert_eq!(kept, [""], "no error");
    }
}

/// What a client chooses costs it, and not the gateway.
#[tokio::test]
async fn ids_count_as_what_is_kept() {
    let (session, mut from_client) = opened("2025-06-18").await;
    for number in 0..100 {
        let id = format!("{number}{}", "x".repeat(900_000));
        let ping = from_client_message(json!({"jsonrpc": "2.0", "id": id, "method": "ping"}));
        let _stream = session.request(ping).await.unwrap();
        from_client.recv().await.unwrap();
        if number % 2 == 0 {
            let params = json!({"requestId": id});
            let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
            session.accept(from_client_message(cancel)).await.unwrap();
            from_client.recv().await.unwrap();
        } else {
            session.route(answer(number)).unwrap();
        }
    }
    let state = lock(&session.state);
    assert!(state.routes.ended_bytes() < 6 << 20, "{}", state.routes.ended_bytes());
    assert!(state.routes.removed(0).is_none() && state.routes.removed(90).is_none());
}

#[tokio::test]
async fn the_end_ends_every_stream_and_call() {
    let (session, mut from_client) = opened("2025-06-18").await;
    let request = session.request(call(1)).await.unwrap();
    assert!(session.last_work().is_some(), "it works");
    let (older, newer) = (session.standalone(None), session.standalone(None));
    let (mut older, mut newer) = (Box::pin(older), Box::pin(newer));
    assert!(is_waiting(older.next()) && is_waiting(newer.next()));
    session.end();
    assert_eq!(request.count().await, 0);
    assert!(older.next().await.is_none() && newer.next().await.is_none());
    assert!(session.request(call(2)).await.is_err() && session.route(changed("a")).is_err());
    assert!(from_client.recv().await.is_some() && from_client.recv().await.is_none());
    let cancels = serde_json::to_value(session.next_cancellation()).unwrap();
    assert_eq!(
        (&cancels["method"], &cancels["params"]["requestId"]),
        (&json!("notifications/cancelled"), &json!(0))
    );
    assert!(session.next_cancellation().is_none());
}
