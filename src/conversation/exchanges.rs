//! The file of a conversation's exchanges: written as a whole, checked line by line.
//!
//! A line holds a CRC-32C, its number and the number of lines, and the exchange as JSON, so that a changed, torn or
//! lost line is noticed and the others are kept.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    files::{ReplaceDurability, Root, replace},
    pb::Timestamp,
};

pub(super) const FILE: &str = "exchanges.jsonl";
/// A larger file is an error; the default limits of a conversation are far smaller.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// One command and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// What the caller said.
    pub command: String,
    /// What was answered.
    pub answer: String,
}

/// Reads the exchanges, oldest first. Where the file is damaged, logs that, keeps a copy of it, rewrites it with the
/// intact lines and returns those.
pub(super) fn read(directory: &Path) -> io::Result<Vec<Exchange>> {
    let path = directory.join(FILE);
    let read = Root::open(directory).and_then(|root| root.read(Path::new(FILE), MAX_BYTES));
    let bytes = match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    let lines: Vec<Option<Line>> = bytes.split_inclusive(|byte| *byte == b'\n').map(Line::read).collect();
    let is_whole = lines.iter().enumerate().all(|(index, line)| {
        line.as_ref()
            .is_some_and(|line| line.number == Some((index + 1, lines.len())) || line.number.is_none())
    });
    let exchanges: Vec<Exchange> = lines.into_iter().flatten().map(|line| line.exchange).collect();
    if !is_whole {
        let kept = path.with_extension(format!("damaged-{}", Timestamp::now().unix_millis()));
        replace(&kept, &bytes, ReplaceDurability::Process)?;
        write(directory, &exchanges)?;
        tracing::error!(
            conversation = %directory.display(), kept = %kept.display(), whole = exchanges.len(),
            "a conversation is damaged; what is whole goes on, the original is kept"
        );
    }
    Ok(exchanges)
}

/// Replaces the stored exchanges by these, all at once.
pub(super) fn write(directory: &Path, exchanges: &[Exchange]) -> io::Result<()> {
    let mut text = String::new();
    for (index, exchange) in exchanges.iter().enumerate() {
        let rest = format!("{}/{} {}", index + 1, exchanges.len(), serde_json::to_string(exchange)?);
        text += &format!("{:08x} {rest}\n", crc32c::crc32c(rest.as_bytes()));
    }
    replace(&directory.join(FILE), text.as_bytes(), ReplaceDurability::Process)
}

struct Line {
    /// Its number and the number of lines; lines of the first format have none.
    number: Option<(usize, usize)>,
    exchange: Exchange,
}

impl Line {
    fn read(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
        if line.starts_with('{') {
            return Some(Self { number: None, exchange: serde_json::from_str(line).ok()? });
        }
        let (checksum, rest) = line.split_once(' ')?;
        if u32::from_str_radix(checksum, 16).ok()? != crc32c::crc32c(rest.as_bytes()) {
            return None;
        }
        let (number, exchange) = rest.split_once(' ')?;
        let (number, count) = number.split_once('/')?;
        let number = Some((number.parse().ok()?, count.parse().ok()?));
        Some(Self { number, exchange: serde_json::from_str(exchange).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn any_damage_is_noticed_and_the_rest_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let exchange = |number: u32| Exchange { command: format!("é {number}"), answer: "ok\n".repeat(3) };
        let all: Vec<Exchange> = (0..5).map(exchange).collect();
        write(directory.path(), &all).unwrap();
        let whole = fs::read(directory.path().join(FILE)).unwrap();
        assert_eq!(read(directory.path()).unwrap(), all);
        let damaged = || {
            let names = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
            let kept: Vec<_> = names.filter(|path| path.to_string_lossy().contains("damaged-")).collect();
            kept.iter().for_each(|path| fs::remove_file(path).unwrap());
            !kept.is_empty()
        };
        let check = |bytes: &[u8], what: &str| {
            fs::write(directory.path().join(FILE), bytes).unwrap();
            let left = read(directory.path()).unwrap();
            assert!(left.len() < all.len() && left.iter().all(|exchange| all.contains(exchange)), "{what}");
            assert!(damaged(), "{what}");
            assert_eq!(read(directory.path()).unwrap(), left, "{what}: mended");
            assert!(!damaged(), "{what}: once");
        };
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            // The case of a checksum's hexadecimal digits makes no difference.
            if flipped.eq_ignore_ascii_case(&whole) && at % 8 == 5 {
                continue;
            }
            check(&flipped, &format!("bit at {at}"));
        }
        for len in 1..whole.len() {
            check(&whole[..len], &format!("cut to {len}"));
        }
    }
}
