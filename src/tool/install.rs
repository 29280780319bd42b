//! `install_agent_templates`.

use super::{
    CallContext, ToolResult,
    arguments::InstallArguments,
    engine_run::follow,
    parts::Parts,
    result::{Installed, TemplateSummary},
};
use crate::{engine::Exit, error::Result};

pub(super) async fn install(
    parts: &Parts,
    context: &CallContext,
    arguments: &InstallArguments,
    exit: &mut Option<Exit>,
) -> Result<ToolResult> {
    let _use = parts.use_workspace().await;
    // `list` is the engines' own word for listing what can be installed.
    let Some(name) = arguments.template_name.as_ref().filter(|name| *name != "list") else {
        let run = parts.driver.list_templates(context.run_context()).await?;
        let report = follow(run, context, exit).await?.output;
        let result = Installed { templates: templates(&report), ..Installed::default() };
        return ToolResult::new(report, &result);
    };
    let run = parts.driver.install(context.run_context(), name).await?;
    let outcome = follow(run, context, exit).await?;
    let result = Installed {
        installed: outcome.created_agents,
        skipped: outcome.present_agents,
        templates: Vec::new(),
    };
    let names = match result.installed.is_empty() {
        true => String::new(),
        false => format!(" ({})", result.installed.join(", ")),
    };
    let text = format!("{} installed{names}, {} there already", result.installed.len(), result.skipped.len());
    ToolResult::new(text, &result)
}

/// Parses the engines' lists: a category ends in a colon, a template below it is `Name: description`.
fn templates(report: &str) -> Vec<TemplateSummary> {
    let mut category = String::new();
    let mut found = Vec::new();
    for line in report.lines() {
        let trimmed = line.trim().trim_start_matches(['•', '🏷', '\u{FE0F}', ' ']).trim();
        if let Some(name) = trimmed.strip_suffix(':') {
            category = name.to_lowercase().replace(' ', "_");
        } else if let Some((agent_id, description)) = trimmed.split_once(": ")
            && crate::engine::is_id(agent_id)
        {
            found.push(TemplateSummary {
                agent_id: agent_id.to_owned(),
                category: category.clone(),
                description: description.to_owned(),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_engines_lists_are_read() {
        let real = "📋 Templates Disponíveis:\n====\n\n🏷️ Core Tools:\n   • CodeReviewer_Agent: Analyzes: code\n\n💡 Para instalar:\n   conductor --install <categoria>\n";
        let found = templates(real);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].category.as_str(), found[0].description.as_str()),
            ("core_tools", "Analyzes: code")
        );
        assert_eq!(templates("core:\n  A_Agent: does\n  B: too\n").len(), 2);
    }
}
