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

pub use exchanges::Exchange;
pub use index::ConversationsConfig;
pub use layout::Layout;
pub use list::ConversationPage;
pub use names::KeyedNames;
pub use settings::Settings;
pub use store::{ConversationStore, ConversationUse, RememberLimits};
pub use summary::Conversation;
pub use upgrade::upgrade;
