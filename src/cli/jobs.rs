//! `jobs list|show|result|watch|cancel|answer|rerun|delete`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{
    answers::value_of,
    client,
    event_printer::{EventFormat, EventPrinter},
    follow::print_result,
    global::GlobalArguments,
    job_ids::resolve,
    job_table,
    output::{OutputArguments, OutputFormat},
    print, remote_run,
};
use crate::{
    error::{Error, Reason, Result},
    pb::{self, JobState, Json, gateway_service_client::GatewayServiceClient},
};
use tonic::transport::Channel;

/// The maximum page size that a gateway accepts.
const MAX_PAGE_SIZE: u32 = 500;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The running gateway to use; left out, the one that listens where the configuration says
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    #[command(flatten)]
    output: OutputArguments,
    #[command(subcommand)]
    command: JobsCommand,
}

#[derive(Debug, Args)]
struct ListArguments {
    /// Only jobs in this state: queued, running, input_required, succeeded, failed, cancelled or interrupted; may be repeated
    #[arg(long, value_name = "STATE")]
    state: Vec<String>,
    /// Only jobs with this label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Only jobs whose title, or one of whose labels, contains this text
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    text: String,
    /// Only jobs of this conversation
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    conversation: String,
    /// The most jobs to print
    #[arg(long, default_value_t = 50)]
    limit: u32,
}

/// A job, by its id or the last characters of it.
#[derive(Debug, Args)]
struct JobArgument {
    /// The job: its id, or the last characters of it
    #[arg(value_name = "JOB")]
    job_id: String,
}

#[derive(Debug, Subcommand)]
enum JobsCommand {
    /// List the jobs, newest first
    List(ListArguments),
    /// Show one job
    Show(JobArgument),
    /// Print the whole answer of a job
    Result(JobArgument),
    /// Print a job's events to its end
    Watch {
        #[command(flatten)]
        job: JobArgument,
        /// Begin after the event with this number
        #[arg(long, default_value_t = 0)]
        after: u32,
    },
    /// Cancel a job
    Cancel {
        #[command(flatten)]
        job: JobArgument,
        /// How long to wait for its end, in seconds
        #[arg(long, default_value_t = 30)]
        wait: u32,
    },
    /// Answer the open question of a job
    Answer {
        #[command(flatten)]
        job: JobArgument,
        /// The answer: text where the question takes text, yes or no where it takes that, else a JSON value
        #[arg(required_unless_present = "none")]
        answer: Option<String>,
        /// The question; left out, the open one
        #[arg(long, default_value = "", hide_default_value = true)]
        input_id: String,
        /// Answer with null: no answer to a question, the end of the input of a session
        #[arg(long, conflicts_with = "answer")]
        none: bool,
    },
    /// Submit the task of a job again, as a new job
    Rerun(JobArgument),
    /// Delete an ended job and its events
    Delete(JobArgument),
}

fn show(job: &pb::Job, format: OutputFormat) {
    match format {
        OutputFormat::Table => print::to_stdout(&job_table::details(job)),
        OutputFormat::Json | OutputFormat::JsonLines => print::to_stdout(&print::json_line(job)),
    }
}

/// Reads the filter of a listing.
fn request(arguments: &ListArguments) -> Result<pb::ListJobsRequest> {
    let mut states = Vec::new();
    for name in &arguments.state {
        let state = JobState::from_short_name(name).ok_or_else(|| {
            let names = JobState::short_names().join(", ").to_lowercase();
            let name = crate::text::quoted(name);
            Error::invalid("--state", format!("`{name}` is no state of a job; there are {names}"))
        })?;
        states.push(state as i32);
    }
    let mut labels = std::collections::BTreeMap::new();
    for label in &arguments.labels {
        let (key, value) = label.split_once('=').ok_or_else(|| {
            Error::invalid("--label", format!("`{}` is no KEY=VALUE", crate::text::quoted(label)))
        })?;
        labels.insert(key.to_owned(), value.to_owned());
    }
    let (conversation_id, text) = (arguments.conversation.clone(), arguments.text.clone());
    let view = pb::JobView::Full as i32;
    Ok(pb::ListJobsRequest { states, labels, conversation_id, text, view, ..Default::default() })
}

/// Prints jobs page by page; a page contains fewer than requested if its jobs are large.
async fn list(
    client: &mut GatewayServiceClient<Channel>,
    arguments: &ListArguments,
    format: OutputFormat,
) -> Result<()> {
    let mut request = request(arguments)?;
    let mut left = arguments.limit;
    let (mut count, mut all) = (0, Vec::new());
    loop {
        request.page_size = left.min(MAX_PAGE_SIZE);
        let page =
            client.list_jobs(request.clone()).await.map_err(|status| client::refused(&status))?.into_inner();
        for job in page.jobs {
            if count == 0 && format == OutputFormat::Table {
                print::to_stdout(&job_table::heading());
            }
            count += 1;
            match format {
                OutputFormat::Table => print::to_stdout(&job_table::row(&job)),
                OutputFormat::JsonLines => print::to_stdout(&print::json_line(&job)),
                OutputFormat::Json => all.push(job),
            }
        }
        left = arguments.limit.saturating_sub(count);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || left == 0 || print::is_unread() {
            break;
        }
    }
    match format {
        OutputFormat::Json => print::to_stdout(&print::json_line(&all)),
        OutputFormat::Table if count == 0 => {
            print::to_stderr("there are no such jobs; ended ones are removed after jobs.retention_seconds\n");
        }
        OutputFormat::Table if !request.page_token.is_empty() => {
            print::to_stderr(&format!(
                "there are more; --limit {} shows them\n",
                arguments.limit.saturating_mul(10)
            ));
        }
        _ => {}
    }
    Ok(())
}

/// Submits the task of a job again, with its options but its key.
async fn rerun(client: &mut GatewayServiceClient<Channel>, job_id: String) -> Result<pb::Job> {
    let refused = |status: tonic::Status| client::refused(&status);
    let job = client.get_job(pb::GetJobRequest { job_id }).await.map_err(refused)?.into_inner().job;
    let pb::Job { task, options, .. } = job.unwrap_or_default();
    let options = pb::TaskOptions {
        idempotency_key: String::new(),
        on_disconnect: pb::OnDisconnect::Unspecified as i32,
        ..options.unwrap_or_default()
    };
    let request = pb::SubmitJobRequest { task, options: Some(options) };
    Ok(client.submit_job(request).await.map_err(refused)?.into_inner().job.unwrap_or_default())
}

pub(super) async fn jobs(global: &GlobalArguments, arguments: Arguments) -> Result<ExitCode> {
    let Arguments { server, output, command } = arguments;
    let format = output.format();
    let reaching = global.reaching(server.as_deref());
    let connected = client::connected(global, server).await?;
    let client = &mut connected.calls();
    let refused = |status: tonic::Status| client::refused(&status);
    match command {
        JobsCommand::List(arguments) => list(client, &arguments, format).await?,
        JobsCommand::Show(job) => {
            let job_id = resolve(client, &job.job_id).await?;
            let job = client.get_job(pb::GetJobRequest { job_id }).await.map_err(refused)?.into_inner().job;
            show(&job.unwrap_or_default(), format);
        }
        JobsCommand::Result(job) => {
            let job_id = resolve(client, &job.job_id).await?;
            print_result(&connected, &job_id).await?;
        }
        JobsCommand::Watch { job, after } => {
            let job_id = resolve(client, &job.job_id).await?;
            let is_json = format != OutputFormat::Table;
            let events = if is_json { EventFormat::Json } else { EventFormat::Human };
            let mut printer = EventPrinter::new(events).after(after).reaching(reaching);
            remote_run::follow(&connected, &job_id, &mut printer, None, false).await?;
            if !printer.has_ended() {
                // The last event was not among those that were requested.
                let job =
                    client.get_job(pb::GetJobRequest { job_id }).await.map_err(refused)?.into_inner().job;
                if let Some(job) = job.filter(|job| job.end_time.is_some()) {
                    printer.ended(&job);
                }
            }
            return Ok(ExitCode::from(printer.exit_status()));
        }
        JobsCommand::Cancel { job, wait } => {
            let job_id = resolve(client, &job.job_id).await?;
            let request = pb::CancelJobRequest { job_id, wait_seconds: wait };
            let job = client.cancel_job(request).await.map_err(refused)?.into_inner().job;
            show(&job.unwrap_or_default(), format);
        }
        JobsCommand::Answer { job, answer, input_id, .. } => {
            let job_id = resolve(client, &job.job_id).await?;
            let request = pb::GetJobRequest { job_id: job_id.clone() };
            let job = client.get_job(request).await.map_err(refused)?.into_inner().job.unwrap_or_default();
            let question = job.question.clone().ok_or_else(|| {
                let message = format!("the job is {} and asks nothing", job.state().short_name());
                Error::new(Reason::NoOpenQuestion, message)
            })?;
            let value = match answer {
                Some(answer) => value_of(&answer, question.schema.as_ref()),
                None => Json { text: "null".to_owned() },
            };
            let input_id = if input_id.is_empty() { question.input_id } else { input_id };
            let request = pb::SendInputRequest { job_id, input_id, value: Some(value) };
            let job = client.send_input(request).await.map_err(refused)?.into_inner().job;
            show(&job.unwrap_or_default(), format);
        }
        JobsCommand::Rerun(job) => {
            let job_id = resolve(client, &job.job_id).await?;
            let job = rerun(client, job_id).await?;
            match format {
                OutputFormat::Table => print::to_stdout(&format!("{}\n", job.job_id)),
                _ => show(&job, format),
            }
        }
        JobsCommand::Delete(job) => {
            let job_id = resolve(client, &job.job_id).await?;
            client.delete_job(pb::DeleteJobRequest { job_id: job_id.clone() }).await.map_err(refused)?;
            print::to_stdout(&match format {
                OutputFormat::Table => format!("{job_id} deleted\n"),
                _ => print::json_line(&serde_json::json!({"job_id": job_id, "deleted": true})),
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}
