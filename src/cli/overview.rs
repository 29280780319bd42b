//! `agents`, `tools` and `status`: what a running gateway has, offers and is doing.

use std::process::ExitCode;

use clap::Args;

use super::{
    client,
    global::GlobalArguments,
    output::{OutputArguments, OutputFormat, print_documents},
    print,
    terminal::{fitting, width},
};
use crate::{error::Result, pb, text::shown};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The running gateway to use; left out, the one that listens where the configuration says
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    #[command(flatten)]
    output: OutputArguments,
}

/// Prints names with their descriptions, in columns that fit the terminal.
fn columns(rows: &[(&str, &str)]) {
    let names = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, description) in rows {
        let first = shown(description.lines().next().unwrap_or_default());
        let room = width().map_or(usize::MAX, |width| width.saturating_sub(names + 2).max(20));
        let first = fitting(&first, room);
        print::to_stdout(&print::shown_line(&format!("{:<names$}  {first}", shown(name))));
    }
}

/// `agents`: the agents that can be run.
pub(super) async fn agents(global: &GlobalArguments, arguments: Arguments) -> Result<ExitCode> {
    let mut client = client::connect(global, arguments.server).await?;
    let mut request = pb::ListAgentsRequest::default();
    let mut agents = Vec::new();
    loop {
        let page = client.list_agents(request.clone()).await;
        let page = page.map_err(|status| client::refused(&status))?.into_inner();
        agents.extend(page.agents);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    match arguments.output.format() {
        OutputFormat::Table if agents.is_empty() => {
            let way = "conductor-gateway run --tool install_agent_templates '{\"template_name\": \"core\"}'";
            print::to_stderr(&format!("no agents are installed; install some: {way}\n"));
        }
        OutputFormat::Table => {
            let rows: Vec<_> =
                agents.iter().map(|agent| (agent.agent_id.as_str(), agent.description.as_str())).collect();
            columns(&rows);
        }
        format => print_documents(&agents, format),
    }
    Ok(ExitCode::SUCCESS)
}

/// `tools`: the tools that can be called.
pub(super) async fn tools(global: &GlobalArguments, arguments: Arguments) -> Result<ExitCode> {
    let mut client = client::connect(global, arguments.server).await?;
    let listed = client.list_tools(pb::ListToolsRequest {}).await;
    let tools = listed.map_err(|status| client::refused(&status))?.into_inner().tools;
    match arguments.output.format() {
        OutputFormat::Table => {
            let rows: Vec<_> =
                tools.iter().map(|tool| (tool.name.as_str(), tool.description.as_str())).collect();
            columns(&rows);
        }
        format => print_documents(&tools, format),
    }
    Ok(ExitCode::SUCCESS)
}

/// `status`: what the gateway is, and what it is doing.
pub(super) async fn status(global: &GlobalArguments, arguments: Arguments) -> Result<ExitCode> {
    let mut client = client::connect(global, arguments.server).await?;
    let info = client.get_server_info(pb::GetServerInfoRequest {}).await;
    let info = info.map_err(|status| client::refused(&status))?.into_inner();
    if arguments.output.format() != OutputFormat::Table {
        print::to_stdout(&print::json_line(&info));
        return Ok(ExitCode::SUCCESS);
    }
    let line = |name: &str, value: &str| {
        print::to_stdout(&print::shown_line(&format!("{name:<8}  {}", shown(value))));
    };
    line("version", &info.version);
    line("engine", &info.engine);
    let model = match info.model.as_str() {
        "" => "none: commands are planned directly".to_owned(),
        model => format!("{}: {model}", info.provider),
    };
    line("model", &model);
    line("because", &info.planner_reason);
    line("jobs", &format!("{} running, {} waiting", info.running_jobs, info.queued_jobs));
    line("MCP", if info.mcp_url.is_empty() { "off" } else { &info.mcp_url });
    Ok(ExitCode::SUCCESS)
}
