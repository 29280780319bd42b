//! `install_agent_templates`.

use std::collections::BTreeSet;

use super::{
    CallContext, Done,
    arguments::InstallArguments,
    engine_run::{EngineRun, failed, last_words},
    result::{Installed, TemplateSummary},
    toolbox::Inner,
};
use crate::{
    engine::{Exit, Kind},
    error::{Error, Reason, Result},
};

pub(super) async fn install(
    inner: &Inner,
    context: &CallContext,
    arguments: &InstallArguments,
    exit: &mut Option<Exit>,
) -> Result<Done> {
    let _use = inner.workspace_use.read().await;
    let root = inner.config.engine.root.clone();
    // The engines' own word for "show what there is".
    let Some(name) = arguments.template_name.as_ref().filter(|name| *name != "list") else {
        let finished = inner.run_engine(context, &root, EngineRun::plain("--install=list"), exit).await?;
        if finished.exit != Exit::Code(0) {
            return Err(failed(&finished));
        }
        let report = String::from_utf8_lossy(&finished.stdout).trim().to_owned();
        let result = Installed { templates: templates(&report), ..Installed::default() };
        return Done::new(report, &result);
    };
    let before = installed(inner).await?;
    let finished =
        inner.run_engine(context, &root, EngineRun::plain(format!("--install={name}")), exit).await?;
    let after = installed(inner).await?;
    if finished.exit != Exit::Code(0) {
        return Err(failed(&finished));
    }
    let report = String::from_utf8_lossy(&finished.stdout).into_owned();
    // What was named and is there: the workspace says it, not the engine's words.
    let named: BTreeSet<String> = report
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
        .filter(|word| after.contains(*word))
        .map(str::to_owned)
        .collect();
    if named.is_empty() {
        let instead = match inner.config.engine.kind {
            Kind::Bundled => String::new(),
            Kind::Conductor => format!(" ({})", last_words(&finished)),
        };
        let message = format!(
            "nothing was installed: there is no template or category `{name}`{instead}; call without a name to list them"
        );
        return Err(Error::new(Reason::ToolFailed, message));
    }
    let result = Installed {
        installed: after.difference(&before).cloned().collect(),
        skipped: named.intersection(&before).cloned().collect(),
        templates: Vec::new(),
    };
    let text = format!(
        "{} installed{}, {} there already",
        result.installed.len(),
        if result.installed.is_empty() {
            String::new()
        } else {
            format!(" ({})", result.installed.join(", "))
        },
        result.skipped.len()
    );
    Done::new(text, &result)
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

/// Reads the engines' lists: a category ends in a colon, a template is `Name: description` below it.
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
