//! What an operator of this machine may ask of the running gateway, through a Unix socket in its data root.
//!
//! *Lives here:* the socket and its client, applying a changed configuration. *May import:* the rooms whose settings can change
//! while they work, `config`. *May not:* be reached over a network, know the doors.

mod reload;
mod socket;

pub(crate) use reload::{ReloadReport, Reloadable, Reloader, SettingChange};
pub(crate) use socket::{OperatorSocket, ask_to_reload};
