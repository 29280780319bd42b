//! `run`: runs one task, in this process or by a running gateway, and prints its events.

use std::{process::ExitCode, time::Duration};

use clap::Args;

use super::{
    answers::Answers,
    client,
    event_printer::{EventFormat, EventPrinter},
    global::GlobalArguments,
    print, remote_run,
    task_arguments::TaskArguments,
};
use crate::{
    app::Core,
    error::{Error, Reason, Result},
    job::{CancelledBy, Submission},
    pb::{Door, OnDisconnect, Task, TaskOptions, task},
    principal::Principal,
    task::Termination,
    telemetry::TraceContext,
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    task: TaskArguments,
    /// The running gateway to use, such as http://127.0.0.1:5006; without it the task runs in this process, and with --detach
    /// by the gateway that listens where the configuration says
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Submit the task to the running gateway, print its job's id, and leave
    #[arg(long)]
    detach: bool,
    /// Print the events as JSON lines
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Print the answer only, or with --detach the job's id
    #[arg(long, short)]
    quiet: bool,
}

pub(super) async fn run(global: &GlobalArguments, arguments: Arguments) -> Result<ExitCode> {
    let format = match (arguments.json, arguments.quiet) {
        (true, _) => EventFormat::Json,
        (_, true) => EventFormat::Quiet,
        _ => EventFormat::Human,
    };
    let (task, has_read_stdin) = arguments.task.task()?;
    if matches!(&task.task, Some(task::Task::Command(command)) if command.trim().is_empty()) {
        let message = "is missing; say what is to be done, such as: run \"list all available agents\"";
        return Err(Error::invalid("INPUT", message));
    }
    let options = arguments.task.options()?;
    // What was read as the task holds no answers.
    let answers = if has_read_stdin { Answers::ended() } else { Answers::default() };
    if arguments.detach {
        let reaching = global.reaching(arguments.server.as_deref());
        let client = client::connected(global, arguments.server).await?;
        return remote_run::detach(&client, task, options, format, &reaching).await;
    }
    let mut printer = EventPrinter::new(format).answered_here();
    match arguments.server {
        Some(server) => {
            let client = client::connected(global, Some(server)).await?;
            remote_run::run(&client, task, options, &mut printer, answers).await?;
        }
        None => run_in_process(global, (task, options), &mut printer, answers).await?,
    }
    Ok(ExitCode::from(printer.exit_status()))
}

async fn run_in_process(
    global: &GlobalArguments,
    (task, options): (Task, TaskOptions),
    printer: &mut EventPrinter,
    answers: Answers,
) -> Result<()> {
    let config = global.load_for_one_process()?;
    let mut termination = Termination::listen().map_err(Error::internal)?;
    let core = Core::build(&config).await?;
    let options = TaskOptions { on_disconnect: OnDisconnect::Cancel as i32, ..options };
    let submission = Submission {
        caller: Principal::local(),
        door: Door::Local,
        task: Some(task),
        options,
        is_held: false,
        trace: TraceContext::of_process(),
    };
    let followed = follow(&core, submission, printer, answers, &mut termination).await;
    core.shut_down(Duration::from_secs(config.conductor.kill_grace_seconds.into()), async {}).await;
    followed
}

async fn follow(
    core: &Core,
    submission: Submission,
    printer: &mut EventPrinter,
    mut answers: Answers,
    termination: &mut Termination,
) -> Result<()> {
    let caller = submission.caller.clone();
    let submitted = core.service.submit(submission).await?;
    let mut follower = core.service.follow(&caller, &submitted.job_id, 0).await?;
    let (mut is_cancelled, mut has_lost_reader) = (false, false);
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut reader_is_gone = Box::pin(print::until_reader_is_gone());
    let cancel = || {
        let by = CancelledBy::Caller(caller.name().to_owned());
        core.service.cancel_now(&caller, &submitted.job_id, by);
    };
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
            _ = ticks.tick() => printer.tick(),
            // Dropping the signal's branch loses nothing: a signal stays pending until it is received.
            signal = termination.next() => {
                if std::mem::replace(&mut is_cancelled, true) {
                    return Err(Error::new(Reason::Cancelled, format!("ended by {signal}")));
                }
                printer.warn("cancelling; the same key again ends at once");
                cancel();
            }
            () = &mut reader_is_gone, if !has_lost_reader => {
                has_lost_reader = true;
                cancel();
            }
        }
    }
}
