//! The one service behind every door: it takes tasks in, owns the life of each job, and lets readers follow.
//!
//! *Lives here:* admission, the queue, running and cancelling, a job's state as a fold over its events,
//! recovery after a restart, retention. *May import:* rank 3 and below. *May not:* know tonic, hyper, rmcp.

mod admission;
mod config;
mod desk;
mod fold;
mod held;
mod info;
mod live;
mod normal;
mod outside;
mod queue;
mod readiness;
mod recover;
mod result;
mod run;
mod service;
mod submit;
mod worker;

pub use config::Config;
pub use desk::Desk;
pub use fold::apply;
pub use held::HeldJob;
pub use info::ServerInfo;
pub use normal::MAX_ARGUMENTS_BYTES;
#[cfg(any(test, fuzzing))]
pub(crate) use normal::normal;
pub use readiness::Condition;
pub use result::{RESULT_PIECE_BYTES, WholeResult};
pub use service::{CancelledBy, JobPage, JobService};
pub use submit::{Submission, Submitted};
pub use worker::{AgentWorker, Assignment, Needs, Worker};

// What a door has to name of the journal, so that it imports nothing below this room.
pub use crate::conversation::Conversation;
pub use crate::journal::{
    Batch as EventBatch, Filter, Follower as EventFollower, JobId, Rendered as RenderedEvents,
    Slice as EventSlice,
};
