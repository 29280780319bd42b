//! The event names in the JSON form of events: the field names of the payload's variants.

use super::job_event::Payload;

/// Returns the event's name: the proto field name of its variant. A test holds the two together.
pub fn event_name(payload: &Payload) -> &'static str {
    match payload {
        Payload::JobStarted(_) => "job_started",
        Payload::StatusUpdate(_) => "status_update",
        Payload::OnChainStart(_) => "on_chain_start",
        Payload::OnChainEnd(_) => "on_chain_end",
        Payload::OnLlmStart(_) => "on_llm_start",
        Payload::OnLlmNewToken(_) => "on_llm_new_token",
        Payload::OnLlmEnd(_) => "on_llm_end",
        Payload::OnToolStart(_) => "on_tool_start",
        Payload::OnToolOutput(_) => "on_tool_output",
        Payload::OnToolEnd(_) => "on_tool_end",
        Payload::InputRequired(_) => "input_required",
        Payload::InputReceived(_) => "input_received",
        Payload::Result(_) => "result",
        Payload::Error(_) => "error",
        Payload::EndOfStream(_) => "end_of_stream",
    }
}

#[cfg(test)]
mod tests {
    use prost::{
        Message,
        encoding::{DecodeContext, WireType},
    };

    use super::*;
    use crate::pb::DESCRIPTORS;

    #[test]
    fn names_are_the_proto_field_names() {
        let set = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap();
        let event = set
            .file
            .iter()
            .flat_map(|file| &file.message_type)
            .find(|message| message.name() == "JobEvent")
            .unwrap();
        let arms: Vec<_> = event.field.iter().filter(|field| field.oneof_index.is_some()).collect();
        assert_eq!(arms.len(), 15);
        for arm in arms {
            // An empty embedded message with that tag decodes into the variant.
            let mut payload: Option<Payload> = None;
            let tag = u32::try_from(arm.number()).unwrap();
            Payload::merge(
                &mut payload,
                tag,
                WireType::LengthDelimited,
                &mut &[0u8][..],
                DecodeContext::default(),
            )
            .unwrap();
            assert_eq!(event_name(&payload.unwrap()), arm.name());
        }
    }
}
