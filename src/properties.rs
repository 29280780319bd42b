//! Properties that hold for arbitrary bytes, checked by proptest with every `cargo test`, with inputs that fuzzing has found
//! (`fuzz/corpus`), and by the fuzz targets in `fuzz/`. Each property takes any bytes and panics if it does not hold.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    agent::direct_planner::{Plan, plan},
    config,
    edge::http::{body_task, render},
    engine::{Decoder, Stream, read_outcome},
    job::normal,
    journal::{EventBatch, JobId, read_catalogue, read_job_file},
    llm::{Api, Provider, replay},
    pb::{self, job_event::Payload},
};

fn halves(bytes: &[u8]) -> (&[u8], &[u8]) {
    let at = bytes.first().map_or(0, |first| usize::from(*first) % bytes.len());
    bytes.split_at(at)
}

/// Parses the events of a stream strictly according to the HTML standard (9.2.6), with no code of the gateway.
pub fn parse_sse(stream: &[u8]) -> Vec<(String, String)> {
    let text = std::str::from_utf8(stream).expect("a stream is UTF-8");
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.replace("\r\n", "\n").replace('\r', "\n");
    let (mut events, mut id, mut data) = (Vec::new(), String::new(), Vec::new());
    for line in lines.split_inclusive('\n') {
        let Some(line) = line.strip_suffix('\n') else { break };
        if line.is_empty() {
            if !data.is_empty() {
                events.push((id.clone(), data.join("\n")));
            }
            data.clear();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => data.push(value.to_owned()),
            "id" if !value.contains('\0') => value.clone_into(&mut id),
            _ => {}
        }
    }
    events
}

/// Returns payloads with text of an agent, and the same payloads rendered as server-sent events.
pub fn rendered(bytes: &[u8]) -> (Vec<Payload>, Vec<u8>) {
    let (first, second) = halves(bytes);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let payloads = vec![
        Payload::OnToolOutput(pb::ToolOutput { text: text(first), ..pb::ToolOutput::default() }),
        Payload::OnLlmNewToken(pb::LlmNewToken { text: text(second), ..pb::LlmNewToken::default() }),
        Payload::Result(pb::ResultEvent {
            result: text(second),
            structured: Some(pb::Json::from_value(&Value::String(text(bytes)))),
            ..pb::ResultEvent::default()
        }),
        Payload::Error(pb::ErrorEvent {
            reason: text(first),
            message: text(bytes),
            ..pb::ErrorEvent::default()
        }),
    ];
    let batch = EventBatch::of(1, &payloads);
    (payloads, render(&batch).bytes.to_vec())
}

/// Text of an agent cannot escape its event: as many events come out as went in, numbered, each with its own text.
pub fn sse(bytes: &[u8]) {
    let (payloads, stream) = rendered(bytes);
    check_events(&payloads, &parse_sse(&stream));
}

/// Checks that the parsed events are the rendered ones.
pub fn check_events(payloads: &[Payload], events: &[(String, String)]) {
    assert_eq!(events.len(), payloads.len(), "an event escaped its frame");
    for (number, ((id, data), payload)) in events.iter().zip(payloads).enumerate() {
        assert_eq!(*id, (number + 1).to_string());
        let document: Value = serde_json::from_str(data).expect("the data is JSON");
        assert_eq!(document["event"], pb::event_name(payload));
        let (field, said) = match payload {
            Payload::OnToolOutput(output) => ("text", &output.text),
            Payload::OnLlmNewToken(token) => ("text", &token.text),
            Payload::Error(error) => ("message", &error.message),
            Payload::Result(result) => ("result", &result.result),
            other => panic!("not rendered here: {other:?}"),
        };
        assert_eq!(document["data"][field].as_str(), Some(said.as_str()), "the words are the same");
    }
}

/// Output that arrives in arbitrary pieces yields one text: nothing is lost, duplicated or cut within a character, and it never
/// exceeds the limit.
pub fn engine_output(bytes: &[u8]) {
    let Some((head, output)) = bytes.split_first_chunk::<2>() else { return };
    let piece = usize::from(head[0] % 31) + 1;
    let limit = u32::from(head[1]) * 16;
    let mut decoder = Decoder::new(Stream::Stdout, limit);
    let mut chunks: Vec<_> = output.chunks(piece).filter_map(|piece| decoder.push(piece)).collect();
    chunks.extend(decoder.finish());
    let (mut taken, mut text) = (0, String::new());
    for (number, chunk) in chunks.iter().enumerate() {
        assert!(chunk.byte_offset >= taken, "pieces follow one another");
        taken = chunk.byte_offset;
        assert!(!chunk.is_truncated || number + 1 == chunks.len(), "nothing follows the cut");
        text.push_str(&chunk.text);
    }
    let within = &output[..output.len().min(limit as usize)];
    let is_cut = output.len() > limit as usize;
    assert_eq!(chunks.last().is_some_and(|chunk| chunk.is_truncated), is_cut);
    let whole = String::from_utf8_lossy(within);
    assert!(if is_cut { whole.starts_with(&text) } else { *whole == *text }, "{whole:?} {text:?}");
    // Reading an outcome from arbitrary output must not panic.
    let _any = read_outcome(output, "input");
}

/// Any body yields a task or an error, and a task contains what was sent.
pub fn json_body(bytes: &[u8]) {
    let Ok((task, options)) = body_task(bytes) else { return };
    assert!(std::str::from_utf8(bytes).is_ok(), "what makes a task is text");
    // A field that is ignored may hold a number beyond every range, which `Value` rejects; such a body is not checked further.
    let Ok(document) = serde_json::from_slice::<Value>(bytes) else { return };
    if let Some(pb::task::Task::Command(command)) = &task.task {
        let said = ["command", "input"].iter().filter_map(|field| document.get(field)?.as_str());
        let entry = document.pointer("/textEntries/0/content").and_then(Value::as_str);
        assert!(said.chain(entry).any(|said| said == command));
    }
    assert_eq!(
        document.get("conversation_id").and_then(Value::as_str).unwrap_or(""),
        options.conversation_id
    );
}

/// Whatever a door passes on as a task is rejected, or is rendered as one line for every reader and normalises to the same task
/// again.
pub fn task(bytes: &[u8]) {
    use prost::Message;
    let text = String::from_utf8_lossy(bytes).into_owned();
    let call =
        |tool: &str| pb::ToolCall { tool: tool.to_owned(), arguments: Some(pb::Json { text: text.clone() }) };
    let over_grpc = [
        pb::task::Task::ToolCall(call("get_system_config")),
        pb::task::Task::ToolCall(call("get_agent_info")),
        pb::task::Task::Command(text.clone()),
        pb::task::Task::AgentRun(pb::AgentRun { agent_id: "A".to_owned(), input_text: text.clone() }),
    ];
    let tasks = over_grpc.into_iter().map(|task| (pb::Task { task: Some(task) }, pb::TaskOptions::default()));
    let over_http = body_task(bytes).ok();
    let encoded = pb::Task::decode(bytes).ok().map(|task| (task, pb::TaskOptions::default()));
    for (task, options) in tasks.chain(over_http).chain(encoded) {
        let Ok(normal) = normal(Some(task), options) else { continue };
        let again =
            crate::job::normal(Some(normal.task.clone()), normal.options.clone()).expect("it is normal");
        assert_eq!(again.task, normal.task);
        assert_eq!(again.digest, normal.digest);
        let started = pb::JobStarted { task: Some(normal.task), ..pb::JobStarted::default() };
        let payload = Payload::JobStarted(started);
        assert!(payload.encoded_len() < pb::MAX_EVENT_BYTES, "it fits an event");
        let stream = render(&EventBatch::of(1, std::slice::from_ref(&payload))).bytes;
        let events = parse_sse(&stream);
        assert_eq!(events.len(), 1);
        assert!(!events[0].1.chars().any(crate::text::is_hidden), "one line for every reader");
        let document: Value = serde_json::from_str(&events[0].1).expect("the data is JSON");
        assert_eq!(document["event"], "job_started");
    }
}

/// Any command is planned or declined. A planned run of an agent has exactly the text between its quotes as input, and an agent
/// id is never a flag.
pub fn command_line(bytes: &[u8]) {
    let Ok(command) = std::str::from_utf8(bytes) else { return };
    let agents = ["Code_Agent".to_owned(), "Test_Agent".to_owned()];
    if let Plan::Call(call, arguments) = plan(command, &agents) {
        assert!(arguments.is_object());
        assert!(call.confirmation().is_none(), "a plan never destroys");
        if let Some(agent) = arguments.get("agent_id").and_then(Value::as_str) {
            assert!(crate::engine::is_id(agent), "{agent:?}");
        }
    }
    // The input of a quoted command line is what was quoted, whatever it contains.
    if command.contains('\0') || command.trim().is_empty() {
        return;
    }
    let Ok(quoted) = shlex::try_quote(command) else { return };
    let line = format!("conductor --agent Code_Agent --input {quoted}");
    match plan(&line, &agents) {
        Plan::Call(_, arguments) => assert_eq!(arguments["input_text"].as_str(), Some(command)),
        Plan::Decline(why) => assert!(command.len() > 100_000, "{line:?}: {why}"),
        other => panic!("{line:?}: {other:?}"),
    }
}

/// Any configuration is accepted, or rejected with a reason.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let lines = text.lines().filter_map(|line| line.split_once('='));
    let pairs: Vec<(String, String)> = lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let environment: BTreeMap<String, String> = pairs.iter().cloned().collect();
    let sources = config::Sources {
        flags: pairs,
        environment,
        text: Some(text.to_owned()),
        ..config::Sources::default()
    };
    if let Err(mistakes) = config::load(&sources) {
        assert!(!mistakes.0.is_empty() && mistakes.0.iter().all(|mistake| !mistake.is_empty()));
    }
}

/// A catalogue of arbitrary bytes is read up to where it is damaged, and one of arbitrary entries is read to its end.
pub fn catalogue(bytes: &[u8]) {
    read_catalogue(bytes);
}

/// A job file of arbitrary frames can be read to its end, and no gap in it is skipped silently.
pub fn job_file(bytes: &[u8]) {
    read_job_file(bytes);
}

/// A property and its name, which is also the name of its corpus.
pub type Property = (&'static str, fn(&[u8]));

/// The response of a model means the same however its stream is split. The first byte selects the wire format and the split.
pub fn model_stream(bytes: &[u8]) {
    let Some((first, stream)) = bytes.split_first() else { return };
    let speakers = [
        (Provider::OpenAi, Api::Chat),
        (Provider::Anthropic, Api::Chat),
        (Provider::Gemini, Api::Chat),
        (Provider::OpenAi, Api::Responses),
    ];
    let speaker = speakers[usize::from(*first) % speakers.len()];
    let whole = replay(speaker, stream, stream.len().max(1));
    assert_eq!(replay(speaker, stream, 1 + usize::from(*first) / speakers.len()), whole);
}

/// All properties.
pub const ALL: &[Property] = &[
    ("model_stream", model_stream),
    ("sse", sse),
    ("engine_output", engine_output),
    ("json_body", json_body),
    ("task", task),
    ("command_line", command_line),
    ("configuration", configuration),
    ("catalogue", catalogue),
    ("job_file", job_file),
];

impl EventBatch {
    /// Encodes a batch of these events, with the Unix epoch as their time.
    pub fn of(first_sequence: u32, payloads: &[Payload]) -> Self {
        let job_id = JobId::parse(&format!("job_{}", "0".repeat(36))).expect("an id");
        Self::encoded(&job_id, first_sequence, payloads)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};
    use proptest::prelude::*;

    use super::*;

    /// Generates bytes that are likely to be meaningful to a parser.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let pieces = prop_oneof![
            Just(b"\n".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"\r\n\r\n".to_vec()),
            Just(b"\0".to_vec()),
            Just(b"data: x".to_vec()),
            Just(b"id: 7".to_vec()),
            Just(b"event: end".to_vec()),
            Just(b": ".to_vec()),
            Just(b"\xff\xfe".to_vec()),
            Just("\u{2028}\u{feff}é€𝄞".as_bytes().to_vec()),
            Just(b"\x1b[2J".to_vec()),
            Just(b"{\"command\":\"x\"}".to_vec()),
            Just(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\\ud83d\"}}]}\n\n".to_vec()),
            Just(b"data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"text\":\"<think>x</think>\"}}\n\n".to_vec()),
            Just(b"data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"f\"}}]},\"finishReason\":\"STOP\"}]}\n\n".to_vec()),
            Just(b"--agent --input ' \" \\ ; && `".to_vec()),
            Just(b"server.port=1\n".to_vec()),
            Just(b"JOBS_MAX_RUNNING=[]\n".to_vec()),
            Just(b"{\"status\":\"success\",\"output\":\"\",\"metadata\":{}}\n".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..40),
        ];
        proptest::collection::vec(pieces, 0..20).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn hold_for_any_bytes(bytes in hostile()) {
            for (_, property) in ALL {
                property(&bytes);
            }
        }

        /// Checks the rendered events with an independent parser.
        #[test]
        fn another_parser_reads_the_same_events(bytes in hostile()) {
            use eventsource_stream::Eventsource;
            let (payloads, stream) = rendered(&bytes);
            let pieces: Vec<Result<Vec<u8>, std::io::Error>> = stream.chunks(7).map(|piece| Ok(piece.to_vec())).collect();
            let events = futures_util::stream::iter(pieces).eventsource().collect::<Vec<_>>().now_or_never().unwrap();
            let events: Vec<_> = events.into_iter().map(|event| event.unwrap()).map(|event| (event.id, event.data)).collect();
            check_events(&payloads, &events);
        }
    }

    #[test]
    fn hold_for_what_fuzzing_has_found() {
        for (name, property) in ALL {
            let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
            let files =
                std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
            for file in files {
                property(&std::fs::read(file.unwrap().path()).unwrap());
            }
        }
    }
}
