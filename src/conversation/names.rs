//! The names of callers' and conversations' files. Only with this installation's key can they be computed, so that a
//! path to somebody else's files cannot be guessed from their name.

use std::{
    io,
    path::{Path, PathBuf},
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::{
    files::{ReplaceDurability, Root, create_private_directory, replace},
    principal::Principal,
};

const KEY_FILE: &str = "installation.key";
const KEY_BYTES: usize = 32;

/// Derives names from the installation's key.
#[derive(Clone)]
pub struct KeyedNames {
    key: [u8; KEY_BYTES],
}

impl std::fmt::Debug for KeyedNames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(crate::secret::MASK)
    }
}

impl KeyedNames {
    /// Reads the key of the installation whose data is in `data_directory`, or creates one where there is none.
    ///
    /// # Errors
    /// When it cannot be read or written, or is not a key; a damaged key is never replaced, because without it the
    /// conversations cannot be found again.
    pub fn open(data_directory: &Path) -> io::Result<Self> {
        create_private_directory(data_directory)?;
        let read = || Root::open(data_directory)?.read(Path::new(KEY_FILE), KEY_BYTES as u64);
        let bytes = match read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut key = [0; KEY_BYTES];
                getrandom::fill(&mut key).map_err(io::Error::other)?;
                let path = data_directory.join(KEY_FILE);
                // Another gateway may start at the same moment: whoever links first has made the key of both.
                let new = path.with_extension(format!("key.{}", std::process::id()));
                replace(&new, &key, ReplaceDurability::Power)?;
                let linked = std::fs::hard_link(&new, &path);
                std::fs::remove_file(&new)?;
                match linked {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                    _ => read()?,
                }
            }
            bytes => bytes?,
        };
        let key = bytes.try_into().map_err(|_| io::Error::other(format!("{KEY_FILE} is no key")))?;
        Ok(Self { key })
    }

    fn keyed(&self, words: &[&str]) -> String {
        // HMAC takes a key of any length (RFC 2104, section 2).
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else { return String::new() };
        for word in words {
            mac.update(&(word.len() as u64).to_le_bytes());
            mac.update(word.as_bytes());
        }
        data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes()[..16])
    }

    /// Returns the name of the directory of a caller's conversations.
    pub(super) fn conversations_of(&self, caller: &str) -> String {
        self.keyed(&["conversations of", caller])
    }

    /// Returns the name of a conversation's directory.
    pub(super) fn conversation(&self, caller: &str, conversation_id: &str) -> String {
        self.keyed(&["conversation", caller, conversation_id])
    }

    /// Returns the name of a caller's file of settings.
    pub(super) fn settings(&self, caller: &Principal) -> PathBuf {
        format!("{}.json", self.keyed(&["settings", caller.name()])).into()
    }
}

/// Returns the name that earlier builds used, a digest without a key.
pub(super) fn without_key(name: &str) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(name.as_bytes())[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_last_and_are_those_of_one_installation() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let name = |directory: &Path| KeyedNames::open(directory).unwrap().conversation("a", "b");
        assert_eq!(name(one.path()), name(one.path()));
        assert_ne!(name(one.path()), name(two.path()));
        let names = KeyedNames::open(one.path()).unwrap();
        assert_ne!(names.conversation("ab", "c"), names.conversation("a", "bc"));
        let mode = std::fs::metadata(one.path().join(KEY_FILE)).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
        std::fs::write(one.path().join(KEY_FILE), "short").unwrap();
        assert!(KeyedNames::open(one.path()).is_err());
    }
}
