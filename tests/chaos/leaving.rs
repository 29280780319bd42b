//! TERM with open streams, half-open sockets and running jobs: not ready, new jobs refused at once, gone in time.

use std::time::{Duration, Instant};

use conductor_gateway::pb;
use rustix::process::Signal;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    checker::run,
    scenario::{Scenario, size},
    support::{Gateway, Options, alive_in, try_send},
};

const GRACE: Duration = Duration::from_secs(2);
const STREAMS: usize = 50;
const HALF_OPEN: [&[u8]; 5] = [
    b"",
    b"PRI * HTTP/2.0\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/1.1\r\nHos",
    b"POST /execute HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{",
];

struct Left {
    refused_after: Duration,
    gone_after: Duration,
}

async fn leave(wait: Duration) -> Left {
    let options = Options::default()
        .set("server.shutdown_grace_seconds", GRACE.as_secs())
        .set("conductor.kill_grace_seconds", 1)
        .set("jobs.max_running", 3);
    let mut gateway = Gateway::mean(options);
    let mut jobs = Vec::new();
    for (number, input) in ["hang", "ignore-term", "escaped-grandchild", "ok", "ok"].into_iter().enumerate() {
        jobs.push(gateway.submit(&run(input, &format!("c{number}"))).await);
    }
    let mut client = gateway.grpc().await;
    let mut readers = tokio::task::JoinSet::new();
    for number in 0..STREAMS {
        let job_id = jobs[number % jobs.len()].clone();
        if number % 2 == 0 {
            let mut reader = gateway.sse(&job_id, 0).await;
            readers.spawn(async move {
                let last = reader.rest().await.pop().unwrap();
                let name = last["event"].as_str().unwrap().to_owned();
                assert!(name == "end_of_stream" || last["data"]["reason"] == "SHUTTING_DOWN", "{last}");
            });
        } else {
            let request = pb::WatchJobRequest { job_id, after_sequence: 0 };
            let mut frames = client.watch_job(request).await.unwrap().into_inner();
            readers.spawn(async move {
                // Either the job's end, or a status with the cursor to go on from.
                while let Some(frame) = frames.message().await.transpose() {
                    match frame {
                        Ok(_) => {}
                        Err(status) => assert_eq!(status.code(), tonic::Code::Aborted, "{status}"),
                    }
                }
            });
        }
    }
    let mut half_open = Vec::new();
    for bytes in HALF_OPEN {
        let mut socket = TcpStream::connect(&gateway.address).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        half_open.push(socket);
    }
    tokio::time::sleep(wait).await;
    let started = Instant::now();
    gateway.signal(Signal::TERM);
    let body = run("ok", "late").to_string().into_bytes();
    let mut refused_after = None;
    while refused_after.is_none() {
        let headers = [("content-type", "application/json")];
        let sent = Instant::now();
        let submitted =
            try_send(&gateway.address, "POST", "/api/v1/stream-execute", &headers, Some(body.clone())).await;
        match submitted {
            // Taken in the moment before the signal was heard.
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) => {
                assert_eq!((answer.status, &answer.json()["reason"]), (503, &"SHUTTING_DOWN".into()));
                assert!(answer.headers.contains_key("retry-after"));
                // What was sent by then is refused; what the answer takes on its way is the machine's.
                refused_after = Some(sent.duration_since(started));
                let ready = gateway.get("/health/ready").await;
                assert_eq!(ready.status, 503, "not ready by then");
            }
            Err(error) => panic!("the door was shut before anybody was told: {error}"),
        }
    }
    let status = tokio::task::block_in_place(|| gateway.wait(GRACE + Duration::from_secs(5)));
    let gone_after = started.elapsed();
    assert_eq!(status.and_then(|status| status.code()), Some(0), "{}", gateway.log.lock().unwrap());
    assert!(alive_in(gateway.directory.path()).is_empty(), "nothing is left");
    readers.join_all().await;
    Left { refused_after: refused_after.unwrap(), gone_after }
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving() {
    let mut scenario = Scenario::begin("leaving").await;
    let times = size(5, 100);
    let (mut refused, mut gone) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..times {
        let left = leave(scenario.random.millis_below(300)).await;
        assert!(left.refused_after < Duration::from_millis(100), "refused after {:?}", left.refused_after);
        assert!(left.gone_after < GRACE + Duration::from_secs(1), "gone after {:?}", left.gone_after);
        (refused, gone) = (refused.max(left.refused_after), gone.max(left.gone_after));
    }
    scenario.report(format_args!(
        "{times} of {times} left in time with {STREAMS} streams and {} half-open sockets: refused after {refused:.0?} at \
         most, gone after {gone:.2?} with a grace of {GRACE:?}",
        HALF_OPEN.len()
    ));
}
