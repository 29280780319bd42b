//! `list_available_agents`, `get_agent_info`, `validate_conductor_system`.
//!
//! The first two read the workspace themselves, because the engine's own listing cuts fields and takes 0.4 s.

use std::{fmt::Write as _, path::Path, sync::Arc};

use super::{
    CallContext, ToolResult,
    arguments::ListArguments,
    engine_run::{EngineRun, failed},
    result::{AgentCheck, AgentFile, AgentInfo, AgentList, AgentSummary, BrokenAgent, Validation},
    toolbox::Inner,
};
use crate::{
    engine::{
        Exit, Finished, Kind,
        workspace::{Agent, Definition, Workspace},
    },
    error::{Error, Reason, Result},
    files::EntryKind,
    pb,
    principal::Principal,
};

/// A persona is cut to this many bytes.
const MAX_PERSONA_BYTES: usize = 16 * 1024;
const MAX_PERSONA_FILE_BYTES: u64 = 1024 * 1024;
/// An agent with more files than this is not described.
const MAX_AGENT_FILES: usize = 100_000;

fn unreadable(error: std::io::Error) -> Error {
    Error::new(Reason::ToolFailed, format!("the workspace cannot be read: {error}"))
}

/// Finds an agent's definition. The error for an unknown agent names the most similar one.
pub(super) fn find(workspace: &Workspace, agent_id: &str) -> Result<Arc<Definition>> {
    let Some(agent) = workspace.agent(agent_id) else {
        let agents = workspace.agents().unwrap_or_default();
        let nearest = agents
            .iter()
            .map(|agent| {
                (
                    strsim::jaro_winkler(&agent.agent_id.to_lowercase(), &agent_id.to_lowercase()),
                    &agent.agent_id,
                )
            })
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let hint = match nearest {
            Some((score, nearest)) if score > 0.8 => format!("did you mean `{nearest}`?"),
            Some(_) => "list_available_agents shows those that there are".to_owned(),
            None => "none is installed; install_agent_templates lists what can be".to_owned(),
        };
        return Err(Error::new(
            Reason::AgentNotFound,
            format!("there is no agent `{}`; {hint}", crate::text::quoted(agent_id)),
        ));
    };
    agent.definition.map_err(|problem| {
        Error::new(Reason::ToolFailed, format!("the agent `{agent_id}` cannot be used: {problem}"))
    })
}

fn summary(agent_id: &str, definition: &Definition) -> AgentSummary {
    AgentSummary {
        agent_id: agent_id.to_owned(),
        name: if definition.name.is_empty() { agent_id.to_owned() } else { definition.name.clone() },
        description: definition.description.clone(),
        version: definition.version.clone(),
        author: definition.author.clone(),
        tags: definition.tags.clone(),
        capabilities: definition.capabilities.clone(),
    }
}

async fn read(inner: &Inner) -> Result<AgentList> {
    let read = inner
        .blocking(|config| {
            let mut list = AgentList::default();
            for Agent { agent_id, definition } in config.workspace()?.agents().map_err(unreadable)? {
                match definition {
                    Ok(definition) => list.agents.push(summary(&agent_id, &definition)),
                    Err(problem) => list.broken.push(BrokenAgent { agent_id, problem }),
                }
            }
            Ok(list)
        })
        .await;
    match read {
        Err(error) if is_kept_elsewhere(&error) => inner.asked_list().await,
        read => read,
    }
}

/// Returns whether the agents are not kept in files, so that the engine itself has to be asked.
fn is_kept_elsewhere(error: &Error) -> bool {
    error.reason() == Reason::Unsupported
}

pub(super) async fn list(inner: &Inner, arguments: &ListArguments) -> Result<ToolResult> {
    let mut list = read(inner).await?;
    if let Some(tag) = &arguments.tag {
        list.agents.retain(|agent| agent.tags.contains(tag));
    }
    // Sorted by id, so that the last id of a page says where the next one begins.
    if let Some(cursor) = &arguments.cursor {
        list.agents.retain(|agent| agent.agent_id > *cursor);
        list.broken.clear();
    }
    if let Some(limit) =
        arguments.limit.map(|limit| limit as usize).filter(|limit| *limit < list.agents.len())
    {
        list.agents.truncate(limit);
        list.next_cursor = list.agents.last().map(|agent| agent.agent_id.clone());
    }
    let mut text = match list.agents.len() {
        0 if arguments.tag.is_some() || arguments.cursor.is_some() => "No further agents.".to_owned(),
        0 => "No agents are installed; install_agent_templates lists what can be.".to_owned(),
        1 => "1 agent is installed:".to_owned(),
        count => format!("{count} agents are installed:"),
    };
    for agent in &list.agents {
        let _infallible = write!(text, "\n- {}: {}", agent.agent_id, agent.description);
    }
    for broken in &list.broken {
        let _infallible = write!(text, "\n- {} cannot be used: {}", broken.agent_id, broken.problem);
    }
    ToolResult::new(text, &list)
}

/// Returns the agents for the doors' own listing.
pub(super) async fn list_for_doors(inner: &Inner) -> Result<Vec<pb::Agent>> {
    let list = read(inner).await?;
    let to_wire = |agent: AgentSummary| pb::Agent {
        agent_id: agent.agent_id,
        name: agent.name,
        description: agent.description,
        version: agent.version,
        author: agent.author,
        tags: agent.tags,
        capabilities: agent.capabilities,
    };
    Ok(list.agents.into_iter().map(to_wire).collect())
}

pub(super) async fn info(
    inner: &Inner,
    caller: &Principal,
    conversation_id: &str,
    agent_id: &str,
) -> Result<ToolResult> {
    let (agent_id, caller) = (agent_id.to_owned(), caller.clone());
    let conversation_id = conversation_id.to_owned();
    let (asked_for, layout) = (agent_id.clone(), inner.conversations.layout().clone());
    let read = inner
        .blocking(move |config| {
            let workspace = config.workspace()?;
            let definition = find(&workspace, &agent_id)?;
            let root = workspace.agent_root(&agent_id).map_err(unreadable)?;
            let entries = root.entries(MAX_AGENT_FILES).map_err(unreadable)?.into_iter();
            let files = entries.filter(|entry| entry.kind == EntryKind::File).filter_map(|entry| {
                let bytes = root.status(Path::new(&entry.name)).ok()?.st_size;
                let name = entry.name.to_string_lossy().into_owned();
                Some(AgentFile { name, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) })
            });
            let files = files.collect();
            let persona = root.read(Path::new("persona.md"), MAX_PERSONA_FILE_BYTES).unwrap_or_default();
            let mut persona = String::from_utf8_lossy(&persona).into_owned();
            persona.truncate(persona.floor_char_boundary(MAX_PERSONA_BYTES));
            // Counted in the caller's own conversation, because the shared workspace holds no conversations.
            let private = Workspace::private(&layout.agent_root(&caller, &conversation_id, &agent_id));
            let interactions = u32::try_from(private.history_len(&agent_id)).unwrap_or(u32::MAX);
            let allowed_tools = definition.allowed_tools.clone();
            let AgentSummary { agent_id, name, description, version, author, tags, capabilities } =
                summary(&agent_id, &definition);
            Ok(AgentInfo {
                agent_id,
                name,
                description,
                version,
                author,
                tags,
                capabilities,
                allowed_tools,
                persona,
                files,
                interactions,
            })
        })
        .await;
    let info = match read {
        Err(error) if is_kept_elsewhere(&error) => inner.asked_info(&asked_for).await?,
        read => read?,
    };
    let text = format!(
        "{}: {}\nversion {} by {}\ntags: {}\ncapabilities: {}\nremembers {} of your interactions",
        info.agent_id,
        info.description,
        info.version,
        info.author,
        info.tags.join(", "),
        info.capabilities.join(", "),
        info.interactions,
    );
    ToolResult::new(text, &info)
}

pub(super) async fn validate(
    inner: &Inner,
    context: &CallContext,
    exit: &mut Option<Exit>,
) -> Result<ToolResult> {
    let _use = inner.workspace_use.clone().read_owned().await;
    let root = inner.config.engine.root.clone();
    let finished = inner.run_engine(context, &root, EngineRun::plain("--validate"), exit).await?;
    let mut validation = read_validation(inner.config.engine.kind, &finished)?;
    let found = read(inner).await?;
    let fine = found.agents.into_iter().map(|agent| AgentCheck { agent_id: agent.agent_id, problem: None });
    let broken = found
        .broken
        .into_iter()
        .map(|BrokenAgent { agent_id, problem }| AgentCheck { agent_id, problem: Some(problem) });
    validation.checks = fine.chain(broken).collect();
    validation.checks.sort_by(|a, b| a.agent_id.cmp(&b.agent_id));
    let report = &validation.report;
    let text = match (validation.is_valid, validation.errors.len()) {
        (true, _) => format!("The system is valid.\n{report}"),
        (false, count) => format!("The system has {count} errors:\n{}", validation.errors.join("\n")),
    };
    ToolResult::new(text, &validation)
}

/// Parses a report. A real engine exits with 0 for a broken configuration too; only the report's last section shows it.
fn read_validation(kind: Kind, finished: &Finished) -> Result<Validation> {
    let report = String::from_utf8_lossy(&finished.stdout).trim_end().to_owned();
    let marked = |text: &str, marks: &[&str]| -> Vec<String> {
        let lines = text.lines().map(str::trim);
        lines
            .filter_map(|line| marks.iter().find_map(|mark| Some(line.strip_prefix(mark)?.trim().to_owned())))
            .collect()
    };
    let (is_valid, agents, errors, warnings) = match kind {
        Kind::Bundled => {
            let errors = marked(&report, &["error:"]);
            if finished.exit != Exit::Code(0) && errors.is_empty() {
                return Err(failed(finished));
            }
            let agents = first_number(&report, |line| line.ends_with(" agents checked"));
            (finished.exit == Exit::Code(0), agents, errors, marked(&report, &["warning:"]))
        }
        Kind::Conductor => {
            let Some((_, verdict)) = report.split_once("RESUMO") else { return Err(failed(finished)) };
            let is_valid = !verdict.contains('❌');
            let errors = if is_valid { Vec::new() } else { marked(verdict, &["•"]) };
            let agents = first_number(&report, |line| line.contains("Agentes encontrados:"));
            (is_valid, agents, errors, marked(&report, &["⚠️"]))
        }
    };
    Ok(Validation { is_valid, agents, errors, warnings, checks: Vec::new(), report })
}

/// Returns the first number of the line that counts the agents; 0 where there is none.
fn first_number(report: &str, is_count: impl Fn(&str) -> bool) -> u32 {
    let number_in = |line: &str| -> Option<u32> {
        line.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?.parse().ok()
    };
    report.lines().find(|line| is_count(line)).and_then(number_in).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Ending;

    fn finished(stdout: &str) -> Finished {
        Finished {
            exit: Exit::Code(0),
            ending: Ending::Natural,
            stdout: stdout.into(),
            is_stdout_cut: false,
            stderr: Vec::new(),
        }
    }

    #[test]
    fn a_real_engines_verdict_is_in_its_last_section() {
        let broken = "🔍 Validando...\n   📊 Agentes encontrados: 8\n   ❌ teams: definition.yaml ausente\n====\n📊 RESUMO DA VALIDAÇÃO\n❌ Erros encontrados: 1\n   • Agente teams: definition.yaml não encontrado\n❌ Configuração com problemas\n";
        let read = read_validation(Kind::Conductor, &finished(broken)).unwrap();
        assert_eq!((read.is_valid, read.agents), (false, 8));
        assert_eq!(read.errors, ["Agente teams: definition.yaml não encontrado"]);
        let fine =
            "   📊 Agentes encontrados: 2\n📊 RESUMO DA VALIDAÇÃO\n✅ Configuração totalmente válida!\n";
        assert!(read_validation(Kind::Conductor, &finished(fine)).unwrap().is_valid);
        assert!(read_validation(Kind::Conductor, &finished("Traceback\n")).is_err());
    }
}
