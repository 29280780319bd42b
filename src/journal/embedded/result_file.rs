//! The full text of a result that is too long for an event, in a file of its own: blocks of 64 KiB, each with its checksum, so
//! that any part can be read alone and damage is never passed on.

use std::{io, path::Path};

use bytes::{Bytes, BytesMut};

use super::{
    super::JobId,
    disk::{Disk, OpenMode, read_exact_at},
};

const BLOCK: usize = 64 * 1024;
const CHECKSUM: usize = 4;

fn checksum(job_id: &JobId, block: u64, bytes: &[u8]) -> u32 {
    let place = crc32c::crc32c_append(crc32c::crc32c(job_id.as_str().as_bytes()), &block.to_le_bytes());
    crc32c::crc32c_append(place, bytes)
}

/// Writes the text of a result atomically.
pub(super) fn write(
    disk: &dyn Disk,
    path: &Path,
    job_id: &JobId,
    text: &[u8],
    is_synced: bool,
) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(text.len() + (text.len() / BLOCK + 1) * CHECKSUM);
    for (number, block) in (0..).zip(text.chunks(BLOCK)) {
        bytes.extend_from_slice(block);
        bytes.extend_from_slice(&checksum(job_id, number, block).to_le_bytes());
    }
    if let Some(directory) = path.parent() {
        disk.create_directory(directory)?;
    }
    disk.replace(path, &bytes, is_synced)
}

/// Returns at most `max_bytes` from byte `from` on, and nothing beyond the end. Damage in a block that is read is an error.
pub(super) fn read(
    disk: &dyn Disk,
    path: &Path,
    job_id: &JobId,
    from: u64,
    max_bytes: usize,
) -> io::Result<Bytes> {
    let file = disk.open(path, OpenMode::Reading)?;
    let length = file.length()?;
    let mut read = BytesMut::new();
    let first = from / BLOCK as u64;
    for number in first.. {
        let at = number * (BLOCK + CHECKSUM) as u64;
        let stored = length.saturating_sub(at).min((BLOCK + CHECKSUM) as u64) as usize;
        if stored <= CHECKSUM || read.len() >= max_bytes {
            break;
        }
        let mut block = vec![0; stored];
        read_exact_at(&*file, &mut block, at)?;
        let expected = block.split_off(stored - CHECKSUM);
        if checksum(job_id, number, &block).to_le_bytes() != expected[..] {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("the block at {at} is damaged")));
        }
        let skip = if number == first { (from % BLOCK as u64) as usize } else { 0 };
        read.extend_from_slice(block.get(skip..).unwrap_or_default());
    }
    read.truncate(max_bytes);
    Ok(read.freeze())
}

#[cfg(test)]
mod tests {
    use super::{super::disk::SystemDisk, *};

    #[test]
    fn any_part_is_read_alone_and_damage_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results/x");
        let job_id = JobId::generate().unwrap();
        let text: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        write(&SystemDisk, &path, &job_id, &text, false).unwrap();
        for (from, max) in
            [(0, 10), (0, 1_000_000), (65_530, 20), (131_072, 5), (199_999, 10), (200_000, 10), (900_000, 1)]
        {
            let end = (from + max).min(text.len());
            let expected = text.get(from..end).unwrap_or_default();
            assert_eq!(
                read(&SystemDisk, &path, &job_id, from as u64, max).unwrap(),
                expected,
                "{from} {max}"
            );
        }
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[70_000] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(read(&SystemDisk, &path, &job_id, 0, 100).is_ok());
        assert!(read(&SystemDisk, &path, &job_id, 70_000, 100).is_err());
        assert!(read(&SystemDisk, &path, &JobId::generate().unwrap(), 0, 100).is_err());
    }
}
