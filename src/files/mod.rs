//! Files that others can write: definitions and histories of agents, what an engine leaves behind, backups.
//!
//! Whoever runs an agent can replace such a file with anything: a link to a file of somebody else, a named pipe that is never
//! written to, an endless device, 30 MB of YAML. Such files are therefore opened beneath a directory without following links,
//! only if they are regular, without blocking, up to a maximum size, on a few threads that the store does not need, and with a
//! deadline. Nothing else in `tool/`, `engine/` and `bundled/` opens a file; `tests/it/tidy.rs` enforces that.
//!
//! The gateway's own files are also created here: private whatever the umask, and replaced atomically.
//!
//! *Lives here:* opening, listing, copying and replacing files, and the threads for that. *May import:* no other module of this
//! crate. *May not:* know what is in a file.

mod copy;
mod guarded;
mod interrupt;
mod pool;
mod replace;

pub(crate) use copy::{Copied, CopyLimits, copy_tree};
pub(crate) use guarded::{DirectoryEntry, EntryKind, Root};
pub(crate) use interrupt::Interrupt;
pub(crate) use pool::Pool;
pub(crate) use replace::{
    ReplaceDurability, create_private_directory, keep_private, narrow, open_private, remove_tree, replace,
    set_umask, started_umask, swap_directory,
};
