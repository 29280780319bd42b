//! `list_available_agents`, `get_agent_info`, `validate_conductor_system`.
//!
//! The first two read the workspace themselves, because the engine's own listing cuts fields and takes 0.4 s.

use std::fmt::Write as _;

use super::{
    CallContext, ToolResult,
    arguments::ListArguments,
    engine_run::follow,
    parts::Parts,
    result::{AgentCheck, AgentFile, AgentInfo, AgentList, AgentSummary, BrokenAgent, Validation},
};
use crate::{
    engine::{
        AgentDetails, Agents, Exit, Findings,
        workspace::{Definition, Workspace},
    },
    error::Result,
    pb,
    principal::Principal,
};

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

async fn read(parts: &Parts) -> Result<AgentList> {
    let Agents { usable, broken } = parts.driver.agents().await?;
    Ok(AgentList {
        agents: usable.iter().map(|(agent_id, definition)| summary(agent_id, definition)).collect(),
        broken: broken.into_iter().map(|(agent_id, problem)| BrokenAgent { agent_id, problem }).collect(),
        next_cursor: None,
    })
}

pub(super) async fn list(parts: &Parts, arguments: &ListArguments) -> Result<ToolResult> {
    let mut list = read(parts).await?;
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
pub(super) async fn list_for_doors(parts: &Parts) -> Result<Vec<pb::Agent>> {
    let list = read(parts).await?;
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
    parts: &Parts,
    caller: &Principal,
    conversation_id: &str,
    agent_id: &str,
) -> Result<ToolResult> {
    let AgentDetails { definition, persona, files } = parts.driver.agent(agent_id).await?;
    let root = parts.conversations.layout().agent_root(caller, conversation_id, agent_id);
    let id = agent_id.to_owned();
    // The caller's own conversation; the shared workspace holds nobody's.
    let interactions = parts.blocking(move |_| Ok(Workspace::private(&root).history_len(&id))).await?;
    let AgentSummary { agent_id, name, description, version, author, tags, capabilities } =
        summary(agent_id, &definition);
    let info = AgentInfo {
        agent_id,
        name,
        description,
        version,
        author,
        tags,
        capabilities,
        allowed_tools: definition.allowed_tools.clone(),
        persona,
        files: files.into_iter().map(|(name, bytes)| AgentFile { name, bytes }).collect(),
        interactions: u32::try_from(interactions).unwrap_or(u32::MAX),
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
    parts: &Parts,
    context: &CallContext,
    exit: &mut Option<Exit>,
) -> Result<ToolResult> {
    let _use = parts.use_workspace().await;
    let outcome = follow(parts.driver.validate(context.run_context()).await?, context, exit).await?;
    let Findings { is_valid, agents, errors, warnings } = outcome.findings.unwrap_or_default();
    let found = read(parts).await?;
    let fine = found.agents.into_iter().map(|agent| AgentCheck { agent_id: agent.agent_id, problem: None });
    let broken = found
        .broken
        .into_iter()
        .map(|BrokenAgent { agent_id, problem }| AgentCheck { agent_id, problem: Some(problem) });
    let mut checks: Vec<AgentCheck> = fine.chain(broken).collect();
    checks.sort_by(|a, b| a.agent_id.cmp(&b.agent_id));
    let report = outcome.output;
    let text = match (is_valid, errors.len()) {
        (true, _) => format!("The system is valid.\n{report}"),
        (false, count) => format!("The system has {count} errors:\n{}", errors.join("\n")),
    };
    ToolResult::new(text, &Validation { is_valid, agents, errors, warnings, checks, report })
}
