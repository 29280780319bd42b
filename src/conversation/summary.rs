//! A conversation as listings show it.

use crate::pb::Timestamp;

/// A conversation of a caller.
#[derive(Clone, Debug)]
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
    pub agents: Vec<(String, u32)>,
}

impl Conversation {
    /// Returns the conversation as the JSON doors print it.
    pub fn to_json(&self) -> serde_json::Value {
        let agents = self.agents.iter().map(|(agent_id, interactions)| {
            serde_json::json!({"agent_id": agent_id, "interactions": interactions})
        });
        serde_json::json!({
            "conversation_id": self.conversation_id,
            "create_time": self.create_time.to_string(),
            "update_time": self.update_time.to_string(),
            "exchanges": self.exchanges,
            "agents": agents.collect::<Vec<_>>(),
        })
    }
}
