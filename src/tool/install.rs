//! `install_agent_templates`.

use std::collections::BTreeSet;

use super::{
    CallContext, ToolResult,
    arguments::InstallArguments,
    engine_run::{EngineRun, failed, last_words},
    result::{Installed, TemplateSummary},
    toolbox::Inner,
};
use crate::{
    engine::{Exit, Kind},
    error::{Error, Reason, Result},
    text::quoted,
};

pub(super) async fn install(
    inner: &Inner,
    context: &CallContext,
    arguments: &InstallArguments,
    exit: &mut Option<Exit>,
) -> Result<ToolResult> {
    let _use = inner.workspace_use.clone().read_owned().await;
    let root = inner.config.engine.root.clone();
    // `list` is the engines' own word for listing what can be installed.
    let Some(name) = arguments.template_name.as_ref().filter(|name| *name != "list") else {
        let finished = inner.run_engine(context, &root, EngineRun::plain("--install=list"), exit).await?;
        if finished.exit != Exit::Code(0) {
            return Err(failed(&finished));
        }
        let report = String::from_utf8_lossy(&finished.stdout).trim().to_owned();
        let result = Installed { templates: templates(&report), ..Installed::default() };
        return ToolResult::new(report, &result);
    };
    if inner.config.engine.kind == Kind::Conductor {
        return install_apart(inner, context, name, exit).await;
    }
    let before = installed(inner).await?;
    let finished =
        inner.run_engine(context, &root, EngineRun::plain(format!("--install={name}")), exit).await?;
    let after = installed(inner).await?;
    if finished.exit != Exit::Code(0) {
        return Err(failed(&finished));
    }
    let report = String::from_utf8_lossy(&finished.stdout).into_owned();
    // A word of the report counts only if it names an agent in the workspace, because the engine's words alone prove
    // nothing.
    let named: BTreeSet<String> = report
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
        .filter(|word| after.contains(*word))
        .map(str::to_owned)
        .collect();
    if named.is_empty() {
        return Err(nothing(name, ""));
    }
    let result = Installed {
        installed: after.difference(&before).cloned().collect(),
        skipped: named.intersection(&before).cloned().collect(),
        templates: Vec::new(),
    };
    told(&result)
}

fn nothing(name: &str, instead: &str) -> Error {
    let message = format!(
        "nothing was installed: there is no template or category `{}`{instead}; call without a name to list them",
        quoted(name)
    );
    Error::new(Reason::ToolFailed, message)
}

fn told(result: &Installed) -> Result<ToolResult> {
    let names = match result.installed.is_empty() {
        true => String::new(),
        false => format!(" ({})", result.installed.join(", ")),
    };
    ToolResult::new(
        format!("{} installed{names}, {} there already", result.installed.len(), result.skipped.len()),
        result,
    )
}

/// Installs into a separate root, because a real engine always installs to the same place, whatever its configuration
/// says. The gateway then moves what is new to where the configuration points.
async fn install_apart(
    inner: &Inner,
    context: &CallContext,
    name: &str,
    exit: &mut Option<Exit>,
) -> Result<ToolResult> {
    let (prepared, private) = inner.prepare_installation().await?;
    let before = installed(inner).await?;
    let finished = inner
        .run_engine(context, &prepared.root, EngineRun::plain(format!("--install={name}")), exit)
        .await?;
    if finished.exit != Exit::Code(0) {
        return Err(failed(&finished));
    }
    let made: BTreeSet<String> = inner
        .blocking(move |_| {
            let agents = private.agents().map_err(|error| {
                Error::new(Reason::ToolFailed, format!("what was installed cannot be read: {error}"))
            })?;
            Ok(agents.into_iter().map(|agent| agent.agent_id).collect())
        })
        .await?;
    if made.is_empty() {
        return Err(nothing(name, &format!(" ({})", last_words(&finished))));
    }
    // Agents that exist already are refused here, and are listed as skipped.
    let (taken, _) = inner.settle(&prepared, None).await;
    let result = Installed {
        skipped: made.intersection(&before).cloned().collect(),
        installed: taken,
        templates: Vec::new(),
    };
    told(&result)
}

async fn installed(inner: &Inner) -> Result<BTreeSet<String>> {
    inner
        .blocking(|config| {
            let agents = config.workspace()?.agents().map_err(|error| {
                Error::new(Reason::ToolFailed, format!("the workspace cannot be read: {error}"))
            })?;
            Ok(agents.into_iter().map(|agent| agent.agent_id).collect())
        })
        .await
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
