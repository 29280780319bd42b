//! Deadlines and bounds of the listener.

use std::time::{Duration, Instant};

use conductor_gateway::pb;
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Gateway, Options};

#[tokio::test]
async fn silent_and_slow_sockets_are_closed() {
    let gateway = Gateway::start_with(Options::default().set("server.request_timeout_seconds", 1));
    let beginnings: [&[u8]; 4] = [
        b"",
        b"PRI * HTTP/2.0\r\n\r\nSM",
        b"GET /health HTTP/1.1\r\nhost: loc",
        b"POST /execute HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"comm",
    ];
    for bytes in beginnings {
        let mut socket = TcpStream::connect(&gateway.address).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let started = Instant::now();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut answer)).await;
        let text = String::from_utf8_lossy(bytes).into_owned();
        if bytes.starts_with(b"POST") {
            // It is answered, and the connection is then idle until its next header is due.
            assert!(
                String::from_utf8_lossy(&answer).contains("408"),
                "{text}: {}",
                String::from_utf8_lossy(&answer)
            );
        }
        assert!(read.is_ok(), "{text:?} held its connection for {:?}", started.elapsed());
        assert!(started.elapsed() >= Duration::from_millis(900), "{text:?}");
    }
    assert_eq!(gateway.get("/health").await.status, 200);
    // The other port's is answered in the same way.
    let mcp = gateway.mcp.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
    let mut socket = TcpStream::connect(&mcp).await.unwrap();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: {mcp}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.contains("408") && answer.contains("REQUEST_TIMED_OUT"), "{answer}");
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_closed() {
    let options = Options::default()
        .set("server.stall_timeout_seconds", 1)
        .set("conductor.max_output_bytes", 64 * 1024 * 1024);
    let gateway = Gateway::mean(options);
    let job_id = gateway.submit_mean("flood 48").await;
    let mut socket = TcpStream::connect(&gateway.address).await.unwrap();
    let request = format!("GET /api/v1/stream/{job_id} HTTP/1.1\r\nhost: {}\r\n\r\n", gateway.address);
    socket.write_all(request.as_bytes()).await.unwrap();
    // Another reader is not held up meanwhile.
    let events = gateway.events(&job_id).await;
    assert_eq!(events.last().unwrap()["data"]["state"], "SUCCEEDED");
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let mut taken = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut taken)).await;
    assert!(read.is_ok(), "the connection is closed");
    assert!(taken.len() < 40 * 1024 * 1024, "{} bytes came all the same", taken.len());
}

async fn next_event(
    frames: &mut tonic::Streaming<pb::EventFrame>,
) -> Result<Option<pb::JobEvent>, tonic::Status> {
    while let Some(frame) = frames.message().await? {
        if let Some(event) = frame.event {
            return Ok(Some(pb::JobEvent::decode(event).unwrap()));
        }
    }
    Ok(None)
}

/// A client of HTTP/2 whose library answers pings while nobody reads the stream: what an application that hangs looks like.
#[tokio::test]
async fn a_grpc_stream_that_is_not_read_is_reset_and_no_other_one() {
    let options = Options::default()
        .set("server.stall_timeout_seconds", 1)
        .set("server.heartbeat_seconds", 1)
        .set("conductor.max_output_bytes", 64 * 1024 * 1024);
    let gateway = Gateway::mean(options);
    let flood = gateway.submit_mean("flood 8").await;
    let all = gateway.watch(&flood, 0).await;
    let mut client = gateway.grpc().await;
    let request = |job_id: &str| pb::WatchJobRequest { job_id: job_id.to_owned(), after_sequence: 0 };
    let mut unread = client.watch_job(request(&flood)).await.unwrap().into_inner();

    // Others on the same connection, which may be other clients' behind a proxy: one moves, one only waits.
    let drip = gateway.submit_mean("drip 400 10").await;
    let mut moving = client.watch_job(request(&drip)).await.unwrap().into_inner();
    let waits = gateway.submit_mean("drip 2 3500").await;
    let mut waiting = client.watch_job(request(&waits)).await.unwrap().into_inner();
    let started = Instant::now();
    for other in [&mut moving, &mut waiting] {
        let mut last = None;
        while let Some(event) = next_event(other).await.expect("only the stream that is not read is reset") {
            last = event.payload;
        }
        assert!(matches!(last, Some(pb::job_event::Payload::EndOfStream(_))), "{last:?}");
    }
    assert!(started.elapsed() > Duration::from_millis(2500), "longer than the time-out");

    let mut cursor = 0;
    let status = loop {
        match next_event(&mut unread).await {
            Ok(Some(event)) => cursor = event.sequence,
            Ok(None) => panic!("the stream ended as if it were whole"),
            Err(status) => break status,
        }
    };
    assert!(cursor > 0 && (cursor as usize) < all.len(), "{cursor} of {}", all.len());
    // HTTP/2's CANCEL (PROTOCOL-HTTP2 of gRPC, "Errors").
    assert_eq!(status.code(), tonic::Code::Cancelled, "{status}");
    let rest = gateway.watch(&flood, cursor).await;
    assert_eq!(rest.first().unwrap().sequence, cursor + 1, "the last sequence is the cursor");
    assert_eq!(rest.len() + cursor as usize, all.len());
    assert!(client.list_jobs(pb::ListJobsRequest::default()).await.is_ok(), "the connection is whole");
}

/// A client that is slow, and takes something all the time, is not one that takes nothing.
#[tokio::test]
async fn a_slow_reader_is_kept() {
    let options = Options::default()
        .set("server.stall_timeout_seconds", 1)
        .set("conductor.max_output_bytes", 64 * 1024 * 1024);
    let gateway = Gateway::mean(options);
    let flood = gateway.submit_mean("flood 1").await;
    let all = gateway.watch(&flood, 0).await;
    let mut client = gateway.grpc().await;
    let request = pb::WatchJobRequest { job_id: flood, after_sequence: 0 };
    let mut slow = client.watch_job(request).await.unwrap().into_inner();
    let mut read = 0;
    let started = Instant::now();
    while let Some(event) = next_event(&mut slow).await.expect("it takes something all the time") {
        read += 1;
        assert_eq!(event.sequence, read);
        // As many as make it last for several time-outs.
        if (read as usize).is_multiple_of((all.len() / 10).max(1)) {
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
    }
    assert_eq!(read as usize, all.len());
    assert!(started.elapsed() > Duration::from_secs(3), "longer than the time-out");
}
