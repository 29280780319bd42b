//! `doctor`: checks the configuration, this machine, the engine and the model, and says what to do about what it finds.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use clap::Args;
use futures_util::StreamExt;
use serde::Serialize;

use super::{
    global::GlobalArguments,
    output::{OutputArguments, OutputFormat, print_documents},
    print,
    terminal::{Colour, coloured},
};
use crate::{
    app::Core,
    error::{Error, Result},
    job::Submission,
    llm::{Message, Model, ModelRequest, Piece},
    pb::{Door, JobState, Task, TaskOptions, ToolCall, job::Outcome, task},
    principal::Principal,
    text::{bounded, shown},
};

/// How long the model may take for one word.
const MODEL_TIME: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Ask the model for one word, which costs some tokens
    #[arg(long)]
    ask: bool,
    #[command(flatten)]
    output: OutputArguments,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Finding {
    #[serde(rename = "ok")]
    Good,
    Note,
    Bad,
}

/// A finding as JSON.
#[derive(Debug, Serialize)]
struct FindingDocument {
    finding: Finding,
    subject: String,
    text: String,
}

/// The findings; for people they are printed as they come.
#[derive(Debug)]
struct Report {
    format: OutputFormat,
    documents: Vec<FindingDocument>,
    is_bad: bool,
}

impl Report {
    fn say(&mut self, finding: Finding, what: &str, text: &str) {
        self.is_bad |= finding == Finding::Bad;
        let text = bounded(text.trim(), 2000);
        if self.format != OutputFormat::Table {
            self.documents.push(FindingDocument { finding, subject: what.to_owned(), text });
            return;
        }
        let (word, colour) = match finding {
            Finding::Good => ("ok  ", Colour::Green),
            Finding::Note => ("note", Colour::Yellow),
            Finding::Bad => ("bad ", Colour::Red),
        };
        let text = shown(&text).replace('\n', "\n      ");
        // Colour is for terminals; standard output may be one or not.
        let word = if super::terminal::width().is_some() { coloured(word, colour) } else { word.to_owned() };
        print::to_stdout(&format!("{word}  {what}: {text}\n"));
    }
}

pub(super) async fn doctor(global: &GlobalArguments, arguments: &Arguments) -> Result<ExitCode> {
    let format = arguments.output.format();
    let mut report = Report { format, documents: Vec::new(), is_bad: false };
    let examined = examine(global, arguments, &mut report).await;
    if format != OutputFormat::Table {
        print_documents(&report.documents, format);
    }
    examined
}

async fn examine(global: &GlobalArguments, arguments: &Arguments, report: &mut Report) -> Result<ExitCode> {
    let loaded = global.load_quietly()?;
    report.say(Finding::Good, "configuration", "every value is valid");
    let variables: BTreeMap<&str, usize> = loaded
        .explained
        .iter()
        .filter(|(_, _, origin)| origin.starts_with("environment "))
        .fold(BTreeMap::new(), |mut names, (_, _, origin)| {
            *names.entry(origin.as_str()).or_default() += 1;
            names
        });
    for origin in variables.keys() {
        report.say(Finding::Note, "configuration", &format!("a value comes from the {origin}"));
    }
    let server = &loaded.config.server;
    match std::net::TcpListener::bind((server.host.as_str(), server.port)) {
        Ok(_free) => report.say(Finding::Good, "server.port", &format!("{} is free", server.port)),
        Err(error) => {
            let text =
                format!("{} is taken ({error}): a gateway is running, or something else is", server.port);
            report.say(Finding::Note, "server.port", &text);
        }
    }
    let config = global.load_for_one_process()?;
    let core = match Core::build(&config).await {
        Ok(core) => core,
        Err(error) => {
            report.say(Finding::Bad, "start", error.message());
            return Ok(ExitCode::from(error.reason().codes().exit));
        }
    };
    let checked = check(&core, arguments, report).await;
    core.shut_down(Duration::from_secs(config.conductor.kill_grace_seconds.into()), async {}).await;
    checked.map(|()| ExitCode::from(u8::from(report.is_bad)))
}

async fn check(core: &Core, arguments: &Arguments, report: &mut Report) -> Result<()> {
    let info = core.directory_service.info();
    match core.directory_service.agents().await {
        Ok(agents) if agents.is_empty() => {
            report.say(
                Finding::Note,
                "engine",
                &format!("{}, without agents; install templates", info.engine),
            );
        }
        Ok(agents) => {
            report.say(Finding::Good, "engine", &format!("{}, with {} agents", info.engine, agents.len()));
        }
        Err(error) => report.say(Finding::Bad, "engine", error.message()),
    }
    let (is_valid, said) = validated(core).await?;
    report.say(if is_valid { Finding::Good } else { Finding::Bad }, "engine", &said);
    let planner = core.directory_service.planner();
    match &planner.model {
        None => {
            let text = format!("none, so that only some commands are understood: {}", info.planner_reason);
            report.say(Finding::Note, "model", &text);
        }
        Some(model) => {
            report.say(Finding::Good, "model", &info.planner_reason);
            if arguments.ask {
                match asked(&**model).await {
                    Ok(()) => report.say(Finding::Good, "model", "it answers"),
                    Err(message) => report.say(Finding::Bad, "model", &message),
                }
            }
        }
    }
    Ok(())
}

/// Lets the engine check itself. Returns whether it is valid, and what it says.
async fn validated(core: &Core) -> Result<(bool, String)> {
    let caller = Principal::local();
    let call = ToolCall { tool: "validate_conductor_system".to_owned(), arguments: None };
    let submission = Submission {
        caller: caller.clone(),
        door: Door::Local,
        task: Some(Task { task: Some(task::Task::ToolCall(call)) }),
        options: TaskOptions::default(),
        is_held: false,
        trace: None,
    };
    let job_id = core.service.submit(submission).await?.job_id;
    let job = core.service.wait(&caller, &job_id).await?;
    let state = job.state();
    match job.outcome {
        Some(Outcome::Result(result)) if state == JobState::Succeeded => {
            let found = result.structured.and_then(|found| found.to_value().ok()).unwrap_or_default();
            let is_valid = found["is_valid"] == true;
            let first = result.text.lines().next().unwrap_or_default().to_owned();
            Ok((is_valid, if is_valid { first } else { result.text }))
        }
        Some(Outcome::Error(error)) => Ok((false, error.message)),
        _ => Err(Error::internal("a job without an outcome")),
    }
}

/// Asks the model for one word.
async fn asked(model: &dyn Model) -> std::result::Result<(), String> {
    let request = ModelRequest {
        system: "You are being checked.".to_owned(),
        messages: vec![Message::User("Answer with the word ok.".to_owned())],
        ..ModelRequest::default()
    };
    let mut pieces = model.ask(request);
    let answer = async {
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(Piece::End(_)) => return Ok(()),
                Ok(_) => {}
                Err(failure) => return Err(failure.message),
            }
        }
        Err("its answer has no end".to_owned())
    };
    tokio::time::timeout(MODEL_TIME, answer)
        .await
        .unwrap_or_else(|_| Err(format!("it took longer than {} seconds for one word", MODEL_TIME.as_secs())))
}
