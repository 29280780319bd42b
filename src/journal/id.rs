//! Job ids: `job_` and base32 of a 48-bit time and 128 random bits.

use std::{borrow::Borrow, fmt, sync::Arc};

use data_encoding::{Encoding, Specification};

use crate::{
    ambient,
    error::{Error, Reason, Result},
    pb::Timestamp,
};

/// The highest sequence of an event; the sequence after it still fits in a `u32`.
pub(super) const MAX_SEQUENCE: u32 = u32::MAX - 1;

/// The id of a job: sorts by creation time, cannot be guessed, and is opaque to clients.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(Arc<str>);

const PREFIX: &str = "job_";
const ENCODED_LEN: usize = 36; // 22 bytes in base32 without padding

/// Base32 in the order of its values (RFC 4648 section 7, lower case), so that ids sort by time.
fn base32() -> Encoding {
    let mut specification = Specification::new();
    specification.symbols.push_str("0123456789abcdefghijklmnopqrstuv");
    specification.encoding().unwrap_or(data_encoding::BASE32HEX_NOPAD)
}

impl JobId {
    /// Generates a new id. Fails only if the system provides no random numbers.
    pub fn generate() -> Result<Self> {
        let mut bytes = [0u8; 22];
        bytes[..6].copy_from_slice(&Timestamp::now().unix_millis().to_be_bytes()[2..]);
        ambient::fill_random(&mut bytes[6..]).map_err(Error::internal)?;
        Ok(Self(format!("{PREFIX}{}", base32().encode(&bytes)).into()))
    }

    /// Parses an id. Text that cannot be an id yields the same error as the id of a job that does not exist.
    pub fn parse(text: &str) -> Result<Self> {
        let is_id = text.strip_prefix(PREFIX).is_some_and(|rest| {
            rest.len() == ENCODED_LEN && rest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'v'))
        });
        if is_id { Ok(Self(text.into())) } else { Err(Self::not_found(text)) }
    }

    /// Returns the error for an id that names no job of the caller.
    pub fn not_found(text: &str) -> Error {
        let shown: String = text.chars().take(64).filter(|c| !c.is_control()).collect();
        Error::new(
            Reason::JobNotFound,
            format!(
                "no job `{shown}`: it never existed, was deleted, or retention removed it; list the jobs to see what there is"
            ),
        )
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An id compares and hashes exactly like its text, as `Borrow` requires.
impl Borrow<str> for JobId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_back_and_nothing_else_is() {
        let id = JobId::generate().unwrap();
        assert_eq!(JobId::parse(id.as_str()).unwrap(), id);
        for bad in ["", "job_", "job_../../x", "job_0000000000000000000000000000000000000", "\0", "x"] {
            assert_eq!(JobId::parse(bad).unwrap_err().reason(), Reason::JobNotFound, "{bad:?}");
        }
    }
}
