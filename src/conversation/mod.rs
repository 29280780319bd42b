//! What callers have said and set: conversations, with their exchanges and the roots of their agents, and each caller's
//! settings. They are kept in files below the data root, under names that nobody can compute without this
//! installation's key.
//!
//! *Lives here:* the store of conversations, its index and retention, callers' settings, the data root's version. *May
//! import:* `engine`, rank 0. *May not:* know tools, models, jobs, doors.

mod exchanges;
mod index;
mod layout;
mod list;
mod names;
mod settings;
mod store;
mod summary;
mod upgrade;
mod use_recorder;

pub(crate) use exchanges::Exchange;
pub(crate) use index::ConversationsConfig;
pub(crate) use layout::Layout;
pub(crate) use list::ConversationPage;
pub(crate) use names::KeyedNames;
pub(crate) use settings::Settings;
pub(crate) use store::{ConversationStore, RememberLimits};
pub(crate) use summary::Conversation;
pub(crate) use upgrade::upgrade;
