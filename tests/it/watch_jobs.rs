//! Many jobs on one stream: named ones with their events, and all of a caller's as their states change.

use std::{collections::BTreeMap, time::Duration};

use conductor_gateway::pb;
use serde_json::{Value, json};

use crate::support::{Gateway, Options, SseReader, send};

async fn watch(gateway: &Gateway, query: &str, cursor: &str) -> SseReader {
    let path = format!("/api/v1/watch{query}");
    SseReader::try_open_at(&gateway.address, &path, cursor, &[]).await.unwrap()
}

/// Reads to the end of a stream, or until `is_enough`. Answers with the documents and the last cursor.
async fn read(reader: &mut SseReader, is_enough: impl Fn(&[Value]) -> bool) -> (Vec<Value>, String) {
    let (mut documents, mut cursor) = (Vec::new(), String::new());
    while !is_enough(&documents) {
        let next = tokio::time::timeout(Duration::from_secs(30), reader.next_raw()).await;
        let Some(event) = next.expect("something comes within 30 seconds") else { break };
        if !event.id.is_empty() {
            cursor = event.id;
        }
        if !event.data.is_empty() {
            documents.push(serde_json::from_str(&event.data).unwrap());
        }
    }
    (documents, cursor)
}

fn by_job(events: &[Value]) -> BTreeMap<String, Vec<u64>> {
    let mut sequences: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for event in events {
        let job_id = event["job_id"].as_str().unwrap().to_owned();
        sequences.entry(job_id).or_default().push(event["sequence"].as_u64().unwrap());
    }
    sequences
}

#[tokio::test]
async fn named_jobs_come_with_every_event_and_go_on_after_a_cut() {
    let gateway = Gateway::mean(Options::default());
    let go_on = gateway.path("go-on");
    let slow = gateway.submit_mean(&format!("two-parts {}", go_on.display())).await;
    // Runs of one agent take turns, so the other job needs none.
    let quick = gateway.submit(&json!({"command": "list the agents"})).await;
    let query = format!("?job={slow},{quick}");
    let mut reader = watch(&gateway, &query, "").await;
    assert_eq!(
        (reader.status, &reader.headers["content-type"]),
        (200, &"text/event-stream; charset=utf-8".parse().unwrap())
    );
    let both_there = |events: &[Value]| {
        events.iter().any(|event| event["event"] == "end_of_stream")
            && events.iter().any(|event| event["event"] == "on_tool_output" && event["job_id"] == json!(slow))
    };
    let (mut events, mut cursor) = read(&mut reader, both_there).await;
    if cursor.is_empty() {
        cursor = read(&mut reader, |_| true).await.1;
    }
    drop(reader);
    std::fs::write(&go_on, "").unwrap();
    let mut reader = watch(&gateway, &query, &cursor).await;
    let (later, last) = read(&mut reader, |_| false).await;
    // What came after the last cursor may come again, and shows it by its sequence.
    for event in later {
        if !events
            .iter()
            .any(|seen| seen["job_id"] == event["job_id"] && seen["sequence"] == event["sequence"])
        {
            events.push(event);
        }
    }
    for (job_id, sequences) in by_job(&events) {
        let whole = gateway.events(&job_id).await;
        assert_eq!(sequences, (1..=whole.len() as u64).collect::<Vec<_>>(), "{job_id}");
        let own: Vec<&Value> = events.iter().filter(|event| event["job_id"] == json!(job_id)).collect();
        assert!(own.iter().zip(&whole).all(|(one, other)| *one == other), "the same events as of WatchJob");
    }
    assert_eq!(watch(&gateway, &query, &last).await.status, 204, "everything was seen");
    let wrong = watch(&gateway, &format!("?job={quick}"), &last).await;
    assert_eq!(wrong.status, 400, "a cursor of other jobs");
    assert_eq!(watch(&gateway, "?job=job_00000000000000000000000000000000000a", "").await.status, 404);
    assert_eq!(watch(&gateway, &format!("?job={quick}&job={quick}"), "").await.status, 400);
}

#[tokio::test]
async fn named_jobs_over_grpc_are_the_stored_bytes() {
    use prost::Message;
    let gateway = Gateway::mean(Options::default());
    let (one, two) = (gateway.submit_mean("ok").await, gateway.submit_mean("ok").await);
    let position = |job_id: &str| pb::JobPosition { job_id: job_id.to_owned(), after_sequence: 0 };
    let request = pb::WatchJobsRequest { jobs: vec![position(&one), position(&two)], cursor: String::new() };
    let mut frames = gateway.grpc().await.watch_jobs(request.clone()).await.unwrap().into_inner();
    let (mut events, mut cursor) = (BTreeMap::<String, Vec<pb::JobEvent>>::new(), String::new());
    while let Some(frame) = frames.message().await.unwrap() {
        if let Some(event) = frame.event {
            let event = pb::JobEvent::decode(event).unwrap();
            events.entry(event.job_id.clone()).or_default().push(event);
        }
        cursor = frame.cursor.unwrap_or(cursor);
    }
    assert_eq!(events[&one], gateway.watch(&one, 0).await);
    assert_eq!(events[&two], gateway.watch(&two, 0).await);
    let again = gateway.grpc().await.watch_jobs(pb::WatchJobsRequest { cursor, ..request }).await.unwrap();
    assert!(again.into_inner().message().await.unwrap().is_none(), "everything was seen");
}

#[tokio::test]
async fn all_of_a_callers_jobs_are_told_as_their_states_change_and_nobody_elses() {
    let gateway = Gateway::mean(Options::default().set("auth.caller_header", "x-user"));
    let as_user = |user: &'static str| [("x-user", user), ("content-type", "application/json")];
    let submit = async |user: &'static str, body: Value| {
        let body = body.to_string().into_bytes();
        let answer =
            send(&gateway.address, "POST", "/api/v1/stream-execute", &as_user(user), Some(body)).await;
        answer.json()["job_id"].as_str().unwrap().to_owned()
    };
    let go_on = gateway.path("go-on");
    let before = format!("two-parts {}", go_on.display());
    let before = submit("ann", json!({"agent_id": "Mean_Agent", "input_text": before})).await;
    let mut reader =
        SseReader::try_open_at(&gateway.address, "/api/v1/watch", "", &as_user("ann")).await.unwrap();
    let (first, _) = read(&mut reader, |documents| !documents.is_empty()).await;
    assert_eq!((&first[0]["event"], &first[0]["data"]["job_id"]), (&json!("job"), &json!(before)));
    assert!(first[0]["data"]["is_summary"] == json!(true) && first[0]["sequence"].is_null());
    let of_bob = submit("bob", json!({"command": "list the agents"})).await;
    let quick = submit("ann", json!({"command": "list the agents"})).await;
    let has_ended = |job_id: &str, documents: &[Value]| {
        documents.iter().any(|document| {
            document["data"]["job_id"] == json!(job_id) && document["data"]["state"] == json!("SUCCEEDED")
        })
    };
    let (told, cursor) = read(&mut reader, |documents| has_ended(&quick, documents)).await;
    assert!(!told.iter().any(|document| document["data"]["job_id"] == json!(of_bob)));
    let states: Vec<&str> = told
        .iter()
        .filter(|document| document["data"]["job_id"] == json!(quick))
        .map(|document| document["data"]["state"].as_str().unwrap())
        .collect();
    assert_eq!(states.last(), Some(&"SUCCEEDED"), "{states:?}");
    assert_eq!(
        states.iter().filter(|state| **state == "SUCCEEDED").count(),
        1,
        "each state once: {states:?}"
    );
    drop(reader);
    // What ends while nobody looks is told to whoever goes on.
    std::fs::write(&go_on, "").unwrap();
    let whole = SseReader::try_open_as(&gateway.address, &before, 0, &as_user("ann")).await;
    whole.unwrap().rest().await;
    assert!(!cursor.is_empty());
    let mut reader =
        SseReader::try_open_at(&gateway.address, "/api/v1/watch", &cursor, &as_user("ann")).await.unwrap();
    let (told, _) = read(&mut reader, |documents| has_ended(&before, documents)).await;
    assert!(has_ended(&before, &told));
}

#[tokio::test]
async fn a_job_that_waits_is_told_however_many_newer_ones_have_ended() {
    let gateway = Gateway::mean(Options::default());
    let waits = gateway.submit_mean(&format!("two-parts {}", gateway.path("go-on").display())).await;
    gateway.sse(&waits, 0).await.until("on_tool_output").await;
    let mut last = String::new();
    for _ in 0..501 {
        last = gateway.submit(&json!({"tool": "get_system_config", "arguments": {}})).await;
    }
    gateway.events(&last).await;
    let mut reader = watch(&gateway, "", "").await;
    let (told, _) = read(&mut reader, |documents| !documents.is_empty()).await;
    assert_eq!(told[0]["data"]["job_id"], json!(waits));
}

#[tokio::test]
async fn as_many_jobs_as_are_promised_fit_one_stream_and_one_more_is_refused() {
    let gateway = Gateway::mean(Options::default());
    let mut jobs = Vec::new();
    for _ in 0..65 {
        jobs.push(gateway.submit(&json!({"tool": "get_system_config", "arguments": {}})).await);
    }
    let query = format!("?job={}", jobs[..64].join(","));
    let (events, cursor) = read(&mut watch(&gateway, &query, "").await, |_| false).await;
    let ends = events.iter().filter(|event| event["event"] == "end_of_stream").count();
    assert_eq!((ends, by_job(&events).len()), (64, 64));
    assert_eq!(watch(&gateway, &query, &cursor).await.status, 204);
    assert_eq!(watch(&gateway, &format!("?job={}", jobs.join("&job=")), "").await.status, 400);
}
