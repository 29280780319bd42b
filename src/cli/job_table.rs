//! Jobs as people read them: a table that fits the terminal, and everything about one.

use std::time::Duration;

use super::{
    choices::choices,
    job_ids::short,
    print::shown_line,
    terminal::{fitting, in_words, width},
};
use crate::{
    pb::{Job, Timestamp, job::Outcome, task},
    text::shown,
};

/// Returns what a job was asked to do, in one line.
fn task_of(job: &Job) -> String {
    let task = match job.task.as_ref().and_then(|task| task.task.as_ref()) {
        Some(task::Task::Command(command)) => command.clone(),
        Some(task::Task::AgentRun(run)) => format!("{}: {}", run.agent_id, run.input_text),
        Some(task::Task::ToolCall(call)) => call.tool.clone(),
        None => String::new(),
    };
    let start: String = task.chars().take(500).collect();
    shown(&start).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns how long ago a time was.
fn age(time: Option<Timestamp>) -> String {
    time.map_or_else(String::new, |time| in_words(Duration::from_secs(time.elapsed().as_secs().max(1))))
}

/// Returns how long a job has run, or has taken; empty if it has not begun.
fn took(job: &Job) -> String {
    let Some(start) = job.start_time else { return String::new() };
    let took = match job.end_time {
        Some(end) => end.unix_millis().saturating_sub(start.unix_millis()),
        None => u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    in_words(Duration::from_millis(took))
}

/// The heading of the table of jobs.
pub(super) fn heading() -> String {
    format!("{:<8}  {:<14}  {:>12}  {:>12}  TASK\n", "JOB", "STATE", "AGE", "TOOK")
}

/// Formats a job as a row of the table.
pub(super) fn row(job: &Job) -> String {
    let labels: Vec<String> = job
        .options
        .iter()
        .flat_map(|options| &options.labels)
        .map(|(key, value)| format!("[{key}={value}]"))
        .collect();
    let what = match labels.is_empty() {
        true => task_of(job),
        false => format!("{} {}", shown(&labels.join(" ")), task_of(job)),
    };
    let state = job.state().short_name();
    let (job_id, age, took) = (shown(short(&job.job_id)), age(job.create_time), took(job));
    let row = format!("{job_id:<8}  {state:<14}  {age:>12}  {took:>12}  ");
    let what = match width() {
        Some(width) => fitting(&what, width.saturating_sub(row.chars().count()).max(10)),
        None => what,
    };
    shown_line(&format!("{row}{what}"))
}

/// Formats everything about a job.
pub(super) fn details(job: &Job) -> String {
    let mut text = format!("job: {}\nstate: {}\n", shown(&job.job_id), job.state().short_name());
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            text += &shown_line(&format!("{name}: {value}"));
        }
    };
    line("task", task_of(job));
    let options = job.options.clone().unwrap_or_default();
    line("conversation", options.conversation_id);
    let labels = options.labels.iter().map(|(key, value)| format!("{key}={value}"));
    line("labels", labels.collect::<Vec<_>>().join(" "));
    let ago =
        |time: Option<Timestamp>| time.map_or_else(String::new, |at| format!("{at} ({} ago)", age(time)));
    line("created", ago(job.create_time));
    line("took", took(job));
    line("kept until", job.expire_time.map(|time| time.to_string()).unwrap_or_default());
    line(
        "position in the queue",
        job.queue_position.map(|position| position.to_string()).unwrap_or_default(),
    );
    line("events", job.last_sequence.to_string());
    let usage = job.usage.clone().unwrap_or_default();
    let tokens = match (usage.input_tokens, usage.output_tokens) {
        (None, None) => String::new(),
        (input, output) => format!("{} read, {} written", input.unwrap_or(0), output.unwrap_or(0)),
    };
    line("tokens", tokens);
    line("cost", usage.cost.map(|cost| format!("{cost} US dollars")).unwrap_or_default());
    line("trace", job.trace_parent.clone().unwrap_or_default());
    if let Some(question) = &job.question {
        let until = question.expire_time.map(|time| format!(", until {time}")).unwrap_or_default();
        let choices = choices(question.schema.as_ref());
        line("asks", format!("{}{choices} ({}{until})", question.prompt, question.input_id));
    }
    match &job.outcome {
        Some(Outcome::Result(result)) => {
            line("outcome", result.message.clone());
            text += &format!("\n{}\n", shown(result.text.trim_end()));
        }
        Some(Outcome::Error(error)) => {
            line("reason", error.reason.clone());
            text += &shown_line(&format!("error: {}", error.message));
        }
        None => {}
    }
    text
}
