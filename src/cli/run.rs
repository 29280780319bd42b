//! `run`: runs one task, in this process or by a running gateway, and prints its events.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use prost::Message;

use super::{
    answers::Answers,
    client,
    follow::print_result,
    global::GlobalArguments,
    print::{self, EventPrinter},
};
use crate::{
    app::Core,
    error::{Error, Reason, Result},
    job::{CancelledBy, Submission},
    pb::{
        AgentRun, Door, JobEvent, Json, OnDisconnect, SendInputRequest, StreamExecuteRequest, Task,
        TaskOptions, ToolCall, task,
    },
    principal::Principal,
    task::Termination,
    telemetry::TraceContext,
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What is to be done; with --agent what the agent is told; with --tool its arguments as JSON
    input: Option<String>,
    /// Run this agent, without planning
    #[arg(long, conflicts_with = "tool")]
    agent: Option<String>,
    /// Call this tool
    #[arg(long)]
    tool: Option<String>,
    /// The running gateway to use, such as http://127.0.0.1:5006; without it the task runs in this process
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Print the events as JSON lines
    #[arg(long)]
    json: bool,
    /// Longest time for the job, in seconds; 0 is the configured limit
    #[arg(long, default_value_t = 0)]
    timeout: u32,
    /// The conversation that it belongs to
    #[arg(long, default_value = "")]
    conversation: String,
}

impl Arguments {
    fn task(&self) -> Result<Task> {
        let input = self.input.clone();
        let task = match (&self.agent, &self.tool) {
            (Some(agent_id), _) => task::Task::AgentRun(AgentRun {
                agent_id: agent_id.clone(),
                input_text: input.unwrap_or_default(),
            }),
            (None, Some(tool)) => {
                let arguments = Json::compact(input.as_deref().unwrap_or("{}"))
                    .map_err(|error| Error::invalid("arguments", error.to_string()))?;
                task::Task::ToolCall(ToolCall { tool: tool.clone(), arguments: Some(arguments) })
            }
            (None, None) => task::Task::Command(input.unwrap_or_default()),
        };
        Ok(Task { task: Some(task) })
    }

    fn options(&self) -> TaskOptions {
        TaskOptions {
            timeout_seconds: self.timeout,
            conversation_id: self.conversation.clone(),
            on_disconnect: OnDisconnect::Cancel as i32,
            ..TaskOptions::default()
        }
    }
}

pub(super) async fn run(global: &GlobalArguments, arguments: Arguments) -> Result<ExitCode> {
    let mut printer = EventPrinter::new(arguments.json).answered_here();
    match &arguments.server {
        Some(_) => run_remotely(global, &arguments, &mut printer).await?,
        None => run_in_process(global, &arguments, &mut printer).await?,
    }
    Ok(ExitCode::from(printer.exit_status()))
}

async fn run_in_process(
    global: &GlobalArguments,
    arguments: &Arguments,
    printer: &mut EventPrinter,
) -> Result<()> {
    let config = global.load_for_one_process()?;
    let mut termination = Termination::listen().map_err(Error::internal)?;
    let core = Core::build(&config).await?;
    let followed = follow(&core, arguments, printer, &mut termination).await;
    core.shut_down(Duration::from_secs(config.conductor.kill_grace_seconds.into()), async {}).await;
    followed
}

async fn follow(
    core: &Core,
    arguments: &Arguments,
    printer: &mut EventPrinter,
    termination: &mut Termination,
) -> Result<()> {
    let caller = Principal::local();
    let submission = Submission {
        caller: caller.clone(),
        door: Door::Local,
        task: Some(arguments.task()?),
        options: arguments.options(),
        is_held: false,
        trace: TraceContext::of_process(),
    };
    let submitted = core.service.submit(submission).await?;
    let mut follower = core.service.follow(&caller, &submitted.job_id, 0).await?;
    let mut is_cancelled = false;
    let mut answers = Answers::default();
    loop {
        tokio::select! {
            slice = follower.next() => match slice? {
                None => {
                    if printer.wants_whole().is_some() {
                        print::answer(&core.service.result_text(&caller, &submitted.job_id).await?);
                    }
                    return Ok(());
                }
                Some(slice) => {
                    for index in slice.from..slice.batch.len() {
                        if let Some(event) = slice.batch.decode(index) {
                            printer.event(&event);
                            answers.observe(&event);
                        }
                    }
                }
            },
            given = answers.next() => {
                let value = given.value.to_value().map_err(Error::internal)?;
                if let Err(error) = core.service.send_input(&caller, &submitted.job_id, &given.input_id, value).await {
                    answers.refused(error.reason(), error.message());
                }
            }
            // Dropping the signal's branch loses nothing: a signal stays pending until it is received.
            signal = termination.next() => {
                if is_cancelled {
                    return Err(Error::new(Reason::Cancelled, format!("ended by {signal}")));
                }
                is_cancelled = true;
                core.service.cancel_now(&caller, &submitted.job_id, CancelledBy::Caller(caller.name().to_owned()));
            }
        }
    }
}

async fn run_remotely(
    global: &GlobalArguments,
    arguments: &Arguments,
    printer: &mut EventPrinter,
) -> Result<()> {
    let mut client = client::connect(global, arguments.server.clone()).await?;
    let request = StreamExecuteRequest { task: Some(arguments.task()?), options: Some(arguments.options()) };
    let frames = client.stream_execute(request).await.map_err(|status| client::refused(&status))?;
    let mut frames = frames.into_inner();
    let mut answers = Answers::default();
    loop {
        let frame = tokio::select! {
            frame = frames.message() => frame.map_err(|status| client::refused(&status))?,
            given = answers.next() => {
                let request =
                    SendInputRequest { job_id: given.job_id, input_id: given.input_id, value: Some(given.value) };
                if let Err(status) = client.send_input(request).await {
                    let error = client::refused(&status);
                    answers.refused(error.reason(), error.message());
                }
                continue;
            }
        };
        let Some(frame) = frame else {
            if let Some(job_id) = printer.wants_whole() {
                print_result(&mut client, job_id).await?;
            }
            return Ok(());
        };
        if let Some(event) = frame.event {
            let event = JobEvent::decode(event).map_err(Error::internal)?;
            printer.event(&event);
            answers.observe(&event);
        }
    }
}
