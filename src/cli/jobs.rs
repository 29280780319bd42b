//! `jobs list|show|result|watch|cancel|answer|delete`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{
    answers::value_of,
    client,
    follow::{print_frames, print_result},
    global::GlobalArguments,
    print::{self, EventPrinter},
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
    /// The running gateway to use, such as http://127.0.0.1:5006
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the jobs, newest first
    List {
        /// Only jobs in this state, such as running
        #[arg(long)]
        state: Vec<String>,
        /// The most jobs to print
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Show one job
    Show {
        /// The job
        job_id: String,
    },
    /// Print the whole answer of a job
    Result {
        /// The job
        job_id: String,
    },
    /// Print a job's events to its end
    Watch {
        /// The job
        job_id: String,
        /// Begin behind this sequence
        #[arg(long, default_value_t = 0)]
        after: u32,
    },
    /// Cancel a job
    Cancel {
        /// The job
        job_id: String,
        /// How long to wait for its end, in seconds
        #[arg(long, default_value_t = 30)]
        wait: u32,
    },
    /// Answer the open question of a job
    Answer {
        /// The job
        job_id: String,
        /// The answer: text where the question takes text, yes or no where it takes that, else a JSON value
        #[arg(required_unless_present = "none")]
        answer: Option<String>,
        /// The question; left out, the open one
        #[arg(long, default_value = "")]
        input_id: String,
        /// Answer with null, which ends a session
        #[arg(long, conflicts_with = "answer")]
        none: bool,
    },
    /// Delete an ended job and its events
    Delete {
        /// The job
        job_id: String,
    },
}

fn show(job: &pb::Job, is_json: bool) {
    if is_json {
        // A job can always be rendered; an empty line would show a defect.
        print::to_stdout(&print::json_line(job));
    } else {
        print::to_stdout(&print::job_details(job));
    }
}

/// Prints jobs page by page; a page contains fewer than requested if its jobs are large.
async fn list(
    client: &mut GatewayServiceClient<Channel>,
    states: Vec<i32>,
    limit: u32,
    is_json: bool,
) -> Result<()> {
    let mut request = pb::ListJobsRequest { states, view: pb::JobView::Full as i32, ..Default::default() };
    let mut left = limit;
    while left > 0 {
        request.page_size = left.min(MAX_PAGE_SIZE);
        let page =
            client.list_jobs(request.clone()).await.map_err(|status| client::refused(&status))?.into_inner();
        for job in &page.jobs {
            match is_json {
                true => show(job, true),
                false => print::to_stdout(&print::job_line(job)),
            }
        }
        left = left.saturating_sub(u32::try_from(page.jobs.len()).unwrap_or(u32::MAX));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    Ok(())
}

pub(super) async fn jobs(global: &GlobalArguments, arguments: Arguments) -> Result<ExitCode> {
    let Arguments { server, json, command } = arguments;
    let mut client = client::connect(global, server).await?;
    let refused = |status: tonic::Status| client::refused(&status);
    match command {
        Command::List { state, limit } => {
            let states = state
                .iter()
                .map(|name| JobState::from_short_name(name).map(|state| state as i32).ok_or(name))
                .collect::<Result<_, _>>()
                .map_err(|name| Error::invalid("--state", format!("`{name}` is no state of a job")))?;
            list(&mut client, states, limit, json).await?;
        }
        Command::Show { job_id } => {
            let job = client.get_job(pb::GetJobRequest { job_id }).await.map_err(refused)?.into_inner().job;
            show(&job.unwrap_or_default(), json);
        }
        Command::Result { job_id } => print_result(&mut client, job_id).await?,
        Command::Watch { job_id, after } => {
            let request = pb::WatchJobRequest { job_id: job_id.clone(), after_sequence: after };
            let frames = client.watch_job(request).await.map_err(refused)?.into_inner();
            let mut printer = EventPrinter::new(json);
            print_frames(frames, &mut printer).await?;
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
        Command::Cancel { job_id, wait } => {
            let request = pb::CancelJobRequest { job_id, wait_seconds: wait };
            let job = client.cancel_job(request).await.map_err(refused)?.into_inner().job;
            show(&job.unwrap_or_default(), json);
        }
        Command::Answer { job_id, answer, input_id, .. } => {
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
            show(&job.unwrap_or_default(), json);
        }
        Command::Delete { job_id } => {
            client.delete_job(pb::DeleteJobRequest { job_id: job_id.clone() }).await.map_err(refused)?;
            print::to_stdout(&format!("{job_id} deleted\n"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
