//! TERM with open streams, half-open sockets and running jobs: not ready, new jobs refused at once, gone in time.

use std::time::{Duration, Instant};

use conductor_gateway::pb;
use prost::Message;
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
    not_ready_after: Duration,
    refused_after: Duration,
    gone_after: Duration,
}

async fn leave(wait: Duration, delay: Duration) -> Left {
    let options = Options::default()
        .set("server.shutdown_grace_seconds", GRACE.as_secs())
        .set("conductor.kill_grace_seconds", 1)
        .set("server.shutdown_delay_seconds", delay.as_secs())
        .set("jobs.max_running", 3)
        // What is asked for during the delay is taken, as fast as it comes.
        .set("jobs.max_queued", 100_000);
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
                // Either the job's end, or a status that says that the gateway ends.
                let mut is_ended = false;
                while let Some(frame) = frames.message().await.transpose() {
                    match frame {
                        Ok(frame) => {
                            is_ended |= frame.event.is_some_and(|event| {
                                let event = pb::JobEvent::decode(event).unwrap();
                                matches!(event.payload, Some(pb::job_event::Payload::EndOfStream(_)))
                            })
                        }
                        Err(status) => {
                            assert_eq!(status.code(), tonic::Code::Aborted, "{status}");
                            is_ended = true;
                        }
                    }
                }
                assert!(is_ended, "an end, or a reason");
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
    let address = gateway.address.clone();
    let not_ready = tokio::spawn(async move {
        loop {
            let ready =
                try_send(&address, "GET", "/health/ready", &[], None).await.expect("the door is open");
            if ready.status == 503 {
                return started.elapsed();
            }
        }
    });
    let body = run("ok", "late").to_string().into_bytes();
    let mut refused_after = None;
    while refused_after.is_none() {
        let headers = [("content-type", "application/json")];
        let submitted =
            try_send(&gateway.address, "POST", "/api/v1/stream-execute", &headers, Some(body.clone())).await;
        match submitted {
            // Taken in the moment before the signal was heard.
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) => {
                assert_eq!((answer.status, &answer.json()["reason"]), (503, &"SHUTTING_DOWN".into()));
                assert!(answer.headers.contains_key("retry-after"));
                refused_after = Some(started.elapsed());
            }
            Err(error) => panic!("the door was shut before anybody was told: {error}"),
        }
    }
    let status = tokio::task::block_in_place(|| gateway.wait(delay + GRACE + Duration::from_secs(5)));
    let gone_after = started.elapsed();
    assert_eq!(status.and_then(|status| status.code()), Some(0), "{}", gateway.log.lock().unwrap());
    assert!(alive_in(gateway.directory.path()).is_empty(), "nothing is left");
    readers.join_all().await;
    let not_ready_after = not_ready.await.unwrap();
    Left { not_ready_after, refused_after: refused_after.unwrap(), gone_after }
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving() {
    let mut scenario = Scenario::begin("leaving").await;
    let times = size(5, 100);
    let (mut refused, mut gone) = (Duration::ZERO, Duration::ZERO);
    let mut ready = Duration::ZERO;
    for time in 0..times {
        // With a delay for load balancers now and then: so long it says that it is not ready, and takes jobs.
        let delay = Duration::from_secs(u64::from(time % 5 == 4));
        let left = leave(scenario.random.millis_below(300), delay).await;
        let Left { not_ready_after, refused_after, gone_after } = left;
        assert!(not_ready_after < Duration::from_millis(100), "not ready after {not_ready_after:?}");
        assert!(refused_after >= delay, "taken for as long as the delay: {refused_after:?}");
        assert!(refused_after < delay + Duration::from_millis(100), "refused after {refused_after:?}");
        assert!(gone_after < delay + GRACE + Duration::from_secs(1), "gone after {gone_after:?}");
        let (refused_after, gone_after) = (refused_after - delay, gone_after - delay);
        ready = ready.max(not_ready_after);
        (refused, gone) = (refused.max(refused_after), gone.max(gone_after));
    }
    scenario.report(format_args!(
        "{times} of {times} left in time with {STREAMS} streams and {} half-open sockets: not ready after {ready:.0?}, refused after {refused:.0?} at \
         most, gone after {gone:.2?} with a grace of {GRACE:?}",
        HALF_OPEN.len()
    ));
}
