//! A conversation as listings show it.

use serde::{Serialize, Serializer};

use crate::pb::Timestamp;

/// A conversation of a caller, as the JSON doors print it.
#[derive(Clone, Debug, Serialize)]
pub struct Conversation {
    /// Its id.
    pub conversation_id: String,
    /// When it began.
    pub create_time: Timestamp,
    /// When something was last said.
    pub update_time: Timestamp,
    /// How many exchanges with the gateway's agent are remembered.
    pub exchanges: u32,
    /// The engine's agents that remember something of the conversation, each with its number of interactions.
    #[serde(serialize_with = "as_objects")]
    pub agents: Vec<(String, u32)>,
}

/// Prints the agents as objects.
fn as_objects<S: Serializer>(agents: &[(String, u32)], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Remembering<'a> {
        agent_id: &'a str,
        interactions: u32,
    }
    let agents = agents.iter();
    serializer.collect_seq(
        agents.map(|(agent_id, interactions)| Remembering { agent_id, interactions: *interactions }),
    )
}
