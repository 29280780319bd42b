//! Files that others can write: agents' definitions and histories, what an engine leaves behind, backups.
//!
//! Whoever runs an agent can put anything in the place of such a file: a link to somebody else's, a named pipe that is never
//! written to, a device without an end, 30 MB of YAML. So they are opened beneath a directory without following a link, only
//! regular ones, without waiting, up to a size, on a few threads that the store does not need, within a time. Nothing else in
//! `tool/`, `engine/` and `bundled/` opens a file; `tests/it/tidy.rs` holds that.
//!
//! Our own files are made here too: private, whatever the umask is, and replaced whole or not at all.
//!
//! *Lives here:* opening, listing, copying, replacing, the threads for it. *May import:* nothing of ours. *May not:* know what
//! is in a file.

mod copy;
mod guarded;
mod pool;
mod replace;

pub use copy::{Copied, CopyLimits, copy_tree};
pub use guarded::{Entry, EntryKind, Root};
pub use pool::{Late, Pool};
pub use replace::{
    Durability, append_private, create_private_directory, keep_private, narrow, open_private, remove_tree,
    replace, set_umask, started_umask, swap_directory,
};
