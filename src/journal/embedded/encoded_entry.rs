//! Extracts what the entries of the catalogue say directly from their bytes: a start reads two entries per job and decodes none
//! of the jobs in them. The field numbers are those of `storage.proto`, `job.proto` and `task.proto`; the test checks that both
//! ways of reading agree.

use prost::Message;

use super::super::{
    entry::{IdempotencyKey, IndexEntry},
    index::EndSummary,
};
use crate::{
    pb::{
        JobState, Timestamp,
        fields::{Field, Fields},
        storage::Principal as StoredPrincipal,
    },
    principal::Principal,
};

/// One entry of the catalogue.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EncodedEntry<'a> {
    /// A job was accepted. `record` is the encoded `JobRecord`.
    Created { job_id: &'a str, record: &'a [u8] },
    /// A job ended. `end` is the encoded `JobEnd`.
    Ended { job_id: &'a str, end: &'a [u8] },
    /// A job was deleted.
    Deleted { job_id: &'a str },
}

impl<'a> EncodedEntry<'a> {
    /// Parses an entry. Returns `None` if `content` is not one.
    pub(super) fn of(content: &'a [u8]) -> Option<Self> {
        let mut said = None;
        for field in Fields(content) {
            let Field { tag, content, .. } = field.ok()?;
            said = match tag {
                1 => Some(Self::Created { job_id: text(last(last(content, 1)?, 1)?)?, record: content }),
                2 => Some(Self::Ended { job_id: text(last(content, 1)?)?, end: content }),
                3 => Some(Self::Deleted { job_id: text(content)? }),
                _ => said,
            };
        }
        said
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Returns the content of a field of a message, empty if the field is absent. `None` if the message is malformed.
fn last(message: &[u8], tag: u32) -> Option<&[u8]> {
    let mut found = &[][..];
    for field in Fields(message) {
        let field = field.ok()?;
        if field.tag == tag {
            found = field.content;
        }
    }
    Some(found)
}

/// Creates index entries of ended jobs. Consecutive jobs of one owner share one copy of the principal.
#[derive(Debug, Default)]
pub(super) struct EndedEntryBuilder {
    owner: Option<(Vec<u8>, Principal)>,
}

impl EndedEntryBuilder {
    /// Creates the entry and the end of a job from `record` and `end` as [`EncodedEntry`] holds them. `None` if one is malformed.
    pub(super) fn entry(&mut self, record: &[u8], end: &[u8]) -> Option<(IndexEntry, EndSummary)> {
        let (mut job, mut digest, mut principal) = (&[][..], &[][..], None);
        for field in Fields(record) {
            let field = field.ok()?;
            match field.tag {
                1 => job = field.content,
                2 => digest = field.content,
                3 => principal = Some(field.content),
                _ => {}
            }
        }
        let owner = self.owner(principal, last(job, 5)?)?;
        let mut summary = Vec::new();
        let mut key = None;
        for field in Fields(job) {
            let field = field.ok()?;
            // The title.
            if field.tag == 20 {
                summary.extend_from_slice(field.whole);
            }
            if field.tag == 4 {
                summary.extend_from_slice(field.whole);
                key = Some(text(last(field.content, 1)?)?).filter(|key| !key.is_empty());
            }
        }
        let key = key.map(|key| {
            Box::new(IdempotencyKey {
                key: key.into(),
                request_digest: bytes::Bytes::copy_from_slice(digest),
            })
        });
        let end = ended(end, &mut summary)?;
        Some((IndexEntry::of_ended(owner, key, summary.into_boxed_slice()), end))
    }

    fn owner(&mut self, principal: Option<&[u8]>, caller: &[u8]) -> Option<Principal> {
        let bytes = principal.unwrap_or(caller);
        if let Some((_, owner)) = self.owner.as_ref().filter(|(known, _)| known == bytes) {
            return Some(owner.clone());
        }
        let stored = match principal {
            Some(principal) => Some(StoredPrincipal::decode(principal).ok()?),
            None => None,
        };
        let owner = Principal::of_stored_or_caller(stored.as_ref(), text(caller)?);
        // A caller name alone is not cached: it is no encoded principal, but its bytes might equal one.
        self.owner = principal.map(|principal| (principal.to_vec(), owner.clone()));
        Some(owner)
    }
}

fn state(value: u64) -> JobState {
    i32::try_from(value).ok().and_then(|value| JobState::try_from(value).ok()).unwrap_or_default()
}

/// Parses a `JobEnd` and appends the fields that a listing shows to `summary`. `None` if it is malformed.
fn ended(end: &[u8], summary: &mut Vec<u8>) -> Option<EndSummary> {
    let mut ended = EndSummary::default();
    for field in Fields(end) {
        let field = field.ok()?;
        match field.tag {
            2 => {
                for field in Fields(field.content) {
                    let field = field.ok()?;
                    match field.tag {
                        2 => ended.state = state(field.value),
                        // The door, the times and the usage.
                        6..=8 | 10 | 13 | 14 => summary.extend_from_slice(field.whole),
                        9 => ended.time = Some(Timestamp::decode(field.content).ok()?),
                        11 => ended.last_sequence = u32::try_from(field.value).ok()?,
                        _ => {}
                    }
                }
            }
            3 => ended.log_bytes = field.value,
            4 => ended.is_lost = field.value != 0,
            5 => ended.frees_key = field.value != 0,
            _ => {}
        }
    }
    Some(ended)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        journal::{JobId, index::frees_key},
        pb::{
            Door, Job, JobError, TaskOptions, Usage,
            job::Outcome,
            storage::{CatalogEntry, JobEnd, JobRecord, catalog_entry},
        },
    };

    /// A created and an ended job in which every field that a listing shows is set.
    fn job(job_id: &JobId) -> (Job, Job) {
        let at = |seconds: u64| Some(Timestamp::from_unix_millis(seconds * 1000));
        let options = TaskOptions {
            idempotency_key: "key".into(),
            timeout_seconds: 9,
            conversation_id: "c".into(),
            labels: BTreeMap::from([("a".into(), "b".into()), ("c".into(), String::new())]),
            ..TaskOptions::default()
        };
        let created = Job {
            job_id: job_id.to_string(),
            state: JobState::Queued as i32,
            options: Some(options),
            caller: "alice".into(),
            door: Door::Http as i32,
            create_time: at(1),
            title: "list the agents".into(),
            ..Job::default()
        };
        let ended = Job {
            state: JobState::Cancelled as i32,
            options: Some(TaskOptions::default()),
            start_time: at(2),
            end_time: at(3),
            expire_time: at(4),
            cancel_request_time: at(2),
            last_sequence: 300,
            usage: Some(Usage { tool_calls: Some(7), ..Usage::default() }),
            outcome: Some(Outcome::Error(JobError::default())),
            ..created.clone()
        };
        (created, ended)
    }

    #[test]
    fn an_entry_says_the_same_as_when_it_is_decoded_whole() {
        let job_id = JobId::generate().unwrap();
        let (created, ended) = job(&job_id);
        let mut jobs = EndedEntryBuilder::default();
        for (principal, digest) in [
            (Some(Principal::from_proxy("bob").to_stored()), &b"digest"[..]),
            (Some(Principal::from_proxy("bob").to_stored()), b""),
            (Some(Principal::local().to_stored()), b"x"),
            (None, b"digest"),
        ] {
            let record =
                JobRecord { job: Some(created.clone()), request_digest: digest.to_vec().into(), principal };
            let entry = |entry| CatalogEntry { entry: Some(entry) }.encode_to_vec();
            let bytes = entry(catalog_entry::Entry::Created(record.clone()));
            let Some(EncodedEntry::Created { job_id: named, record: encoded }) = EncodedEntry::of(&bytes)
            else {
                panic!()
            };
            assert_eq!((named, encoded), (job_id.as_str(), &record.encode_to_vec()[..]));
            let end = JobEnd {
                job_id: job_id.to_string(),
                log_bytes: 1 << 40,
                is_lost: true,
                frees_key: frees_key(&ended),
                job: Some(Job { outcome: None, ..ended.clone() }),
            };
            let bytes = entry(catalog_entry::Entry::Ended(end));
            let Some(EncodedEntry::Ended { job_id: named, end }) = EncodedEntry::of(&bytes) else { panic!() };
            assert_eq!(named, job_id.as_str());
            let (said, end) = jobs.entry(encoded, end).unwrap();
            assert_eq!(end, EndSummary::new(&ended, 1 << 40, true));
            let whole = IndexEntry::new(record, Some(&ended));
            assert!(said.owner.is_identical(&whole.owner), "{:?} {:?}", said.owner, whole.owner);
            assert_eq!(said.job(&job_id), Job { state: 0, ..whole.job(&job_id) });
            let key = |entry: &IndexEntry| {
                entry.key.as_ref().map(|key| (key.key.clone(), key.request_digest.clone()))
            };
            assert_eq!(key(&said), key(&whole));
        }
        let deleted = CatalogEntry { entry: Some(catalog_entry::Entry::Deleted(job_id.to_string())) };
        assert_eq!(
            EncodedEntry::of(&deleted.encode_to_vec()),
            Some(EncodedEntry::Deleted { job_id: job_id.as_str() })
        );
        assert_eq!(EncodedEntry::of(b""), None);
        assert_eq!(EncodedEntry::of(&[0x0a, 0x05, 1]), None);
    }
}
