//! Prompts: templates for how a person may want to begin, which clients offer as commands.

use rmcp::{
    ErrorData,
    model::{
        ContentBlock, GetPromptRequestParams, GetPromptResult, Prompt, PromptArgument, PromptMessage, Role,
    },
};

/// A prompt: its name, what it is for, its arguments (name, description, whether required), and its text with their
/// names in braces.
struct PromptTemplate {
    name: &'static str,
    title: &'static str,
    description: &'static str,
    arguments: &'static [(&'static str, &'static str, bool)],
    text: &'static str,
}

const TEMPLATES: &[PromptTemplate] = &[
    PromptTemplate {
        name: "ask_agent",
        title: "Ask an agent",
        description: "Runs one agent of the engine on a question and sums its answer up.",
        arguments: &[
            ("agent_id", "The agent, as list_available_agents gives it", true),
            ("question", "What it is asked", true),
        ],
        text: "Run the agent `{agent_id}` with execute_agent_stateless on the input below, then sum its answer up in a few sentences and say whether it answers the question.\n\n{question}",
    },
    PromptTemplate {
        name: "choose_agent",
        title: "Choose an agent",
        description: "Finds the agent that fits a task and says why.",
        arguments: &[("task", "What is to be done", true)],
        text: "List the agents with list_available_agents, read about the likely ones with get_agent_info, and say which one fits this task best and why. Do not run it.\n\n{task}",
    },
    PromptTemplate {
        name: "check_setup",
        title: "Check the setup",
        description: "Checks the engine and explains in plain words what is wrong.",
        arguments: &[],
        text: "Check the engine with validate_conductor_system and get_system_config. Explain in plain words what is wrong, if anything, and what to do about it.",
    },
];

/// Returns every prompt.
pub(super) fn all() -> Vec<Prompt> {
    let prompt = |template: &PromptTemplate| {
        let arguments = template.arguments.iter().map(|(name, description, is_required)| {
            PromptArgument::new(*name).with_description(*description).with_required(*is_required)
        });
        let arguments: Vec<PromptArgument> = arguments.collect();
        let arguments = (!arguments.is_empty()).then_some(arguments);
        let mut prompt = Prompt::new(template.name, Some(template.description), arguments);
        prompt.title = Some(template.title.to_owned());
        prompt
    };
    TEMPLATES.iter().map(prompt).collect()
}

/// Returns one prompt with its arguments filled in.
pub(super) fn get(request: &GetPromptRequestParams) -> Result<GetPromptResult, ErrorData> {
    let invalid = |message: String| ErrorData::invalid_params(message, None);
    let template = TEMPLATES.iter().find(|template| template.name == request.name);
    let template = template
        .ok_or_else(|| invalid(format!("there is no prompt `{}`", crate::text::quoted(&request.name))))?;
    let given = serde_json::to_value(request.arguments.clone().unwrap_or_default()).unwrap_or_default();
    let mut text = template.text.to_owned();
    for (name, _, is_required) in template.arguments {
        let value = given[*name].as_str().map(str::trim).filter(|value| !value.is_empty());
        if *is_required && value.is_none() {
            return Err(invalid(format!("the argument `{name}` is needed")));
        }
        text = text.replace(&format!("{{{name}}}"), value.unwrap_or_default());
    }
    let message = PromptMessage::new(Role::User, ContentBlock::text(text));
    let mut result = GetPromptResult::new(vec![message]);
    result.description = Some(template.description.to_owned());
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_put_in_place_and_missed_by_name() {
        let mut request = GetPromptRequestParams::new("choose_agent");
        assert!(get(&request).unwrap_err().message.contains("`task`"));
        let arguments = serde_json::json!({"task": "write {question} tests"});
        request.arguments = serde_json::from_value(arguments).unwrap();
        let text = serde_json::to_value(get(&request).unwrap()).unwrap().to_string();
        assert!(text.contains("write {question} tests"), "{text}");
        assert_eq!(all().len(), TEMPLATES.len());
    }
}
