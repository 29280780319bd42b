//! Makes tool calls, several at a time; the output and questions of each become events of the job as they come.

use std::{collections::VecDeque, future::Future, pin::Pin, time::Duration};

use futures_util::stream::FuturesUnordered;
use serde_json::{Map, Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_stream::{StreamExt, StreamMap, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;

use super::{TaskExecutor, Writer, inputs::AcceptedAnswer, prompt::ASK_USER};
use crate::{
    error::{Error, Reason, Result},
    mcp::ExternalTool,
    pb::{JobState, StatusReason},
    sync::sleep_until,
    tool::{Call, CallContext, CompletedCall, Progress, Question, ToolName, ToolResult},
};

/// The capacity of a call's progress channel; each piece of output is at most one read of a pipe.
const WAITING_PROGRESS: usize = 4;

/// A call that is to be made.
pub(super) enum PlannedCall {
    /// A tool of the catalogue that the caller has named, with its arguments as they were given.
    Named(Box<Call>, String),
    /// A tool of the catalogue that the model has chosen.
    CatalogueTool(ToolName, Map<String, Value>),
    /// A tool of an outside server that the model has chosen, with its idempotency key.
    ExternalTool(Box<ExternalTool>, Map<String, Value>, String),
    /// A question for the user.
    AskUser(Map<String, Value>),
    /// A call that the model got wrong.
    Mistake { tool: String, arguments: String, error: Error },
}

impl PlannedCall {
    fn tool(&self) -> &str {
        match self {
            Self::Named(call, _) => call.tool().as_str(),
            Self::CatalogueTool(tool, _) => tool.as_str(),
            Self::ExternalTool(tool, ..) => &tool.name,
            Self::AskUser(_) => ASK_USER,
            Self::Mistake { tool, .. } => tool,
        }
    }

    fn arguments(&self) -> String {
        match self {
            Self::Named(_, text) | Self::Mistake { arguments: text, .. } => text.clone(),
            Self::CatalogueTool(_, arguments)
            | Self::ExternalTool(_, arguments, _)
            | Self::AskUser(arguments) => Value::Object(arguments.clone()).to_string(),
        }
    }
}

/// A call that was made.
pub(super) struct ExecutedCall {
    /// The result, or why the call failed.
    pub(super) result: Result<ToolResult>,
    /// The text for the model.
    pub(super) text: String,
    /// Whether it failed.
    pub(super) is_error: bool,
    /// Whether it failed because the model called it wrongly.
    pub(super) is_models_mistake: bool,
}

impl ExecutedCall {
    fn of(result: Result<ToolResult>) -> Self {
        let text = match &result {
            Ok(done) if done.text.trim().is_empty() => "(the tool answered nothing)".to_owned(),
            Ok(done) => done.text.clone(),
            Err(error) => {
                let place = error.field().map(|field| format!("{field}: ")).unwrap_or_default();
                format!("{}: {place}{}", error.reason().name(), error.message())
            }
        };
        let mistakes = [Reason::InvalidArgument, Reason::UnknownTool, Reason::TooLarge];
        let is_models_mistake = result.as_ref().is_err_and(|error| mistakes.contains(&error.reason()));
        Self { is_error: result.is_err(), result, text, is_models_mistake }
    }
}

/// A question that was asked and is not answered yet.
struct AskedQuestion {
    input_id: String,
    question: Question,
    answer: oneshot::Receiver<AcceptedAnswer>,
    expires: Instant,
}

type Running<'a> = Pin<Box<dyn Future<Output = (usize, CompletedCall)> + Send + 'a>>;

/// The calls of one step while they run.
struct RunningCalls<'a> {
    running: FuturesUnordered<Running<'a>>,
    told: StreamMap<usize, ReceiverStream<Progress>>,
    /// The id and the tool of each call.
    names: Vec<(String, String)>,
    asked: Option<AskedQuestion>,
    /// Questions that wait until the open one is answered.
    waiting: VecDeque<(usize, Question)>,
}

impl TaskExecutor<'_> {
    /// Makes the calls, as many at a time as is allowed. Returns their outcomes in the order of the calls.
    ///
    /// # Errors
    /// [`Reason::Cancelled`]; [`Reason::TimedOut`] when not all were begun by the deadline; internal faults. A call
    /// that failed is not an error here.
    pub(super) async fn run_calls(
        &self,
        wishes: Vec<PlannedCall>,
        step: u32,
        writer: &mut Writer,
    ) -> Result<Vec<ExecutedCall>> {
        // Dropping this future cancels what still runs.
        let cancel = self.cancel.child_token();
        let _ends_what_is_left = cancel.clone().drop_guard();
        let limit = (self.planner.config.parallel_tool_calls as usize).max(1);
        let mut made: Vec<Option<ExecutedCall>> = wishes.iter().map(|_| None).collect();
        let mut wishes = wishes.into_iter();
        let mut running_calls = RunningCalls {
            running: FuturesUnordered::new(),
            told: StreamMap::new(),
            names: Vec::new(),
            asked: None,
            waiting: VecDeque::new(),
        };
        let mut is_cancel_told = false;
        loop {
            // Nothing is started after a cancellation or the end of the job's time.
            while running_calls.running.len() < limit
                && !self.cancel.is_cancelled()
                && !self.limit.has_passed()
                && let Some(wish) = wishes.next()
            {
                self.begin(wish, step, &cancel, &mut running_calls, writer).await?;
            }
            if running_calls.running.is_empty() {
                break;
            }
            let expiry = running_calls.asked.as_ref().map(|asked| asked.expires);
            tokio::select! {
                // Output first, so that what was printed before a call's end is written before it. Cancel safe: the
                // channels keep what is in them, the rest only waits.
                biased;
                Some((index, progress)) = running_calls.told.next() => self.handle_progress(index, progress, &mut running_calls, writer).await?,
                answer = answer_of(&mut running_calls.asked) => self.close_question(answer, &mut running_calls, writer).await?,
                () = sleep_until(expiry) => self.close_question(None, &mut running_calls, writer).await?,
                () = self.cancel.cancelled(), if !is_cancel_told => {
                    is_cancel_told = true;
                    let message = "the run is being stopped";
                    writer.status(JobState::Running, StatusReason::CancelRequested, None, message).await?;
                }
                Some((index, completed)) = futures_util::StreamExt::next(&mut running_calls.running) => {
                    self.end(index, &completed, &mut running_calls, writer).await?;
                    made[index] = Some(ExecutedCall::of(completed.result));
                }
            }
        }
        if self.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        if wishes.next().is_some() {
            return Err(super::step::timed_out());
        }
        Ok(made.into_iter().flatten().collect())
    }

    /// Makes one call that a caller has named.
    pub(super) async fn run_named_call(
        &self,
        call: &Call,
        arguments: &str,
        writer: &mut Writer,
    ) -> Result<ToolResult> {
        let wish = PlannedCall::Named(Box::new(call.clone()), arguments.to_owned());
        let made = self.run_calls(vec![wish], 1, writer).await?;
        made.into_iter()
            .next()
            .map_or_else(|| Err(Error::internal("a call without an outcome")), |made| made.result)
    }

    /// Asks whoever follows the job for a yes or a no; nobody's answer is a no.
    pub(super) async fn agrees(&self, question: &str, writer: &mut Writer) -> Result<bool> {
        let asked = json!({"question": question, "choices": ["yes", "no"]});
        let arguments = asked.as_object().cloned().unwrap_or_default();
        let made = self.run_calls(vec![PlannedCall::AskUser(arguments)], 1, writer).await?;
        let answer = made.into_iter().next().map(|made| made.result).transpose()?;
        Ok(answer.is_some_and(|answer| answer.value["answer"] == "yes"))
    }

    async fn begin<'a>(
        &'a self,
        wish: PlannedCall,
        step: u32,
        cancel: &CancellationToken,
        running_calls: &mut RunningCalls<'a>,
        writer: &mut Writer,
    ) -> Result<()> {
        let index = running_calls.names.len();
        let tool = wish.tool().to_owned();
        let tool_call_id = writer.tool_start(&tool, &wish.arguments(), step).await?;
        running_calls.names.push((tool_call_id, tool));
        let (progress, told) = mpsc::channel(WAITING_PROGRESS);
        running_calls.told.insert(index, ReceiverStream::new(told));
        let context = CallContext {
            caller: self.caller.clone(),
            job_id: self.job_id.clone(),
            trace: self.trace,
            conversation_id: self.conversation_id.clone(),
            cancel: cancel.clone(),
            limit: self.limit.clone(),
            progress,
            asks_first: !matches!(wish, PlannedCall::Named(..)),
        };
        running_calls.running.push(Box::pin(async move { (index, self.call(wish, context).await) }));
        Ok(())
    }

    async fn call(&self, wish: PlannedCall, context: CallContext) -> CompletedCall {
        match wish {
            PlannedCall::Named(call, _) => self.toolbox.call(&call, &context).await,
            PlannedCall::CatalogueTool(tool, arguments) => {
                self.planner.tools.call(tool, arguments, context).await
            }
            PlannedCall::ExternalTool(tool, arguments, key) => {
                self.planner.tools.call_outside(&tool, arguments, context, &key).await
            }
            PlannedCall::AskUser(arguments) => {
                let started = Instant::now();
                let result = self.ask_user(&arguments, &context).await;
                CompletedCall { result, exit: None, duration: started.elapsed() }
            }
            PlannedCall::Mistake { error, .. } => {
                CompletedCall { result: Err(error), exit: None, duration: Duration::ZERO }
            }
        }
    }

    async fn ask_user(&self, arguments: &Map<String, Value>, context: &CallContext) -> Result<ToolResult> {
        let prompt = arguments.get("question").and_then(Value::as_str).unwrap_or_default();
        let schema = match arguments.get("choices") {
            Some(choices @ Value::Array(_)) => json!({"type": "string", "enum": choices}),
            _ => json!({"type": "string", "maxLength": 16_000}),
        };
        let timeout = self.planner.config.input_timeout();
        let answer = context.ask(prompt, schema, Value::Null, timeout).await?;
        let text = match &answer {
            Value::String(text) => format!("The user answered: {text}"),
            _ => "The user did not answer. Go on as you think best, and say what you assumed.".to_owned(),
        };
        Ok(ToolResult { text, value: json!({ "answer": answer }), is_truncated: false })
    }

    async fn handle_progress(
        &self,
        index: usize,
        progress: Progress,
        running_calls: &mut RunningCalls<'_>,
        writer: &mut Writer,
    ) -> Result<()> {
        match progress {
            Progress::Output(chunk) => writer.tool_output(&running_calls.names[index].0, chunk).await,
            Progress::WaitingForAgent(agent_id) => {
                let message = format!("waiting for another run of {agent_id} to end");
                writer.status(JobState::Running, StatusReason::WaitingForAgent, None, message).await
            }
            Progress::AgentIsFree(agent_id) => {
                let message = format!("the other run of {agent_id} has ended");
                writer.status(JobState::Running, StatusReason::Unspecified, None, message).await
            }
            Progress::Question(question) if running_calls.asked.is_some() => {
                running_calls.waiting.push_back((index, question));
                Ok(())
            }
            Progress::Question(question) => self.ask(index, question, running_calls, writer).await,
        }
    }

    async fn ask(
        &self,
        index: usize,
        question: Question,
        running_calls: &mut RunningCalls<'_>,
        writer: &mut Writer,
    ) -> Result<()> {
        // Opened before anybody can read that there is a question.
        let input_id = writer.next_input_id();
        let answer = self.inputs.open(&input_id, &question.schema, &question.default);
        writer.input_required(&question, &running_calls.names[index].0).await?;
        let expires = Instant::now() + question.timeout;
        running_calls.asked = Some(AskedQuestion { input_id, question, answer, expires });
        Ok(())
    }

    /// Handles the open question's answer, or its expiry, and asks the next question.
    async fn close_question(
        &self,
        answer: Option<AcceptedAnswer>,
        running_calls: &mut RunningCalls<'_>,
        writer: &mut Writer,
    ) -> Result<()> {
        let Some(AskedQuestion { input_id, question, answer: mut receiver, .. }) = running_calls.asked.take()
        else {
            return Ok(());
        };
        self.inputs.close();
        // An answer that came at the moment of the expiry counts, because its sender was told that it was accepted.
        let answer = answer.or_else(|| receiver.try_recv().ok());
        // Without an answer, the question of a job that is being stopped or past its deadline is withdrawn: no default
        // was used.
        let is_ending = self.cancel.is_cancelled() || self.limit.has_passed();
        if answer.is_some() || !is_ending {
            writer.input_received(&input_id, answer.as_ref().map(|answer| answer.caller.as_str())).await?;
        }
        let (value, taken) = match answer {
            Some(AcceptedAnswer { value, taken, .. }) => (value, Some(taken)),
            None => (question.default, None),
        };
        // A call that has ended meanwhile needs no answer.
        let _ended = question.reply.send(value);
        if let Some(taken) = taken {
            let _left = taken.send(());
        }
        // Questions whose call is over or being ended need no answer.
        running_calls.waiting.retain(|(_, question)| !question.reply.is_closed());
        match running_calls.waiting.pop_front() {
            Some((index, question)) if !self.cancel.is_cancelled() => {
                self.ask(index, question, running_calls, writer).await
            }
            _ => Ok(()),
        }
    }

    async fn end(
        &self,
        index: usize,
        completed: &CompletedCall,
        running_calls: &mut RunningCalls<'_>,
        writer: &mut Writer,
    ) -> Result<()> {
        // What the call reported before its end and nobody has received yet.
        if let Some(told) = running_calls.told.remove(&index) {
            let mut told = told.into_inner();
            while let Ok(progress) = told.try_recv() {
                if !matches!(progress, Progress::Question(_)) {
                    self.handle_progress(index, progress, running_calls, writer).await?;
                }
            }
        }
        // Its waiting questions end with it.
        running_calls.waiting.retain(|(asking, _)| *asking != index);
        let (tool_call_id, tool) = running_calls.names[index].clone();
        if running_calls.asked.as_ref().is_some_and(|asked| asked.question.reply.is_closed()) {
            self.close_question(None, running_calls, writer).await?;
        }
        writer.tool_end(&tool_call_id, &tool, completed).await
    }
}

async fn answer_of(asked: &mut Option<AskedQuestion>) -> Option<AcceptedAnswer> {
    match asked {
        Some(asked) => (&mut asked.answer).await.ok(),
        None => std::future::pending().await,
    }
}
