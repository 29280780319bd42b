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

use super::{Agent, Writer, inputs::Answer, prompt::ASK_USER};
use crate::{
    error::{Error, Reason, Result},
    mcp::OutsideTool,
    pb::{JobState, StatusReason},
    tool::{Call, CallContext, Completed, Done, Progress, Question, ToolName},
};

/// The capacity of a call's progress channel; each piece of output is at most one read of a pipe.
const WAITING_PROGRESS: usize = 4;

/// A call that is to be made.
pub(super) enum Wish {
    /// A tool of the catalogue that the caller has named, with its arguments as they were given.
    Named(Box<Call>, String),
    /// A tool of the catalogue that the model has chosen.
    Own(ToolName, Map<String, Value>),
    /// A tool of an outside server that the model has chosen, with its idempotency key.
    Outside(Box<OutsideTool>, Map<String, Value>, String),
    /// A question for the user.
    AskUser(Map<String, Value>),
    /// A call that the model got wrong.
    Mistake { tool: String, arguments: String, error: Error },
}

impl Wish {
    fn tool(&self) -> &str {
        match self {
            Self::Named(call, _) => call.tool().as_str(),
            Self::Own(tool, _) => tool.as_str(),
            Self::Outside(tool, ..) => &tool.name,
            Self::AskUser(_) => ASK_USER,
            Self::Mistake { tool, .. } => tool,
        }
    }

    fn arguments(&self) -> String {
        match self {
            Self::Named(_, text) | Self::Mistake { arguments: text, .. } => text.clone(),
            Self::Own(_, arguments) | Self::Outside(_, arguments, _) | Self::AskUser(arguments) => {
                Value::Object(arguments.clone()).to_string()
            }
        }
    }
}

/// A call that was made.
pub(super) struct Made {
    /// The result, or why the call failed.
    pub(super) result: Result<Done>,
    /// The text for the model.
    pub(super) text: String,
    /// Whether it failed.
    pub(super) is_error: bool,
    /// Whether it failed because the model called it wrongly.
    pub(super) is_models_mistake: bool,
}

impl Made {
    fn of(result: Result<Done>) -> Self {
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
struct Asked {
    input_id: String,
    question: Question,
    answer: oneshot::Receiver<Answer>,
    expires: Instant,
}

type Running<'a> = Pin<Box<dyn Future<Output = (usize, Completed)> + Send + 'a>>;

/// The calls of one step while they run.
struct Floor<'a> {
    running: FuturesUnordered<Running<'a>>,
    told: StreamMap<usize, ReceiverStream<Progress>>,
    /// The id and the tool of each call.
    names: Vec<(String, String)>,
    asked: Option<Asked>,
    /// Questions that wait until the open one is answered.
    waiting: VecDeque<(usize, Question)>,
}

impl Agent<'_> {
    /// Makes the calls, as many at a time as is allowed. Returns their outcomes in the order of the calls.
    ///
    /// # Errors
    /// [`Reason::Cancelled`]; [`Reason::TimedOut`] when not all were begun by the deadline; internal faults. A call
    /// that failed is not an error here.
    pub(super) async fn make(&self, wishes: Vec<Wish>, step: u32, writer: &mut Writer) -> Result<Vec<Made>> {
        // Dropping this future cancels what still runs.
        let cancel = self.cancel.child_token();
        let _ends_what_is_left = cancel.clone().drop_guard();
        let limit = (self.mind.config.parallel_tool_calls as usize).max(1);
        let mut made: Vec<Option<Made>> = wishes.iter().map(|_| None).collect();
        let mut wishes = wishes.into_iter();
        let mut floor = Floor {
            running: FuturesUnordered::new(),
            told: StreamMap::new(),
            names: Vec::new(),
            asked: None,
            waiting: VecDeque::new(),
        };
        let mut is_cancel_told = false;
        loop {
            // Nothing is started after a cancellation or the end of the job's time.
            while floor.running.len() < limit
                && !self.cancel.is_cancelled()
                && Instant::now() < self.deadline
                && let Some(wish) = wishes.next()
            {
                self.begin(wish, step, &cancel, &mut floor, writer).await?;
            }
            if floor.running.is_empty() {
                break;
            }
            let expiry = floor.asked.as_ref().map(|asked| asked.expires);
            tokio::select! {
                // Output first, so that what was printed before a call's end is written before it. Cancel safe: the
                // channels keep what is in them, the rest only waits.
                biased;
                Some((index, progress)) = floor.told.next() => self.hear(index, progress, &mut floor, writer).await?,
                answer = answer_of(&mut floor.asked) => self.answered(answer, &mut floor, writer).await?,
                () = expiry_of(expiry) => self.answered(None, &mut floor, writer).await?,
                () = self.cancel.cancelled(), if !is_cancel_told => {
                    is_cancel_told = true;
                    let message = "the run is being stopped";
                    writer.status(JobState::Running, StatusReason::CancelRequested, None, message).await?;
                }
                Some((index, completed)) = futures_util::StreamExt::next(&mut floor.running) => {
                    self.end(index, &completed, &mut floor, writer).await?;
                    made[index] = Some(Made::of(completed.result));
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
    pub(super) async fn make_named(&self, call: &Call, arguments: &str, writer: &mut Writer) -> Result<Done> {
        let wish = Wish::Named(Box::new(call.clone()), arguments.to_owned());
        let made = self.make(vec![wish], 1, writer).await?;
        made.into_iter()
            .next()
            .map_or_else(|| Err(Error::internal("a call without an outcome")), |made| made.result)
    }

    async fn begin<'a>(
        &'a self,
        wish: Wish,
        step: u32,
        cancel: &CancellationToken,
        floor: &mut Floor<'a>,
        writer: &mut Writer,
    ) -> Result<()> {
        let index = floor.names.len();
        let tool = wish.tool().to_owned();
        let tool_call_id = writer.tool_start(&tool, &wish.arguments(), step).await?;
        floor.names.push((tool_call_id, tool));
        let (progress, told) = mpsc::channel(WAITING_PROGRESS);
        floor.told.insert(index, ReceiverStream::new(told));
        let context = CallContext {
            caller: self.caller.clone(),
            job_id: self.job_id.clone(),
            conversation_id: self.conversation_id.clone(),
            cancel: cancel.clone(),
            deadline: self.deadline,
            progress,
            asks_first: !matches!(wish, Wish::Named(..)),
        };
        floor.running.push(Box::pin(async move { (index, self.call(wish, context).await) }));
        Ok(())
    }

    async fn call(&self, wish: Wish, context: CallContext) -> Completed {
        match wish {
            Wish::Named(call, _) => self.toolbox.call(&call, &context).await,
            Wish::Own(tool, arguments) => self.mind.tools.call(tool, arguments, context).await,
            Wish::Outside(tool, arguments, key) => {
                self.mind.tools.call_outside(&tool, arguments, context, &key).await
            }
            Wish::AskUser(arguments) => {
                let started = Instant::now();
                let result = self.ask_user(&arguments, &context).await;
                Completed { result, exit: None, duration: started.elapsed() }
            }
            Wish::Mistake { error, .. } => {
                Completed { result: Err(error), exit: None, duration: Duration::ZERO }
            }
        }
    }

    async fn ask_user(&self, arguments: &Map<String, Value>, context: &CallContext) -> Result<Done> {
        let prompt = arguments.get("question").and_then(Value::as_str).unwrap_or_default();
        let schema = match arguments.get("choices") {
            Some(choices @ Value::Array(_)) => json!({"type": "string", "enum": choices}),
            _ => json!({"type": "string", "maxLength": 16_000}),
        };
        let timeout = self.mind.config.input_timeout();
        let answer = context.ask(prompt, schema, Value::Null, timeout).await?;
        let text = match &answer {
            Value::String(text) => format!("The user answered: {text}"),
            _ => "The user did not answer. Go on as you think best, and say what you assumed.".to_owned(),
        };
        Ok(Done { text, value: json!({ "answer": answer }), is_truncated: false })
    }

    async fn hear(
        &self,
        index: usize,
        progress: Progress,
        floor: &mut Floor<'_>,
        writer: &mut Writer,
    ) -> Result<()> {
        match progress {
            Progress::Output(chunk) => writer.tool_output(&floor.names[index].0, chunk).await,
            Progress::WaitingForAgent(agent_id) => {
                let message = format!("waiting for another run of {agent_id} to end");
                writer.status(JobState::Running, StatusReason::WaitingForAgent, None, message).await
            }
            Progress::AgentIsFree(agent_id) => {
                let message = format!("the other run of {agent_id} has ended");
                writer.status(JobState::Running, StatusReason::Unspecified, None, message).await
            }
            Progress::Question(question) if floor.asked.is_some() => {
                floor.waiting.push_back((index, question));
                Ok(())
            }
            Progress::Question(question) => self.ask(index, question, floor, writer).await,
        }
    }

    async fn ask(
        &self,
        index: usize,
        question: Question,
        floor: &mut Floor<'_>,
        writer: &mut Writer,
    ) -> Result<()> {
        // Opened before anybody can read that there is a question.
        let input_id = writer.next_input_id();
        let answer = self.inputs.open(&input_id, &question.schema, &question.default);
        writer.input_required(&question, &floor.names[index].0).await?;
        let expires = Instant::now() + question.timeout;
        floor.asked = Some(Asked { input_id, question, answer, expires });
        Ok(())
    }

    /// Handles the open question's answer, or its expiry, and asks the next question.
    async fn answered(
        &self,
        answer: Option<Answer>,
        floor: &mut Floor<'_>,
        writer: &mut Writer,
    ) -> Result<()> {
        let Some(Asked { input_id, question, answer: mut receiver, .. }) = floor.asked.take() else {
            return Ok(());
        };
        self.inputs.close();
        // An answer that came at the moment of the expiry counts, because its sender was told that it was accepted.
        let answer = answer.or_else(|| receiver.try_recv().ok());
        // Without an answer, the question of a job that is being stopped or past its deadline is withdrawn: no default
        // was used.
        let is_ending = self.cancel.is_cancelled() || Instant::now() >= self.deadline;
        if answer.is_some() || !is_ending {
            writer.input_received(&input_id, answer.as_ref().map(|answer| answer.caller.as_str())).await?;
        }
        let (value, taken) = match answer {
            Some(Answer { value, taken, .. }) => (value, Some(taken)),
            None => (question.default, None),
        };
        // A call that has ended meanwhile needs no answer.
        let _ended = question.reply.send(value);
        if let Some(taken) = taken {
            let _left = taken.send(());
        }
        // Questions whose call is over or being ended need no answer.
        floor.waiting.retain(|(_, question)| !question.reply.is_closed());
        match floor.waiting.pop_front() {
            Some((index, question)) if !self.cancel.is_cancelled() => {
                self.ask(index, question, floor, writer).await
            }
            _ => Ok(()),
        }
    }

    async fn end(
        &self,
        index: usize,
        completed: &Completed,
        floor: &mut Floor<'_>,
        writer: &mut Writer,
    ) -> Result<()> {
        // What the call reported before its end and nobody has received yet.
        if let Some(told) = floor.told.remove(&index) {
            let mut told = told.into_inner();
            while let Ok(progress) = told.try_recv() {
                if !matches!(progress, Progress::Question(_)) {
                    self.hear(index, progress, floor, writer).await?;
                }
            }
        }
        // Its waiting questions end with it.
        floor.waiting.retain(|(asking, _)| *asking != index);
        let (tool_call_id, tool) = floor.names[index].clone();
        if floor.asked.as_ref().is_some_and(|asked| asked.question.reply.is_closed()) {
            self.answered(None, floor, writer).await?;
        }
        writer.tool_end(&tool_call_id, &tool, completed).await
    }
}

async fn answer_of(asked: &mut Option<Asked>) -> Option<Answer> {
    match asked {
        Some(asked) => (&mut asked.answer).await.ok(),
        None => std::future::pending().await,
    }
}

async fn expiry_of(expires: Option<Instant>) {
    match expires {
        Some(expires) => tokio::time::sleep_until(expires).await,
        None => std::future::pending().await,
    }
}
