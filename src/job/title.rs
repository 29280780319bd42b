//! The title of a job: what was asked, in one line for people.

use crate::{
    pb::{Task, task},
    text::shown,
};

/// The most bytes of a title.
const MAX_TITLE_BYTES: usize = 120;
/// How much of a text is looked at: enough that white space and hidden characters leave a whole title.
const MAX_LOOKED_AT: usize = 2048;

/// Returns a task as one line of at most 120 bytes, without control or hidden characters.
pub(super) fn title_of(task: &Task) -> String {
    let text = match &task.task {
        Some(task::Task::Command(command)) => start(command).to_owned(),
        Some(task::Task::AgentRun(run)) => format!("{}: {}", run.agent_id, start(&run.input_text)),
        Some(task::Task::ToolCall(call)) => match call.arguments.as_ref().map_or("", |json| &json.text) {
            "" | "{}" => call.tool.clone(),
            arguments => format!("{} {}", call.tool, start(arguments)),
        },
        None => String::new(),
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let title = shown(&words.join(" "));
    if title.len() <= MAX_TITLE_BYTES {
        return title;
    }
    let cut = title.floor_char_boundary(MAX_TITLE_BYTES - '…'.len_utf8());
    format!("{}…", &title[..cut])
}

fn start(text: &str) -> &str {
    let text = text.trim_start();
    &text[..text.floor_char_boundary(MAX_LOOKED_AT)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::{AgentRun, Json, ToolCall};

    #[test]
    fn a_title_is_one_short_clean_line() {
        let title = |task| title_of(&Task { task: Some(task) });
        assert_eq!(title(task::Task::Command("  list\n\tthe agents ".into())), "list the agents");
        let run = AgentRun { agent_id: "X_Agent".into(), input_text: "hello\u{202e}\u{1b}[31m".into() };
        let said = title(task::Task::AgentRun(run));
        assert!(said.starts_with("X_Agent: hello") && !said.contains(['\u{202e}', '\u{1b}']), "{said}");
        let call = |arguments: &str| {
            let arguments = Some(Json { text: arguments.into() });
            title(task::Task::ToolCall(ToolCall { tool: "list_available_agents".into(), arguments }))
        };
        assert_eq!(call("{}"), "list_available_agents");
        assert_eq!(call("{\"a\":1}"), "list_available_agents {\"a\":1}");
        let long = title(task::Task::Command("\u{fffd}".repeat(100_000)));
        assert!(long.len() <= MAX_TITLE_BYTES && long.len() > 100, "{}", long.len());
    }
}
