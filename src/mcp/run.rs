//! Runs a call from outside as a job: progress at once and while it lasts, cancellation, questions, the outcome.

#![expect(deprecated, reason = "clients of older versions still set a log level")]

use std::time::Duration;

use rmcp::{
    ErrorData, RoleServer,
    model::{
        CallToolRequestParams, CallToolResponse, LoggingLevel, ProgressNotificationParam, ProgressToken,
    },
    service::RequestContext,
};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};

use super::{
    InboundCall, JobQuestion, JobUpdate, ToolRunner,
    call_followers::FollowerGuard,
    elicitation::{self, ElicitationMode, ElicitationState, ElicitedAnswer, ShownQuestion},
    handler::{refused, trace},
    outcome::to_mcp,
    server::McpHandler,
};
use crate::{
    error::{Error, Reason},
    principal::Principal,
    tool::{Call, CompletedCall, DEFAULT_CONVERSATION, ToolResult},
};

/// How often a silent job sends a sign of life; some proxies and clients give up after less than a minute.
const HEARTBEAT: Duration = Duration::from_secs(8);
/// The shortest pause between two messages about output.
const OUTPUT_PAUSE: Duration = Duration::from_millis(250);
/// How many characters of the latest output are shown as progress.
const MAX_SHOWN_CHARACTERS: usize = 200;
/// How many bytes of a line without an end are kept.
const MAX_BEGUN_BYTES: usize = 4096;
/// How many bytes of the output before a question are returned with it.
const MAX_OUTPUT_BYTES: usize = 256 * 1024;
/// The capacity of the channel of what is watched.
const WAITING: usize = 64;

/// Reports a call's progress to its client, if the client asked for that.
struct ProgressReporter<'a> {
    context: &'a RequestContext<RoleServer>,
    token: Option<ProgressToken>,
    count: u32,
    told: Instant,
    /// The latest line of output that was not reported yet.
    line: Option<String>,
    /// A line that is not complete yet.
    begun: String,
}

impl<'a> ProgressReporter<'a> {
    fn new(context: &'a RequestContext<RoleServer>) -> Self {
        let token = context.meta.get_progress_token();
        Self { context, token, count: 0, told: Instant::now(), line: None, begun: String::new() }
    }

    async fn tell(&mut self, message: &str) {
        let Some(token) = self.token.clone() else { return };
        self.count += 1;
        self.told = Instant::now();
        let shown: String = message.trim().chars().take(MAX_SHOWN_CHARACTERS).collect();
        let param = ProgressNotificationParam::new(token, f64::from(self.count)).with_message(shown);
        // That a client is gone shows in the cancellation of its call.
        let _unheard = self.context.peer.notify_progress(param).await;
    }

    fn output(&mut self, text: &str) {
        // Whole lines only, because output comes in pieces, and half a word says nothing.
        self.begun.push_str(text);
        if let Some(end) = self.begun.rfind('\n') {
            let whole =
                self.begun[..end].lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned);
            self.line = whole.or(self.line.take());
            self.begun.drain(..=end);
        }
        let over = self.begun.len().saturating_sub(MAX_BEGUN_BYTES);
        self.begun.drain(..self.begun.ceil_char_boundary(over));
    }

    /// Drops the kept output, because the job's output is read again from an earlier event.
    fn forget_line(&mut self) {
        self.line = None;
        self.begun.clear();
    }

    /// Returns when the next message is due: soon where there is output, else at the next sign of life.
    fn due(&self) -> Instant {
        self.told + if self.line.is_some() { OUTPUT_PAUSE } else { HEARTBEAT }
    }

    async fn tell_what_is_due(&mut self) {
        self.told = Instant::now();
        // A long incomplete line is shown from the beginning of a word.
        let from = self.begun.len().saturating_sub(MAX_SHOWN_CHARACTERS / 2);
        let tail = &self.begun[self.begun.ceil_char_boundary(from)..];
        let tail = if from == 0 { tail } else { tail.split_once(' ').map_or(tail, |(_, rest)| rest) };
        let message = match (self.line.take(), tail.trim()) {
            (Some(line), _) => line,
            (None, "") => "still running".to_owned(),
            (None, tail) => format!("still running: {tail}"),
        };
        self.tell(&message).await;
    }
}

/// How far a job was followed.
enum FollowOutcome {
    Ended(CompletedCall),
    /// It asks a question; with what was printed since the last question.
    Asks(JobQuestion, String),
}

impl McpHandler {
    pub(super) async fn run_as_job(
        &self,
        runner: &dyn ToolRunner,
        caller: Principal,
        call: Call,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let way = elicitation::way(&context);
        let brought = self.returned_answer(&caller, &request)?;
        if let Some((state, answer)) = brought.as_ref().filter(|(state, _)| !state.job_id.is_empty()) {
            // This call answers the question of a job that runs already. Without an answer the default is used. A
            // question that is no longer open was answered before, perhaps by this very call, whose result did not
            // arrive.
            let answered = async {
                let answer = match answer {
                    Some(answer) => answer.clone(),
                    None => match runner.asked(&caller, &state.job_id).await {
                        Ok((asked, _)) if asked.input_id == state.input_id => asked.default,
                        Ok(_) => return Ok(()),
                        Err(error) => return Err(error),
                    },
                };
                runner.answer(&caller, &state.job_id, &state.input_id, answer).await
            };
            match answered.await {
                Err(error) if !is_followed_on(&error) => return Ok(refused(&error).into()),
                _ => {}
            }
            return self
                .follow(runner, (&caller, &call, &request), &state.job_id, state.sequence, &context)
                .await;
        }
        if let Some(confirmation) = call.confirmation() {
            let is_given = match confirmation.is_given() {
                Ok(is_given) => is_given,
                Err(error) => return Ok(refused(&error).into()),
            };
            if !is_given {
                let question = confirmation.question();
                let answer = match (way, brought) {
                    (ElicitationMode::InSession, _) => {
                        let (form, time) = (elicitation::yes_or_no(), elicitation::ANSWER_TIME);
                        let shown = ShownQuestion::default();
                        match elicitation::ask_in_session(&context, &question, form, time, &shown).await {
                            ElicitedAnswer::Given(answer) => Some(answer),
                            ElicitedAnswer::None => None,
                            ElicitedAnswer::CannotBeAsked => {
                                return Ok(refused(&confirmation.missing()).into());
                            }
                        }
                    }
                    (ElicitationMode::ByRetry, Some((_, answer))) => answer,
                    (ElicitationMode::ByRetry, None) => {
                        let state = ElicitationState {
                            input_id: "confirm".to_owned(),
                            job_id: String::new(),
                            sequence: 0,
                        };
                        let asked = self.input_required(
                            &caller,
                            &request,
                            &state,
                            &question,
                            elicitation::yes_or_no(),
                        )?;
                        return Ok(asked.into());
                    }
                    (ElicitationMode::No, _) => return Ok(refused(&confirmation.missing()).into()),
                };
                if answer != Some(Value::Bool(true)) {
                    return Ok(refused(&confirmation.declined()).into());
                }
            }
        }
        let outside = InboundCall {
            caller: caller.clone(),
            arguments: Value::Object(request.arguments.clone().unwrap_or_default()),
            call: call.clone(),
            idempotency_key: idempotency_key(&context),
            trace: trace(&context),
        };
        let job_id = match runner.submit(outside).await {
            Ok(job_id) => job_id,
            Err(error) => return Ok(refused(&error).into()),
        };
        self.follow(runner, (&caller, &call, &request), &job_id, 0, &context).await
    }

    /// Follows a job until it has ended, or asks something that has to be answered by another call.
    async fn follow(
        &self,
        runner: &dyn ToolRunner,
        (caller, call, request): (&Principal, &Call, &CallToolRequestParams),
        job_id: &str,
        after: u32,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let mut progress = ProgressReporter::new(context);
        progress.tell(&format!("{} is {job_id}", call.tool().as_str())).await;
        let tool = call.tool().as_str();
        self.log(context, LoggingLevel::Info, &format!("{tool} runs as {job_id}")).await;
        let way = elicitation::way(context);
        let mut after = after;
        // The question that is being asked in the session while the job is followed: the job may end, or be answered
        // through another door, meanwhile.
        let mut open: Option<(JobQuestion, String)> = None;
        let shown = ShownQuestion::default();
        loop {
            let answer = async {
                match &open {
                    // Within this task, because rmcp sends the question on the stream of the call that it belongs to.
                    Some((asked, _)) => {
                        elicitation::ask_in_session(
                            context,
                            &asked.prompt,
                            elicitation::line(),
                            elicitation::ANSWER_TIME,
                            &shown,
                        )
                        .await
                    }
                    None => std::future::pending().await,
                }
            };
            let reached = tokio::select! {
                // The job first. What a dropped `reach` has read is read again, because `after` has not changed.
                biased;
                reached = self.reach(runner, caller, job_id, after, &mut progress) => reached,
                answer = answer => {
                    if let Some((asked, output)) = open.take() {
                        let answer = match answer {
                            ElicitedAnswer::Given(answer) => answer,
                            // Nobody answered: the call is cancelled, and its job with it.
                            ElicitedAnswer::None if context.ct.is_cancelled() => continue,
                            ElicitedAnswer::None => asked.default.clone(),
                            ElicitedAnswer::CannotBeAsked => {
                                return Ok(to_mcp(&open_session(call, job_id, &asked, output), job_id).into());
                            }
                        };
                        match runner.answer(caller, job_id, &asked.input_id, answer).await {
                            Err(error) if is_followed_on(&error) => {}
                            Err(error) => return Ok(refused(&error).into()),
                            Ok(()) => {}
                        }
                    }
                    progress.forget_line();
                    continue;
                }
            };
            // The question was answered by its default or through another door.
            shown.withdraw(context).await;
            let reached = match reached {
                Ok(reached) => reached,
                Err(error) => return Ok(refused(&error.for_job(job_id)).into()),
            };
            let (asked, output) = match reached {
                FollowOutcome::Ended(completed) => {
                    match &completed.result {
                        Ok(_) => self.log(context, LoggingLevel::Info, &format!("{tool} is done")).await,
                        Err(error) => {
                            let message = format!("{tool} failed: {}", error.reason().name());
                            self.log(context, LoggingLevel::Warning, &message).await;
                        }
                    }
                    return Ok(to_mcp(&completed, job_id).into());
                }
                FollowOutcome::Asks(asked, output) => (asked, output),
            };
            after = asked.sequence;
            match way {
                ElicitationMode::InSession => open = Some((asked, output)),
                ElicitationMode::ByRetry => {
                    let state = ElicitationState {
                        input_id: asked.input_id.clone(),
                        job_id: job_id.to_owned(),
                        sequence: asked.sequence,
                    };
                    return Ok(self
                        .input_required(caller, request, &state, &asked.prompt, elicitation::line())?
                        .into());
                }
                ElicitationMode::No => {
                    return Ok(to_mcp(&open_session(call, job_id, &asked, output), job_id).into());
                }
            }
        }
    }

    async fn reach(
        &self,
        runner: &dyn ToolRunner,
        caller: &Principal,
        job_id: &str,
        after: u32,
        progress: &mut ProgressReporter<'_>,
    ) -> Result<FollowOutcome, Error> {
        let (watch, mut watched) = mpsc::channel(WAITING);
        let mut following = std::pin::pin!(runner.follow(caller, job_id, after, watch));
        let mut output = String::new();
        let mut is_cancelled = false;
        let cancelled = cancelled(progress.context, self.followed.follow(job_id));
        let mut cancelled = std::pin::pin!(cancelled);
        loop {
            tokio::select! {
                // Watched things first: a question comes before the end that it delays.
                biased;
                Some(told) = watched.recv() => match told {
                    JobUpdate::Message(text) => progress.tell(&text).await,
                    JobUpdate::Output(text) => {
                        progress.output(&text);
                        output.push_str(&text);
                        // The end of the output is what belongs to the question.
                        let over = output.len().saturating_sub(MAX_OUTPUT_BYTES);
                        output.drain(..output.ceil_char_boundary(over));
                    }
                    JobUpdate::Question(asked) => return Ok(FollowOutcome::Asks(asked, output)),
                },
                ended = &mut following => return ended.map(FollowOutcome::Ended),
                () = &mut cancelled, if !is_cancelled => {
                    is_cancelled = true;
                    runner.cancel(caller, job_id).await;
                }
                () = tokio::time::sleep_until(progress.due()) => progress.tell_what_is_due().await,
            }
        }
    }

    /// Implements the tool for clients that cannot be asked: sends the answer, and waits for what comes next.
    pub(super) async fn send_session_input(
        &self,
        runner: &dyn ToolRunner,
        caller: &Principal,
        arguments: &Value,
        context: &RequestContext<RoleServer>,
    ) -> CallToolResponse {
        let send = async {
            let session_id = arguments["session_id"].as_str().ok_or_else(|| {
                Error::invalid("arguments.session_id", "is needed; start_interactive_session gives it")
            })?;
            let input = match arguments.get("input") {
                Some(input @ (Value::String(_) | Value::Null)) => input.clone(),
                _ => {
                    return Err(Error::invalid(
                        "arguments.input",
                        "must be a line of text, or null to end the session",
                    ));
                }
            };
            let (asked, call) = runner.asked(caller, session_id).await?;
            runner.answer(caller, session_id, &asked.input_id, input).await?;
            let mut progress = ProgressReporter::new(context);
            progress.tell("the agent was told").await;
            let reached = self.reach(runner, caller, session_id, asked.sequence, &mut progress).await?;
            Ok((session_id.to_owned(), call, reached))
        };
        match send.await {
            Ok((session_id, _, FollowOutcome::Ended(completed))) => to_mcp(&completed, &session_id).into(),
            Ok((session_id, call, FollowOutcome::Asks(asked, output))) => {
                to_mcp(&open_session(&call, &session_id, &asked, output), &session_id).into()
            }
            Err(error) => refused(&error).into(),
        }
    }
}

/// Returns when the call is cancelled, or when its client was cut off and has not come back in time.
async fn cancelled(context: &RequestContext<RoleServer>, following: FollowerGuard) {
    context.ct.cancelled().await;
    let may_come_back = elicitation::is_sessionless(context) && !idempotency_key(context).is_empty();
    if !may_come_back {
        return;
    }
    following.wait_until_abandoned().await;
}

/// Returns whether the job continues, and the call with it, although its question was not answered: the default or
/// another door was faster, or it is not known yet whether the answer was stored.
fn is_followed_on(error: &Error) -> bool {
    matches!(error.reason(), Reason::NoOpenQuestion | Reason::StoreUnavailable)
}

/// Returns the outcome of a call whose session waits for input.
fn open_session(call: &Call, job_id: &str, asked: &JobQuestion, output: String) -> CompletedCall {
    let text = format!("{}\n[{job_id} waits for input: {}]", output.trim_end(), asked.prompt);
    let agent_id = match call {
        Call::StartInteractiveSession(arguments) => arguments.agent_id.clone(),
        _ => String::new(),
    };
    let value = json!({
        "session_id": job_id,
        "agent_id": agent_id,
        "conversation_id": call.conversation_id().unwrap_or(DEFAULT_CONVERSATION),
        "is_open": true,
        "output": output,
        "is_truncated": output.len() >= MAX_OUTPUT_BYTES - 4,
        "prompt": asked.prompt,
        "input_id": asked.input_id,
        "inputs": 0,
    });
    let done = ToolResult { text: text.trim_start().to_owned(), value, is_truncated: false };
    CompletedCall { result: Ok(done), exit: None, duration: Duration::ZERO }
}

/// Returns the client's own key, by which a call that is sent again is not run again; empty where it gave none.
fn idempotency_key(context: &RequestContext<RoleServer>) -> String {
    let key = context.meta.get("conductor.gateway/idempotency_key").and_then(Value::as_str);
    key.unwrap_or_default().to_owned()
}
