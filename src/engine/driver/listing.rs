//! Agents as a real engine lists them itself, where it keeps them in a database that the gateway does not read.
//!
//! Such a listing costs a start of the engine, cuts fields after the third entry and has no descriptions; where the
//! agents are files, those are read instead.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use super::{AgentDetails, Agents, DriverConfig, failure::failed};
use crate::{
    engine::{Exit, workspace::Definition},
    error::{Error, Reason, Result},
    sync::lock,
    text::bounded,
};

/// How many such starts of the engine may run at the same time, and how long one may take, the wait for its permit
/// included.
const AT_ONCE: usize = 2;
const TIME: Duration = Duration::from_secs(30);
/// How long a listing is reused.
const FRESH: Duration = Duration::from_secs(2);
/// Ends a list that the engine has cut short.
const CUT: &str = "...";

/// Limits the starts of the engine for listings, and keeps the latest listing.
#[derive(Debug)]
pub(super) struct EngineListing {
    starts: Semaphore,
    listed: Mutex<Option<(Instant, Arc<Agents>)>>,
}

impl Default for EngineListing {
    fn default() -> Self {
        Self { starts: Semaphore::new(AT_ONCE), listed: Mutex::default() }
    }
}

impl EngineListing {
    /// Returns the agents, as `--list` prints them.
    ///
    /// # Errors
    /// [`Reason::ToolFailed`] where the engine prints an error; [`Reason::TimedOut`] after [`TIME`].
    pub(super) async fn agents(&self, config: &DriverConfig) -> Result<Agents> {
        if let Some(list) = self.listed_lately() {
            return Ok(list.as_ref().clone());
        }
        let (_permit, deadline) = self.permit().await?;
        // Another caller may have fetched the listing meanwhile.
        if let Some(list) = self.listed_lately() {
            return Ok(list.as_ref().clone());
        }
        let list = Arc::new(read_list(&said(config, "--list".to_owned(), deadline).await?)?);
        *lock(&self.listed) = Some((Instant::now(), list.clone()));
        Ok(list.as_ref().clone())
    }

    /// Returns one agent, as `--info` prints it. `agent_id` has to be checked before, because it becomes part of a
    /// flag.
    ///
    /// # Errors
    /// [`Reason::AgentNotFound`]; as above.
    pub(super) async fn agent(&self, config: &DriverConfig, agent_id: &str) -> Result<AgentDetails> {
        let (_permit, deadline) = self.permit().await?;
        read_info(agent_id, &said(config, format!("--info={agent_id}"), deadline).await?)
    }

    fn listed_lately(&self) -> Option<Arc<Agents>> {
        let listed = lock(&self.listed);
        listed.as_ref().filter(|(at, _)| at.elapsed() < FRESH).map(|(_, list)| list.clone())
    }

    async fn permit(&self) -> Result<(SemaphorePermit<'_>, Instant)> {
        let deadline = Instant::now() + TIME;
        let permit = tokio::time::timeout_at(deadline, self.starts.acquire()).await;
        let late = |_| Error::new(Reason::TimedOut, "the engine was not asked in time; try again later");
        Ok((permit.map_err(late)?.map_err(Error::internal)?, deadline))
    }
}

async fn said(config: &DriverConfig, flag: String, deadline: Instant) -> Result<String> {
    let finished = config.run_quietly(flag, deadline).await?;
    if finished.exit != Exit::Code(0) {
        return Err(failed(&finished));
    }
    Ok(String::from_utf8_lossy(&finished.stdout).into_owned())
}

/// Returns the error that the engine prints, which its exit status does not show.
fn problem(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.trim().strip_prefix('❌')).map(str::trim)
}

fn items(text: &str) -> Vec<String> {
    let text = text.trim().trim_end_matches(CUT);
    text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}

/// Parses the numbered agents of a listing.
fn read_list(text: &str) -> Result<Agents> {
    let mut list: Vec<(String, Definition)> = Vec::new();
    for line in text.lines().map(str::trim) {
        let numbered = line.split_once(". ").filter(|(number, _)| number.parse::<u32>().is_ok());
        if let Some((_, agent_id)) = numbered {
            let agent_id = agent_id.trim().to_owned();
            list.push((agent_id.clone(), Definition { name: agent_id, ..Definition::default() }));
            continue;
        }
        let Some((_, agent)) = list.last_mut() else { continue };
        match line.split_once(':') {
            Some(("Nome", name)) => name.trim().clone_into(&mut agent.name),
            Some(("Capacidades", capabilities)) => agent.capabilities = items(capabilities),
            Some(("Tags", tags)) => agent.tags = items(tags),
            _ => {}
        }
    }
    match problem(text) {
        Some(problem) if list.is_empty() && !problem.starts_with("Nenhum agente") => {
            let message = format!("the engine cannot list its agents: {}", bounded(problem, 300));
            Err(Error::new(Reason::ToolFailed, message))
        }
        _ => {
            list.sort_by(|a, b| a.0.cmp(&b.0));
            let usable = list.into_iter().map(|(agent_id, definition)| (agent_id, Arc::new(definition)));
            Ok(Agents { usable: usable.collect(), broken: Vec::new() })
        }
    }
}

/// Parses the sections of a description.
fn read_info(agent_id: &str, text: &str) -> Result<AgentDetails> {
    let not_found = || {
        let similar = text.lines().find_map(|line| line.split_once("similares disponíveis:"));
        let hint = similar.map_or_else(
            || "list_available_agents shows those that there are".to_owned(),
            |(_, similar)| format!("did you mean `{}`?", bounded(similar.trim(), 200)),
        );
        Error::new(Reason::AgentNotFound, format!("there is no agent `{agent_id}`; {hint}"))
    };
    let (Some(_), Some((_, basics))) = (text.find("ID:"), text.split_once("BÁSICAS")) else {
        return Err(match problem(text) {
            Some(problem) if !problem.contains("não encontrado") => {
                let message = format!("the engine cannot describe {agent_id}: {}", bounded(problem, 300));
                Error::new(Reason::ToolFailed, message)
            }
            _ => not_found(),
        });
    };
    let (mut info, mut files) = (Definition::default(), Vec::new());
    let mut section = "";
    for line in basics.lines().map(str::trim) {
        if let Some(name) =
            ["TAGS", "CAPACIDADES", "ARQUIVOS", "ESTATÍSTICAS"].iter().find(|name| line.contains(*name))
        {
            section = name;
            continue;
        }
        match (section, line.split_once(':')) {
            ("", Some(("Nome", value))) => value.trim().clone_into(&mut info.name),
            ("", Some(("Versão", value))) => value.trim().clone_into(&mut info.version),
            ("", Some(("Autor", value))) => value.trim().clone_into(&mut info.author),
            ("", Some(("Descrição", value))) => value.trim().clone_into(&mut info.description),
            ("TAGS", _) => info.tags.extend(line.strip_prefix('•').map(|tag| tag.trim().to_owned())),
            ("CAPACIDADES", _) => {
                info.capabilities
                    .extend(line.strip_prefix('•').map(|capability| capability.trim().to_owned()));
            }
            ("ARQUIVOS", _) => files.extend(line.strip_prefix('✅').and_then(read_file)),
            _ => {}
        }
    }
    Ok(AgentDetails { definition: Arc::new(info), persona: String::new(), files })
}

/// Parses a file and its size, such as `persona.md (1KB)`.
fn read_file(line: &str) -> Option<(String, u32)> {
    let (name, size) = line.trim().strip_suffix("B)")?.split_once(" (")?;
    let (number, unit) = match size.strip_suffix('K') {
        Some(number) => (number, 1024),
        None => (size.strip_suffix('M').unwrap_or(size), if size.ends_with('M') { 1024 * 1024 } else { 1 }),
    };
    Some((name.to_owned(), number.parse::<u32>().ok()?.saturating_mul(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_prints_of_its_agents_is_read() {
        let listed = "🤖 Agentes disponíveis em x:\n====\n 1. B_Agent\n     Nome: Bee\n     Capacidades: a, b, c...\n     Tags: meta, git\n\n 2. A_Agent\n     Nome: A_Agent\n\n📊 Total: 2 agentes encontrados\n\n💡 Para executar um agente:\n   conductor execute --agent <agent_id>\n";
        let list = read_list(listed).unwrap();
        let ids: Vec<_> = list.usable.iter().map(|(agent_id, _)| agent_id.as_str()).collect();
        assert_eq!(ids, ["A_Agent", "B_Agent"]);
        let agent = &list.usable[1].1;
        assert_eq!(
            (agent.name.as_str(), agent.capabilities.join("|"), agent.tags.join("|")),
            ("Bee", "a|b|c".to_owned(), "meta|git".to_owned())
        );
        assert!(read_list("====\n❌ Nenhum agente encontrado.\n").unwrap().usable.is_empty());
        let error = read_list("====\n❌ Erro ao listar agentes: no servers found\n").unwrap_err();
        assert!(error.message().contains("no servers found"), "{error}");

        let described = "🔍 Informações do agente: A\n====\n📋 INFORMAÇÕES BÁSICAS\n   ID: A\n   Nome: Aye\n   Versão: 1.0.0\n   Autor: P\n   Descrição: Looks: at code\n\n🏷️  TAGS\n   • python\n\n🛠️  CAPACIDADES\n   • x\n   • y\n\n📁 ARQUIVOS DO AGENTE\n   Localização: /srv\n   ✅ definition.yaml (424B)\n   ✅ persona.md (1KB)\n   ❌ session.json\n\n📊 ESTATÍSTICAS\n   Conversas no histórico: 0\n";
        let AgentDetails { definition: info, files, .. } = read_info("A", described).unwrap();
        assert_eq!(
            (info.name.as_str(), info.description.as_str(), info.version.as_str()),
            ("Aye", "Looks: at code", "1.0.0")
        );
        assert_eq!(
            (info.tags.join("|"), info.capabilities.join("|")),
            ("python".to_owned(), "x|y".to_owned())
        );
        assert_eq!(files, [("definition.yaml".to_owned(), 424), ("persona.md".to_owned(), 1024)]);
        let similar = "====\n❌ Agente 'a' não encontrado em x\n💡 Agentes similares disponíveis: A\n";
        let error = read_info("a", similar).unwrap_err();
        assert_eq!(
            (error.reason(), error.message().contains("did you mean `A`?")),
            (Reason::AgentNotFound, true)
        );
    }
}
