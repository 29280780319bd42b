//! What model servers really send: each form of it ends in the right events. A form that is no clear success never
//! looks like one, and a call that was cut is never made.

use serde_json::{Value, json};

use crate::{
    agent::of,
    support::{
        Gateway, ModelServer, Options,
        model::{Act, Script, openai, status, stream, stream_head},
    },
};

/// What a command ended with.
struct Ended {
    state: String,
    reason: String,
    message: String,
    result: String,
    tokens: String,
    reasoning: String,
    /// Of each call that was made: its tool and its arguments.
    calls: Vec<(String, Value)>,
    events: Vec<Value>,
    asked: usize,
}

async fn ask_with(scripts: Vec<Script>, options: Options) -> Ended {
    let model = ModelServer::start(scripts).await;
    let gateway = Gateway::thinking(&model, options);
    ask(&gateway, &model).await
}

async fn ask(gateway: &Gateway, model: &ModelServer) -> Ended {
    let job_id = gateway.submit(&json!({"command": "say what there is"})).await;
    let events = gateway.events(&job_id).await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let error = of(&events, "error").first().copied().cloned().unwrap_or_default();
    let tokens = |is_reasoning: bool| -> String {
        let tokens = of(&events, "on_llm_new_token");
        tokens
            .iter()
            .filter(|token| token["is_reasoning"] == is_reasoning)
            .map(|token| text(&token["text"]))
            .collect()
    };
    // One end, and every call of the model is closed, whatever happened.
    assert_eq!(of(&events, "end_of_stream").len(), 1);
    assert_eq!(of(&events, "result").len() + of(&events, "error").len(), 1);
    assert_eq!(of(&events, "on_llm_start").len(), of(&events, "on_llm_end").len());
    assert_eq!(of(&events, "on_tool_start").len(), of(&events, "on_tool_end").len());
    assert_eq!(of(&events, "on_chain_end").len(), 1);
    Ended {
        state: text(&of(&events, "end_of_stream")[0]["state"]),
        reason: text(&error["reason"]),
        message: text(&error["message"]),
        result: of(&events, "result").first().map(|result| text(&result["result"])).unwrap_or_default(),
        tokens: tokens(false),
        reasoning: tokens(true),
        calls: of(&events, "on_tool_start")
            .iter()
            .map(|start| (text(&start["tool"]), start["arguments"].clone()))
            .collect(),
        asked: model.asked().len(),
        events,
    }
}

fn quick() -> Options {
    Options::default().set("agent.max_attempts", 2).set("agent.idle_timeout_seconds", 1)
}

/// A first turn in this form, then an answer.
async fn with_calls(body: impl AsRef<[u8]>) -> Ended {
    ask_with(vec![stream(body), openai::answer_turn(&["done"])], quick()).await
}

async fn alone(body: impl AsRef<[u8]>) -> Ended {
    ask_with(vec![stream(body)], quick()).await
}

const INFO: &str = "get_agent_info";

fn info(agent_id: &str) -> Value {
    json!({ "agent_id": agent_id })
}

fn call(index: Value, id: Value, name: Value, arguments: Value) -> String {
    let mut call = json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    if !index.is_null() {
        call["index"] = index;
    }
    openai::calls(json!([call]))
}

fn text_of(value: &Value) -> Value {
    json!(value.to_string())
}

/// The turn made exactly these calls, and its answer is the result.
fn made(ended: &Ended, agents: &[&str]) {
    let expected: Vec<_> = agents.iter().map(|agent| (INFO.to_owned(), info(agent))).collect();
    assert_eq!(ended.calls, expected, "{} {}", ended.reason, ended.message);
    assert_eq!((ended.state.as_str(), ended.result.as_str()), ("SUCCEEDED", "done"));
}

fn failed(ended: &Ended, reason: &str) {
    assert_eq!((ended.state.as_str(), ended.reason.as_str()), ("FAILED", reason), "{}", ended.message);
    assert!(ended.message.len() > 20, "{}", ended.message);
    assert!(ended.calls.is_empty(), "no call was made");
}

macro_rules! cases {
    ($($name:ident: $body:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            $body
        }
    )*};
}

fn finish_calls() -> String {
    openai::finish("tool_calls") + openai::DONE
}

fn finish_stop() -> String {
    openai::finish("stop") + openai::DONE
}

// How calls are put together.
cases! {
    arguments_over_many_chunks: {
        let mut body = call(json!(0), json!("a"), json!(INFO), json!(""));
        for piece in ["{\"agent", "_id\": \"Sql", "Expert_Agent\"", "}"] {
            body += &openai::calls(json!([{"index": 0, "function": {"arguments": piece}}]));
        }
        made(&with_calls(body + &finish_calls()).await, &["SqlExpert_Agent"]);
    };
    several_calls_interleaved: {
        let mut body = call(json!(0), json!("a"), json!(INFO), json!("{\"agent_id\":"));
        body += &call(json!(1), json!("b"), json!(INFO), json!("{\"agent_id\":"));
        body += &openai::calls(json!([{"index": 0, "function": {"arguments": "\"SqlExpert_Agent\"}"}}]));
        body += &openai::calls(json!([{"index": 1, "function": {"arguments": "\"DocWriter_Agent\"}"}}]));
        made(&with_calls(body + &finish_calls()).await, &["SqlExpert_Agent", "DocWriter_Agent"]);
    };
    an_index_that_begins_at_one_and_has_gaps: {
        let mut body = call(json!(1), json!("a"), json!(INFO), text_of(&info("SqlExpert_Agent")));
        body += &call(json!(4), json!("b"), json!(INFO), text_of(&info("DocWriter_Agent")));
        made(&with_calls(body + &finish_calls()).await, &["SqlExpert_Agent", "DocWriter_Agent"]);
    };
    no_index_at_all: {
        let mut body = call(Value::Null, json!("a"), json!(INFO), text_of(&info("SqlExpert_Agent")));
        body += &call(Value::Null, json!("b"), json!(INFO), text_of(&info("DocWriter_Agent")));
        made(&with_calls(body + &finish_calls()).await, &["SqlExpert_Agent", "DocWriter_Agent"]);
    };
    one_index_for_two_whole_calls: {
        let mut body = call(json!(0), json!("a"), json!(INFO), text_of(&info("SqlExpert_Agent")));
        body += &call(json!(0), json!("b"), json!(INFO), text_of(&info("DocWriter_Agent")));
        made(&with_calls(body + &finish_calls()).await, &["SqlExpert_Agent", "DocWriter_Agent"]);
    };
    an_index_and_an_id_that_change_with_each_fragment: {
        let mut body = call(json!(0), json!("a"), json!(INFO), json!("{\"agent_id\":"));
        body += &call(json!(1), json!("b"), json!(""), json!("\"SqlExpert_Agent\"}"));
        made(&with_calls(body + &finish_calls()).await, &["SqlExpert_Agent"]);
    };
    three_whole_calls_of_one_index_without_ids: {
        let agents = ["SqlExpert_Agent", "DocWriter_Agent", "CodeReviewer_Agent"];
        let body: String = agents.iter().map(|agent| call(json!(0), json!(""), json!(INFO), text_of(&info(agent)))).collect();
        made(&with_calls(body + &finish_calls()).await, &agents);
    };
    a_type_that_is_empty_or_another_ones: {
        for kind in ["", "tool_use"] {
            let function = json!({"name": INFO, "arguments": info("SqlExpert_Agent").to_string()});
            let call = json!([{"index": 0, "id": "a", "type": kind, "function": function}]);
            let ended = with_calls(openai::text("I look. ") + &openai::calls(call) + &finish_stop()).await;
            made(&ended, &["SqlExpert_Agent"]);
        }
    };
    a_call_that_never_gets_a_name: {
        let call = json!([{"index": 0, "id": "a", "type": "function", "function": {"arguments": "{}"}}]);
        let ended = alone(openai::text("I look.") + &openai::calls(call) + &finish_stop()).await;
        failed(&ended, "MODEL_FAILED");
        assert!(ended.message.contains("without a name"), "{}", ended.message);
    };
    no_id: {
        let body = call(json!(0), Value::Null, json!(INFO), text_of(&info("SqlExpert_Agent")));
        made(&with_calls(body + &finish_calls()).await, &["SqlExpert_Agent"]);
    };
    an_empty_id_and_one_that_says_null: {
        let mut body = call(json!(0), json!(""), json!(INFO), text_of(&info("SqlExpert_Agent")));
        body += &call(json!(1), json!("null"), json!(INFO), text_of(&info("DocWriter_Agent")));
        made(&with_calls(body + &finish_calls()).await, &["SqlExpert_Agent", "DocWriter_Agent"]);
    };
    the_same_call_twice_is_made_once: {
        let one = call(json!(0), json!("a"), json!(INFO), text_of(&info("SqlExpert_Agent")));
        let two = call(json!(1), json!("a"), json!(INFO), text_of(&info("SqlExpert_Agent")));
        made(&with_calls(one + &two + &finish_calls()).await, &["SqlExpert_Agent"]);
    };
    a_name_that_is_repeated: {
        let mut body = call(json!(0), json!("a"), json!(INFO), json!("{\"agent_id\":"));
        body += &call(json!(0), json!("a"), json!(INFO), json!("\"SqlExpert_Agent\"}"));
        made(&with_calls(body + &finish_calls()).await, &["SqlExpert_Agent"]);
    };
    a_name_that_comes_late: {
        let mut body = openai::calls(json!([{"index": 0, "id": "a", "type": "function", "function": {"arguments": ""}}]));
        body += &openai::calls(json!([{"index": 0, "function": {"name": INFO, "arguments": info("SqlExpert_Agent").to_string()}}]));
        made(&with_calls(body + &finish_calls()).await, &["SqlExpert_Agent"]);
    };
    a_function_that_is_null: {
        let mut body = openai::calls(json!([{"index": 0, "id": "a", "type": "function", "function": null}]));
        body += &openai::calls(json!([{"index": 0, "function": {"name": INFO, "arguments": info("SqlExpert_Agent").to_string()}}]));
        made(&with_calls(body + &finish_calls()).await, &["SqlExpert_Agent"]);
    };
    arguments_that_are_null_or_empty: {
        let mut body = call(json!(0), json!("a"), json!("get_system_config"), Value::Null);
        body += &call(json!(1), json!("b"), json!("get_system_config"), json!(""));
        let ended = with_calls(body + &finish_calls()).await;
        assert_eq!(ended.calls.len(), 2);
        assert!(ended.calls.iter().all(|(_, arguments)| *arguments == json!({})), "{:?}", ended.calls);
        assert_eq!(ended.state, "SUCCEEDED");
    };
    arguments_as_an_object: {
        let body = call(json!(0), json!("a"), json!(INFO), info("SqlExpert_Agent"));
        made(&with_calls(body + &finish_calls()).await, &["SqlExpert_Agent"]);
    };
    the_whole_call_in_the_chunk_that_ends: {
        let function = json!({"name": INFO, "arguments": info("SqlExpert_Agent").to_string()});
        let calls = json!([{"index": 0, "id": "a", "type": "function", "function": function}]);
        let body = openai::chunk(json!({ "tool_calls": calls }), json!("tool_calls")) + openai::DONE;
        made(&with_calls(body).await, &["SqlExpert_Agent"]);
    };
    a_call_that_is_cut_by_the_limit_is_not_made: {
        let body = call(json!(0), json!("a"), json!(INFO), json!("{\"agent_id\": \"SqlEx")) + &openai::finish("length") + openai::DONE;
        failed(&with_calls(body).await, "MODEL_FAILED");
    };
    arguments_with_a_brace_too_many_are_answered_to_the_model: {
        let body = call(json!(0), json!("a"), json!(INFO), json!("{\"agent_id\": \"SqlExpert_Agent\"}}"));
        let ended = with_calls(body + &finish_calls()).await;
        assert_eq!((of(&ended.events, "on_tool_end")[0]["is_error"].clone(), ended.asked), (json!(true), 2));
        assert_eq!(ended.state, "SUCCEEDED");
    };
    arguments_that_do_not_fit_and_tools_that_do_not_exist_are_answered_to_the_model: {
        let mut body = call(json!(0), json!("a"), json!(INFO), text_of(&json!({"agent": "x"})));
        body += &call(json!(1), json!("b"), json!("launch_rockets"), json!("{}"));
        let ended = with_calls(body + &finish_calls()).await;
        let ends = of(&ended.events, "on_tool_end");
        assert_eq!(ends.len(), 2);
        assert!(ends.iter().all(|end| end["is_error"] == true));
        let errors: String = ends.iter().map(|end| end["error"].as_str().unwrap()).collect();
        assert!(errors.contains("agent") && errors.contains("list_available_agents"), "{errors}");
        assert_eq!(ended.state, "SUCCEEDED");
    };
    an_empty_list_of_calls: {
        let body = openai::chunk(json!({"content": "done", "tool_calls": []}), Value::Null) + &finish_stop();
        assert_eq!(alone(body).await.result, "done");
    };
    text_and_calls_in_one_delta: {
        let function = json!({"name": INFO, "arguments": info("SqlExpert_Agent").to_string()});
        let calls = json!([{"index": 0, "id": "a", "type": "function", "function": function}]);
        let body = openai::chunk(json!({"content": "I look. ", "tool_calls": calls}), Value::Null) + &finish_calls();
        let ended = with_calls(body).await;
        made(&ended, &["SqlExpert_Agent"]);
        assert_eq!(ended.tokens, "I look. done");
    };
}

// How answers end.
cases! {
    a_stop_with_calls_is_a_call: {
        let body = call(json!(0), json!("a"), json!(INFO), text_of(&info("SqlExpert_Agent")));
        made(&with_calls(body + &finish_stop()).await, &["SqlExpert_Agent"]);
    };
    calls_that_are_announced_and_do_not_come: failed(&alone(openai::text("I call.") + &finish_calls()).await, "MODEL_FAILED");
    the_older_form_of_a_call: {
        for reason in ["function_call", "tool_call"] {
            let mut body = openai::chunk(json!({"function_call": {"name": INFO, "arguments": "{\"agent_id\":"}}), Value::Null);
            body += &openai::chunk(json!({"function_call": {"arguments": "\"SqlExpert_Agent\"}"}}), Value::Null);
            made(&with_calls(body + &openai::finish(reason) + openai::DONE).await, &["SqlExpert_Agent"]);
        }
    };
    ends_in_the_words_of_a_model: {
        for reason in ["eos_token", "<|eot_id|>", "STOP", "</s>", "End_Turn"] {
            let ended = alone(openai::text("done") + &openai::finish(reason) + openai::DONE).await;
            assert_eq!((ended.state.as_str(), ended.result.as_str()), ("SUCCEEDED", "done"), "{reason}");
        }
    };
    a_refusal_is_said: {
        let body = openai::chunk(json!({"refusal": "I will "}), Value::Null) + &openai::chunk(json!({"refusal": "not."}), Value::Null);
        let ended = alone(body + &finish_stop()).await;
        failed(&ended, "MODEL_REFUSED");
        assert!(ended.message.contains("I will not."), "{}", ended.message);
    };
    an_end_without_an_empty_line: {
        let body = openai::text("done") + openai::finish("stop").trim_end();
        assert_eq!(alone(body).await.result, "done");
    };
    an_end_behind_which_the_connection_stays_open: {
        let body = openai::text("done") + &openai::finish("stop");
        let ended = ask_with(vec![vec![stream_head(), Act::Send(body.into()), Act::Silence]], quick()).await;
        assert_eq!((ended.state.as_str(), ended.result.as_str()), ("SUCCEEDED", "done"));
    };
    an_answer_that_is_cut_by_the_limit_is_marked: {
        let ended = alone(openai::text("half an ans") + &openai::finish("length") + openai::DONE).await;
        assert_eq!((ended.state.as_str(), ended.result.as_str()), ("SUCCEEDED", "half an ans"));
        assert_eq!(of(&ended.events, "result")[0]["is_truncated"], true);
    };
    a_filtered_answer: failed(&alone(openai::text("I ") + &openai::finish("content_filter") + openai::DONE).await, "MODEL_FAILED");
    an_end_that_is_an_error: failed(&alone(openai::text("I ") + &openai::finish("error") + openai::DONE).await, "MODEL_FAILED");
    an_end_that_nobody_knows: failed(&alone(openai::text("I ") + &openai::finish("moon_phase") + openai::DONE).await, "MODEL_FAILED");
    an_empty_answer: failed(&alone(finish_stop()).await, "MODEL_FAILED");
    an_answer_of_spaces: failed(&alone(openai::text(" \n ") + &finish_stop()).await, "MODEL_FAILED");
    no_done: assert_eq!(alone(openai::text("done") + &openai::finish("stop")).await.result, "done");
    done_without_a_reason: assert_eq!(alone(openai::text("done") + openai::DONE).await.result, "done");
    no_end_at_all: {
        let ended = alone(openai::text("do")).await;
        failed(&ended, "MODEL_UNAVAILABLE");
        assert_eq!((ended.asked, ended.tokens.as_str()), (1, "do"), "what was shown is not asked for again");
    };
    a_cut_within_an_event: failed(&alone(openai::text("do") + "data: {\"choices\": [{\"del").await, "MODEL_UNAVAILABLE");
    a_reset_connection: {
        let script = vec![stream_head(), Act::Send(openai::text("do").into()), Act::Reset];
        failed(&ask_with(vec![script], quick()).await, "MODEL_UNAVAILABLE");
    };
    a_reset_before_anything_is_tried_again: {
        let ended = ask_with(vec![vec![Act::Reset], openai::answer_turn(&["done"])], quick()).await;
        assert_eq!((ended.result.as_str(), ended.asked), ("done", 2));
        let update = of(&ended.events, "status_update")[0];
        assert_eq!(update["reason"], "MODEL_RETRY");
    };
}

// What chunks hold.
cases! {
    a_first_chunk_with_a_role_only_and_ones_without_choices: {
        let mut body = openai::chunk(json!({"role": "assistant"}), Value::Null);
        body += &openai::data(&json!({"id": "c", "object": "chat.completion.chunk", "choices": [], "prompt_filter_results": []}));
        assert_eq!(alone(body + &openai::text("done") + &finish_stop()).await.result, "done");
    };
    choices_that_are_null: {
        let body = openai::data(&json!({"id": "c", "object": "chat.completion.chunk", "choices": null}));
        assert_eq!(alone(body + &openai::text("done") + &finish_stop()).await.result, "done");
    };
    usage_in_no_chunk_is_unknown_and_not_zero: {
        let ended = alone(openai::text("done") + &finish_stop()).await;
        assert!(of(&ended.events, "on_llm_end")[0]["usage"]["total_tokens"].is_null(), "{:?}", ended.events);
    };
    usage_in_each_chunk: {
        let mut body = String::new();
        for count in 1..=3 {
            body += &openai::data(&json!({
                "id": "c", "object": "chat.completion.chunk",
                "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": null}],
                "usage": {"prompt_tokens": 10, "completion_tokens": count, "total_tokens": 10 + count},
            }));
        }
        let ended = alone(body + &finish_stop()).await;
        assert_eq!(of(&ended.events, "on_llm_end")[0]["usage"]["total_tokens"], 13);
    };
    reasoning_in_its_own_field: {
        let body = openai::chunk(json!({"reasoning_content": "hm. "}), Value::Null);
        let ended = alone(body + &openai::text("done") + &finish_stop()).await;
        assert_eq!((ended.reasoning.as_str(), ended.tokens.as_str()), ("hm. ", "done"));
    };
    reasoning_between_tags: {
        let ended = alone(openai::text("<thi") + &openai::text("nk>hm.</think>\n\ndo") + &openai::text("ne") + &finish_stop()).await;
        assert_eq!((ended.reasoning.as_str(), ended.tokens.as_str(), ended.result.as_str()), ("hm.", "done", "done"));
    };
    only_reasoning_is_no_answer: failed(&alone(openai::text("<think>hm.</think>") + &finish_stop()).await, "MODEL_FAILED");
}

// What is said in unexpected forms is read, or said to be unreadable.
cases! {
    half_a_character_in_each_of_two_chunks: {
        let chunk = |half: &str| openai::text("HERE").replace("HERE", half);
        let ended = alone(chunk("ok \\ud83d") + &chunk("\\ude00 \\ud83d!") + &finish_stop()).await;
        assert_eq!(ended.result, "ok 😀 \u{fffd}!");
    };
    content_in_parts: {
        let odd = openai::chunk(json!({"content": ["two ", {"type": "text", "text": "three "}]}), Value::Null);
        let mut as_object: Value = serde_json::from_str(openai::text("four").trim_start_matches("data: ")).unwrap();
        as_object["choices"] = as_object["choices"][0].take();
        let ended = alone(openai::text("one ") + &odd + &openai::data(&as_object) + &finish_stop()).await;
        assert_eq!((ended.state.as_str(), ended.result.as_str()), ("SUCCEEDED", "one two three four"));
    };
    a_part_that_nobody_can_read_is_named: {
        let odd = openai::chunk(json!({"content": [{"type": "hologram", "beams": [1, 2]}]}), Value::Null);
        let ended = alone(openai::text("one ") + &odd + &finish_stop()).await;
        failed(&ended, "MODEL_FAILED");
        assert!(ended.message.contains("hologram"), "{}", ended.message);
    };
    a_closing_tag_whose_opening_one_was_in_the_prompt: {
        let model = ModelServer::start(vec![stream(openai::text("Let me look.\n</think>\n\n") + &openai::text("done") + &finish_stop())]).await;
        let gateway = Gateway::thinking(&model, quick());
        let ended = ask(&gateway, &model).await;
        assert_eq!((ended.state.as_str(), ended.result.as_str()), ("SUCCEEDED", "done"));
    };
    errors_in_every_envelope: {
        let chunk = |value: Value| openai::data(&value);
        let cases = [
            (chunk(json!({"error": {"code": 400, "message": "too long a story"}, "choices": [{"delta": {}, "finish_reason": "error"}]})), "MODEL_REFUSED", 1),
            (chunk(json!({"object": "error", "message": "too long a story", "code": 400})), "MODEL_REFUSED", 1),
            ("event: error\ndata: {\"message\": \"too long a story\", \"code\": \"503\"}\n\n".to_owned(), "MODEL_UNAVAILABLE", 2),
            (chunk(json!({"error": {"type": "insufficient_quota", "code": 429, "message": "too long a story"}})), "MODEL_REFUSED", 1),
            (chunk(json!({"error": "too long a story"})), "MODEL_FAILED", 1),
        ];
        for (body, reason, asked) in cases {
            let ended = alone(&body).await;
            failed(&ended, reason);
            assert!(ended.message.contains("too long a story"), "{}", ended.message);
            assert_eq!(ended.asked, asked, "{body}");
        }
        let body = json!({"error": {"message": "Insufficient credits", "code": 402}}).to_string();
        let ended = ask_with(vec![status(200, &[("content-type", "application/json")], &body)], quick()).await;
        failed(&ended, "MODEL_REFUSED");
        assert!(ended.message.contains("Insufficient credits"), "{}", ended.message);
    };
    googles_delay_counts_like_retry_after: {
        let details = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.2s"}]);
        let busy = json!({"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED", "details": details}}).to_string();
        let started = std::time::Instant::now();
        let ended = ask_with(vec![status(429, &[], &busy), openai::answer_turn(&["done"])], quick()).await;
        assert_eq!((ended.result.as_str(), ended.asked), ("done", 2));
        assert!(started.elapsed() >= std::time::Duration::from_millis(1_200));
    };
    a_stream_by_any_name: {
        for headers in [vec![("content-type", "text/plain".to_owned())], vec![]] {
            let body = openai::text("done") + &finish_stop();
            let ended = ask_with(vec![vec![Act::Head(200, headers), Act::Send(body.into())]], quick()).await;
            assert_eq!((ended.state.as_str(), ended.result.as_str()), ("SUCCEEDED", "done"));
        }
    };
    an_encoding_that_was_not_asked_for_is_named: {
        let headers = [("content-type", "text/event-stream"), ("content-encoding", "gzip")];
        let ended = ask_with(vec![status(200, &headers, "\u{1f}\u{8b}")], quick()).await;
        failed(&ended, "MODEL_FAILED");
        assert!(ended.message.contains("gzip"), "{}", ended.message);
    };
    a_call_that_comes_as_text_is_made: {
        let markup = format!("Let me look.\n<tool_call>\n{}\n</tool_call>", json!({"name": INFO, "arguments": info("SqlExpert_Agent")}));
        let bare = json!({"name": INFO, "parameters": info("SqlExpert_Agent")}).to_string();
        for text in [markup.clone(), format!("<think>hm.</think>\n{markup}"), bare] {
            let ended = with_calls(openai::text(&text) + &finish_stop()).await;
            made(&ended, &["SqlExpert_Agent"]);
            let ends = of(&ended.events, "on_llm_end");
            assert_eq!((&ends[0]["repaired_calls"], &ends[1]["repaired_calls"]), (&json!(1), &json!(0)));
        }
        let decorated = call(json!(0), json!("a"), json!(format!("functions.{INFO}")), text_of(&info("SqlExpert_Agent")));
        made(&with_calls(decorated + &finish_calls()).await, &["SqlExpert_Agent"]);
    };
    a_call_that_was_quoted_is_not_made: {
        let markup = format!("<tool_call>{}</tool_call>", json!({"name": INFO, "arguments": info("SqlExpert_Agent")}));
        let ended = alone(openai::text(&format!("Write it so:\n```\n{markup}\n```")) + &finish_stop()).await;
        assert_eq!((ended.state.as_str(), ended.calls.len()), ("SUCCEEDED", 0));
        let unknown = alone(openai::text("<tool_call>{\"name\":\"launch_rockets\",\"arguments\":{}}</tool_call>") + &finish_stop()).await;
        failed(&unknown, "MODEL_FAILED");
        assert!(unknown.message.contains("tool parser"), "{}", unknown.message);
    };
    two_events_without_an_empty_line_between: {
        let body = openai::text("do").trim_end().to_owned() + "\n" + &openai::text("ne") + &finish_stop();
        assert_eq!(alone(body).await.result, "done");
    };
}

// What carries them.
cases! {
    comments_and_fields_without_a_space: {
        let plain = openai::text("done").replace("data: ", "data:");
        assert_eq!(alone(format!(": ping\n\nretry: 5\n\nevent: x\n\n{plain}: ping\n\n") + &finish_stop()).await.result, "done");
    };
    carriage_returns: assert_eq!(alone((openai::text("done") + &finish_stop()).replace('\n', "\r\n")).await.result, "done");
    a_byte_order_mark: assert_eq!(alone(format!("\u{feff}{}", openai::text("done") + &finish_stop())).await.result, "done");
    data_over_two_lines: {
        let body = openai::text("done").replacen(",\"", ",\ndata: \"", 1);
        assert_eq!(alone(body + &finish_stop()).await.result, "done");
    };
    characters_that_are_cut_in_pieces: {
        let body = openai::text("ação ✅ 🤖") + &finish_stop();
        let mut script = vec![stream_head()];
        script.extend(body.as_bytes().chunks(7).map(|piece| Act::Send(piece.to_vec())));
        assert_eq!(ask_with(vec![script], quick()).await.result, "ação ✅ 🤖");
    };
    json_instead_of_a_stream: {
        let body = json!({"choices": [{"message": {"content": "done"}, "finish_reason": "stop"}]}).to_string();
        failed(&ask_with(vec![status(200, &[("content-type", "application/json")], &body)], quick()).await, "MODEL_FAILED");
    };
    a_page_instead_of_a_stream: {
        let page = status(200, &[("content-type", "text/html")], "<html>Welcome</html>");
        failed(&ask_with(vec![page], quick()).await, "MODEL_FAILED");
    };
    garbage_in_a_line: failed(&alone(openai::text("do") + "data: {oops\n\n" + &finish_stop()).await, "MODEL_FAILED");
    an_error_as_the_first_event_is_tried_again: {
        let error = stream("data: {\"error\": {\"code\": 503, \"message\": \"busy\"}}\n\n");
        let ended = ask_with(vec![error, openai::answer_turn(&["done"])], quick()).await;
        assert_eq!((ended.result.as_str(), ended.asked), ("done", 2));
    };
    an_error_in_the_middle: {
        let error = "data: {\"error\": {\"code\": 500, \"message\": \"out of memory\"}}\n\n";
        let ended = alone(openai::text("do") + error).await;
        failed(&ended, "MODEL_UNAVAILABLE");
        assert!(ended.message.contains("out of memory"), "{}", ended.message);
    };
    silence_in_the_middle: {
        let script = vec![stream_head(), Act::Send(openai::text("do").into()), Act::Silence];
        failed(&ask_with(vec![script], quick()).await, "MODEL_TIMED_OUT");
    };
    silence_from_the_beginning: {
        let options = quick().set("agent.first_byte_timeout_seconds", 1);
        let ended = ask_with(vec![vec![Act::Silence]], options).await;
        failed(&ended, "MODEL_TIMED_OUT");
        assert_eq!(ended.asked, 2, "nothing was shown, so that it was asked again");
    };
    a_line_without_an_end: {
        let script = vec![stream_head(), Act::Send(vec![b'x'; 6 * 1024 * 1024]), Act::Silence];
        failed(&ask_with(vec![script], quick()).await, "MODEL_FAILED");
    };
    a_server_error_is_tried_again_and_said: {
        let broken = status(500, &[("content-type", "text/plain")], "boom");
        let ended = ask_with(vec![broken], quick()).await;
        failed(&ended, "MODEL_UNAVAILABLE");
        assert!(ended.message.contains("500") && ended.message.contains("2 attempts"), "{}", ended.message);
        assert_eq!(ended.asked, 2);
    };
    too_many_requests_are_sent_again_when_the_server_says: {
        let busy = status(429, &[("retry-after", "1")], "{\"error\": {\"message\": \"slow down\"}}");
        let started = std::time::Instant::now();
        let ended = ask_with(vec![busy, openai::answer_turn(&["done"])], quick()).await;
        assert_eq!((ended.result.as_str(), ended.asked), ("done", 2));
        assert!(started.elapsed() >= std::time::Duration::from_secs(1));
    };
    a_server_that_wants_a_long_rest_is_left_alone: {
        let busy = status(429, &[("retry-after", "3600")], "{\"error\": {\"message\": \"quota\"}}");
        let ended = ask_with(vec![busy], quick()).await;
        failed(&ended, "MODEL_UNAVAILABLE");
        assert!(ended.message.contains("3600 seconds"), "{}", ended.message);
        assert_eq!(ended.asked, 1);
    };
    a_key_that_is_refused_is_not_tried_again: {
        let refused = status(401, &[("content-type", "application/json")], "{\"error\": {\"message\": \"bad key\"}}");
        let ended = ask_with(vec![refused], quick()).await;
        failed(&ended, "MODEL_REFUSED");
        assert!(ended.message.contains("agent.api_key") && ended.message.contains("bad key"), "{}", ended.message);
        assert_eq!(ended.asked, 1);
    };
    nobody_listens: {
        let model = ModelServer::start(vec![]).await;
        let options = quick().set("agent.provider", "openai").set("agent.model", "m").set("agent.base_url", "http://127.0.0.1:1/v1");
        let ended = ask(&Gateway::start_with(options), &model).await;
        failed(&ended, "MODEL_UNAVAILABLE");
    };
}

// What a command may use.
cases! {
    steps_are_bounded: {
        let ended = ask_with(
            vec![openai::call_turn(&[("a", "get_system_config", json!({}))])],
            quick().set("agent.max_steps", 3),
        ).await;
        assert_eq!((ended.reason.as_str(), ended.asked, ended.calls.len()), ("STEP_LIMIT", 3, 3));
    };
    a_task_may_ask_for_fewer_steps_and_tokens: {
        let model = ModelServer::start(vec![openai::call_turn(&[("a", "get_system_config", json!({}))])]).await;
        let gateway = Gateway::thinking(&model, quick());
        for (limit, reason) in [("max_steps", "STEP_LIMIT"), ("max_total_tokens", "TOKEN_LIMIT")] {
            let job_id = gateway.submit(&json!({"command": "go on", limit: 2})).await;
            assert_eq!(of(&gateway.events(&job_id).await, "error")[0]["reason"], reason);
        }
    };
    wrong_calls_are_counted: {
        let ended = ask_with(vec![openai::call_turn(&[("a", "nope", json!({}))])], quick()).await;
        assert_eq!((ended.reason.as_str(), ended.asked), ("TOO_MANY_TOOL_ERRORS", 5));
    };
    results_are_cut_for_the_model: {
        let model = ModelServer::start(vec![
            openai::call_turn(&[("a", "list_available_agents", json!({}))]),
            openai::answer_turn(&["done"]),
        ]).await;
        let gateway = Gateway::thinking(&model, quick().set("agent.max_result_bytes", 100));
        assert_eq!(ask(&gateway, &model).await.result, "done");
        let told = model.asked()[1].body["messages"].as_array().unwrap().last().unwrap()["content"].to_string();
        assert!(told.contains("cut") && told.len() < 200, "{told}");
    };
    calls_of_one_turn_run_together_and_answer_in_order: {
        let model = ModelServer::start(vec![
            openai::call_turn(&[
                ("slow", "execute_agent_stateless", json!({"agent_id": "Mean_Agent", "input_text": "sleep 1500"})),
                ("quick", "execute_agent_stateless", json!({"agent_id": "Other_Agent", "input_text": "ok"})),
            ]),
            openai::answer_turn(&["done"]),
        ]).await;
        let options = quick()
            .set("agent.provider", "openai").set("agent.model", "m").set("agent.base_url", model.url("/v1"));
        let ended = ask(&Gateway::mean(options), &model).await;
        assert_eq!(ended.result, "done");
        let ids: Vec<_> = of(&ended.events, "on_tool_end").iter().map(|end| end["tool_call_id"].clone()).collect();
        assert_eq!(ids, ["call_2", "call_1"], "the quick one ended first");
        let messages = model.asked()[1].body["messages"].as_array().unwrap().clone();
        let answered: Vec<_> = messages.iter().filter(|message| message["role"] == "tool").map(|message| message["tool_call_id"].clone()).collect();
        assert_eq!(answered, ["slow", "quick"]);
    };
}
