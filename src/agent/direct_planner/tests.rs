//! What the planner understands, and what it declines.

use super::{Plan, plan};

const AGENTS: [&str; 3] = ["CodeReviewer_Agent", "SqlExpert_Agent", "DocWriter_Agent"];

fn planned(command: &str) -> String {
    let agents = AGENTS.map(str::to_owned);
    match plan(command, &agents) {
        Plan::Call(call, arguments) => format!("{} {arguments}", call.tool().as_str()),
        Plan::Ask { call, arguments, .. } => format!("asks first: {} {arguments}", call.tool().as_str()),
        Plan::Answer(_) => "answer".to_owned(),
        Plan::Decline(_) => "decline".to_owned(),
    }
}

#[test]
fn plain_requests_are_understood_however_they_are_phrased() {
    let cases: &[(&str, &[&str])] = &[
        (
            "list_available_agents {}",
            &[
                "list all available agents",
                "which agents do I have?",
                "what agents are there",
                "Show me the agents",
                "agents",
                "could you please list every agent installed here?",
                "how many agents do we have",
                "list my agnets",
                "show me every agent you've got",
                "which agents can I talk to?",
                "how many agents do I have in total?",
                "what agents can I run?",
                "which AI agents are available?",
                "liste todos os agentes",
                "CONDUCTOR --list",
                "list all agents by name",
                "give me an overview of the agents",
                "what assistants can I use?",
                "display agents",
                "liste os agentes",
                "who are my agents",
                "I'd like to see all the agents that are available",
                "print the names of all agents",
                "Which bots are available right now?",
                "conductor, list my agents",
                "conductor --list",
                "--list",
                "/opt/x/conductor --list",
                "what are the available agents?",
                "tell me what agents exist",
                "get agents",
                "agent list",
                "List agents.",
                "enumerate the agents on this machine",
            ],
        ),
        (
            "get_agent_info {\"agent_id\":\"CodeReviewer_Agent\"}",
            &[
                "show me everything about CodeReviewer_Agent",
                "describe CodeReviewer_Agent",
                "what does CodeReviewer_Agent do?",
                "tell me about the code reviewer agent",
                "info CodeReviewer_Agent",
                "CodeReviewer_Agent",
                "who is CodeReviewer_Agent?",
                "details of codereviewer_agent",
                "What can the Code Reviewer do?",
                "--info CodeReviewer_Agent",
                "please run `conductor --info CodeReviewer_Agent`",
                "tell me about the code reviewer",
                "conductor --info \"CodeReviewer_Agent\"",
                "conductor --info='CodeReviewer_Agent'",
                "I want more information on CodeReviewer_Agent please",
                "what are the capabilities of CodeReviewer_Agent",
                "give me the details for CodeReviewer_Agent",
                "explain what CodeReviewer_Agent is good for",
                "what is CodeReviewer_Agent's purpose?",
            ],
        ),
        ("get_agent_info {\"agent_id\":\"Nope_Agent\"}", &["describe Nope_Agent"]),
        (
            "validate_conductor_system {}",
            &[
                "is my setup ok?",
                "validate",
                "validate the system",
                "check my configuration",
                "is everything fine?",
                "is the configuration valid",
                "does everything work?",
                "are there any errors in my config?",
                "check that all is set up correctly",
                "verify the installation",
                "is anything wrong with my setup?",
                "conductor --validate",
                "is the system healthy",
                "are there problems with the configuration?",
                "please check whether the system is working properly",
                "is my conductor configured correctly?",
            ],
        ),
        (
            "get_system_config {}",
            &[
                "show the configuration",
                "what is my current configuration?",
                "display the settings",
                "what are my settings",
                "show me the system config",
                "how is conductor configured?",
                "config",
                "get system config",
            ],
        ),
        (
            "install_agent_templates {}",
            &[
                "which templates can I install?",
                "list the templates",
                "what templates are available",
                "show available templates",
                "what agents can be installed?",
                "which agents are available to install?",
                "conductor --install list",
            ],
        ),
    ];
    let misread: Vec<_> = cases
        .iter()
        .flat_map(|(expected, commands)| {
            commands.iter().map(move |command| (command, *expected, planned(command)))
        })
        .filter(|(_, expected, planned)| expected != planned)
        .collect();
    assert!(misread.is_empty(), "{misread:#?}");
}

#[test]
fn what_is_unsure_or_changes_something_is_declined() {
    for command in [
        "list all agents and delete them",
        "restore the backup",
        "what is the weather",
        "delete CodeReviewer_Agent",
        "run CodeReviewer_Agent on main.rs",
        "ask CodeReviewer_Agent to look at my code",
        "don't list the agents",
        "write a poem about agents",
        "back up the agents",
        "show me the weather for my agents",
        "who is the president",
        "list my files",
        "describe CodeReviewer_Agent and SqlExpert_Agent",
        "what time is it",
        "clear the history of SqlExpert_Agent",
        "set the environment to production",
        "make my setup ok",
        "fix my configuration",
        "show me how to cook",
        "conductor --list --validate",
        "conductor --list; rm -rf /",
        "conductor --restore",
        "--info",
        "--info ../../x",
        "--info \"unclosed",
        "conductor --frobnicate",
        "--lis",
        "what is the configuration of the universe",
        "list agents then wipe the workspace",
        "remove the agents I have",
        "rename CodeReviewer_Agent",
        "tell me a joke",
        "check the weather",
        "is it ok to eat pizza",
        "are you ok?",
        "is the stock market fine",
        "list agents of the CIA",
        "validate my passport",
        "what is the capital of France",
        "describe the sea",
        "show me everything",
        "🤖",
        "????",
        "list agents, delete_all",
        "drop_table agents",
        "call my agents",
        "let my agents know",
        "give the agents a name",
        "set everything up properly",
        "nuke the templates",
        "use a template",
        "use CodeReviewer_Agent",
        "tell CodeReviewer_Agent everything",
        "CodeReviewer_Agent, look at this",
        "SqlExpert_Agent, what is a join?",
        "list agents and templates",
        "describe CodeReviewer_Agent and list the agents",
        "show config and validate it",
        "which agents aren't available?",
        "what is an agent?",
        "are you an agent?",
        "I need an expert",
        "am I healthy?",
        "validate all invoices",
        "list invoice templates",
        "what are my options?",
        "what is a commit message?",
        "my agents are great",
        "everything works",
        "the setup works",
        "show me everything about CodeReviewer_Agent and then uninstall it",
        "wipe all",
        "kill all agents",
        "get rid of all agents",
    ] {
        assert_eq!(planned(command), "decline", "{command}");
    }
}

#[test]
fn a_literal_run_is_one() {
    assert_eq!(
        planned("conductor --agent SqlExpert_Agent --input 'select \"x\"; -- and more' --chat"),
        "execute_agent_contextual {\"agent_id\":\"SqlExpert_Agent\",\"input_text\":\"select \\\"x\\\"; -- and more\",\"clear_history\":false}"
    );
    assert!(planned("--agent SqlExpert_Agent --input=-x --timeout 5").contains("\"timeout\":5"));
}

#[test]
fn newcomers_are_helped() {
    let told = |text: &str| {
        format!("execute_agent_stateless {{\"agent_id\":\"CodeReviewer_Agent\",\"input_text\":\"{text}\"}}")
    };
    for command in ["help", "hello", "Hello!", "what can you do?", "status", "list jobs", "how do I start?"] {
        assert_eq!(planned(command), "answer", "{command}");
    }
    for (command, expected) in [
        ("ask CodeReviewer_Agent: is it good?", told("is it good?")),
        ("ask codereviewer_agent: \"is it good?\"", told("is it good?")),
        ("run CodeReviewer_Agent on \"x\"", told("x")),
        ("run CodeReviewer_Agent: x", told("x")),
        ("ask CodeReviewer_Agent 'x y'", told("x y")),
        (
            "install all templates",
            "asks first: install_agent_templates {\"template_name\":\"all\"}".to_owned(),
        ),
        (
            "install the core templates",
            "asks first: install_agent_templates {\"template_name\":\"core\"}".to_owned(),
        ),
    ] {
        assert_eq!(planned(command), expected, "{command}");
    }
    // What is no whole phrase is not guessed.
    for command in [
        "help me delete the agents",
        "ask CodeReviewer_Agent",
        "ask CodeReviewer_Agent:",
        "ask Nope_Agent: x",
        "run CodeReviewer_Agent on x",
        "ask CodeReviewer_Agent whether it works",
        "install",
        "install all",
        "install all templates and delete the rest",
        "hello, delete everything",
        "run all agents: x",
        "jobs delete",
        "status quo",
        "install ../x templates",
    ] {
        let expected = if command == "install all" {
            "asks first: install_agent_templates {\"template_name\":\"all\"}"
        } else {
            "decline"
        };
        assert_eq!(planned(command), expected, "{command}");
    }
}

/// A hundred times the longest commands and ten thousand agents, in less than one of them took when each word was measured against
/// each other whatever their lengths.
#[test]
fn the_cost_does_not_grow_with_the_command() {
    let agents: Vec<String> = (0..10_000).map(|number| format!("Agent{number}_Agent")).collect();
    let long = ["show ".to_owned() + &"x".repeat(1_000_000), "x ".repeat(500_000), "please ".repeat(20)];
    let began = std::time::Instant::now();
    for _ in 0..10 {
        for command in &long {
            assert!(matches!(plan(command, &agents), Plan::Decline(_)));
        }
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
}
