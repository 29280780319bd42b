//! A scripted model server: it answers each request with the next script, byte by byte as it is told, and remembers
//! what it was asked and whether the client left.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// One thing that the server does.
#[derive(Clone)]
pub enum Act {
    /// The status line and headers.
    Head(u16, Vec<(&'static str, String)>),
    /// Bytes of the body.
    Send(Vec<u8>),
    /// Waits until the test adds a permit.
    Hold(Arc<Semaphore>),
    /// Says nothing more and stays.
    Silence,
    /// Ends the connection rudely.
    Reset,
}

pub type Script = Vec<Act>;

/// A request as it came.
#[derive(Clone)]
pub struct Asked {
    pub path: String,
    pub headers: String,
    pub body: Value,
}

pub struct ModelServer {
    pub address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    left: Arc<AtomicUsize>,
}

impl ModelServer {
    /// The nth request gets the nth script; later ones the last.
    pub async fn start(scripts: Vec<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (asked, left) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::<AtomicUsize>::default());
        let (seen, gone) = (asked.clone(), left.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, scripts.clone(), seen.clone(), gone.clone()));
            }
        });
        Self { address, asked, left }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How many clients left before the script's end.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

async fn serve(
    mut stream: TcpStream,
    scripts: Vec<Script>,
    seen: Arc<Mutex<Vec<Asked>>>,
    left: Arc<AtomicUsize>,
) {
    let Some(asked) = Box::pin(read_request(&mut stream)).await else { return };
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(asked);
        seen.len() - 1
    };
    let script = scripts.get(number).or(scripts.last()).cloned().unwrap_or_default();
    for act in script {
        let sent = match act {
            Act::Head(status, headers) => {
                let mut head = format!("HTTP/1.1 {status} Scripted\r\nconnection: close\r\n");
                for (name, value) in headers {
                    head += &format!("{name}: {value}\r\n");
                }
                stream.write_all(format!("{head}\r\n").as_bytes()).await
            }
            Act::Send(bytes) => stream.write_all(&bytes).await,
            Act::Hold(permits) => {
                tokio::select! {
                    permit = permits.acquire() => {
                        permit.unwrap().forget();
                        Ok(())
                    }
                    () = closed(&mut stream) => Err(std::io::ErrorKind::BrokenPipe.into()),
                }
            }
            Act::Silence => {
                closed(&mut stream).await;
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            Act::Reset => {
                // With unread data in the socket, closing it sends a reset.
                stream.set_zero_linger().unwrap();
                return;
            }
        };
        if sent.is_err() {
            left.fetch_add(1, Ordering::SeqCst);
            return;
        }
    }
    let _flushed = stream.shutdown().await;
}

/// Ends when the client has closed its side.
async fn closed(stream: &mut TcpStream) {
    let mut buffer = [0; 64];
    while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {}
}

async fn read_request(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            let body = &bytes[end + 4..];
            if body.len() >= length.unwrap_or(0) {
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                return Some(Asked {
                    path,
                    headers: head,
                    body: serde_json::from_slice(body).unwrap_or_default(),
                });
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}

/// A 200 with a stream of events.
pub fn stream_head() -> Act {
    Act::Head(200, vec![("content-type", "text/event-stream".into())])
}

pub fn status(status: u16, headers: &[(&'static str, &str)], body: &str) -> Script {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    vec![Act::Head(status, headers), Act::Send(body.as_bytes().to_vec())]
}

/// A whole stream.
pub fn stream(body: impl AsRef<[u8]>) -> Script {
    vec![stream_head(), Act::Send(body.as_ref().to_vec())]
}

/// The chunks of OpenAI's chat completions.
pub mod openai {
    use super::*;

    pub fn data(value: &Value) -> String {
        format!("data: {value}\n\n")
    }

    pub fn chunk(delta: Value, finish: Value) -> String {
        data(&json!({
            "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }))
    }

    pub fn text(text: &str) -> String {
        chunk(json!({ "content": text }), Value::Null)
    }

    pub fn calls(calls: Value) -> String {
        chunk(json!({ "tool_calls": calls }), Value::Null)
    }

    pub fn call(index: u32, id: &str, name: &str, arguments: &Value) -> String {
        let function = json!({"name": name, "arguments": arguments.to_string()});
        calls(json!([{"index": index, "id": id, "type": "function", "function": function}]))
    }

    pub fn finish(reason: &str) -> String {
        chunk(json!({}), json!(reason))
    }

    pub fn usage(input: u32, output: u32) -> String {
        data(&json!({
            "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [],
            "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output},
        }))
    }

    pub const DONE: &str = "data: [DONE]\n\n";

    /// A turn that calls tools.
    pub fn call_turn(made: &[(&str, &str, Value)]) -> Script {
        let mut body = chunk(json!({"role": "assistant", "content": null}), Value::Null);
        for (index, (id, name, arguments)) in made.iter().enumerate() {
            body += &call(u32::try_from(index).unwrap(), id, name, arguments);
        }
        stream(body + &finish("tool_calls") + &usage(10, 5) + DONE)
    }

    /// A turn that answers.
    pub fn answer_turn(words: &[&str]) -> Script {
        let body: String = words.iter().map(|word| text(word)).collect();
        stream(body + &finish("stop") + &usage(20, 7) + DONE)
    }
}
