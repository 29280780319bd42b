//! Encodes an event, once, directly into the buffer that is stored and relayed.

use bytes::BufMut;
use prost::encoding::{encode_key, encode_varint, encoded_len_varint, message, string, uint32};

use super::JobId;
use crate::pb::{Timestamp, job_event::Payload};

/// Returns the encoded size of an event without encoding it.
pub(super) fn encoded_len(job_id: &JobId, sequence: u32, time: &Timestamp, payload: &Payload) -> usize {
    let id_len = job_id.as_str().len();
    1 + encoded_len_varint(id_len as u64)
        + id_len
        + uint32::encoded_len(2, &sequence)
        + message::encoded_len(3, time)
        + payload.encoded_len()
}

/// Encodes a [`JobEvent`](crate::pb::JobEvent) field by field, so that the job id is not copied into a message for each event.
pub(super) fn encode(
    job_id: &JobId,
    sequence: u32,
    time: &Timestamp,
    payload: &Payload,
    buffer: &mut impl BufMut,
) {
    encode_key(1, prost::encoding::WireType::LengthDelimited, buffer);
    encode_varint(job_id.as_str().len() as u64, buffer);
    buffer.put_slice(job_id.as_str().as_bytes());
    uint32::encode(2, &sequence, buffer);
    message::encode(3, time, buffer);
    payload.encode(buffer);
}

// Naming `string` makes the compiler notice a change of the generated field types.
const _: fn(u32, &String) -> usize = string::encoded_len;

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::pb;

    #[test]
    fn equals_the_generated_encoding() {
        let job_id = JobId::generate().unwrap();
        for (sequence, time) in [
            (1, Timestamp { seconds: 0, nanos: 0 }),
            (300, Timestamp { seconds: 1_763_836_800, nanos: 123_456_789 }),
            (u32::MAX, Timestamp { seconds: 5, nanos: 0 }),
        ] {
            let payload = Payload::EndOfStream(pb::EndOfStream { state: 4, message: "done".into() });
            let mut bytes = Vec::new();
            encode(&job_id, sequence, &time, &payload, &mut bytes);
            assert_eq!(bytes.len(), encoded_len(&job_id, sequence, &time, &payload));
            let event = pb::JobEvent {
                job_id: job_id.to_string(),
                sequence,
                event_time: Some(time),
                payload: Some(payload),
            };
            assert_eq!(bytes, event.encode_to_vec());
            assert_eq!(pb::JobEvent::decode(&*bytes).unwrap(), event);
        }
    }
}
