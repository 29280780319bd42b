//! `conversations list|delete`: the caller's conversations, and the agents in them.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{
    client,
    global::GlobalArguments,
    output::{OutputArguments, OutputFormat, print_documents},
    print,
};
use crate::{error::Result, pb};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The running gateway to use; left out, the one that listens where the configuration says
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    #[command(flatten)]
    output: OutputArguments,
    #[command(subcommand)]
    command: ConversationsCommand,
}

#[derive(Debug, Subcommand)]
enum ConversationsCommand {
    /// List the conversations, the latest first
    List,
    /// Delete a conversation with everything that was said in it
    Delete {
        /// The conversation
        conversation_id: String,
    },
}

/// Formats one line about a conversation.
fn line(conversation: &pb::Conversation) -> String {
    let agents =
        conversation.agents.iter().map(|agent| format!("{} ({})", agent.agent_id, agent.interactions));
    let updated = conversation.update_time.map(|time| time.to_string()).unwrap_or_default();
    let line = format!(
        "{}  {updated}  {} commands  {}\n",
        conversation.conversation_id,
        conversation.exchanges,
        agents.collect::<Vec<_>>().join(", ")
    );
    print::shown_line(&line)
}

pub(super) async fn conversations(global: &GlobalArguments, arguments: Arguments) -> Result<ExitCode> {
    let Arguments { server, output, command } = arguments;
    let mut client = client::connect(global, server).await?;
    match command {
        ConversationsCommand::List => {
            let mut request = pb::ListConversationsRequest::default();
            let mut all = Vec::new();
            loop {
                let listed = client.list_conversations(request.clone()).await;
                let listed = listed.map_err(|status| client::refused(&status))?.into_inner();
                all.extend(listed.conversations);
                request.page_token = listed.next_page_token;
                if request.page_token.is_empty() {
                    break;
                }
            }
            match output.format() {
                OutputFormat::Table if all.is_empty() => print::to_stderr("there are no conversations\n"),
                OutputFormat::Table => {
                    all.iter().for_each(|conversation| print::to_stdout(&line(conversation)));
                }
                format => print_documents(&all, format),
            }
        }
        ConversationsCommand::Delete { conversation_id } => {
            let request = pb::DeleteConversationRequest { conversation_id: conversation_id.clone() };
            client.delete_conversation(request).await.map_err(|status| client::refused(&status))?;
            print::to_stdout(&format!("{conversation_id} deleted\n"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
