//! The service behind every door: it accepts tasks, owns the life cycle of each job, and lets readers follow its events.
//!
//! *Lives here:* admission, the queue, running and cancelling, a job's state as a fold over its events, recovery after a
//! restart, retention, the directory service. *May import:* rank 3 and below. *May not:* know tonic, hyper, rmcp.

mod admission;
mod cancelled_by;
mod client_holds;
mod config;
mod directory_service;
mod disconnect_guard;
mod fold;
mod inbound_calls;
mod info;
mod live_job;
mod normalization;
mod queue;
mod readiness;
mod recover;
mod result;
mod run;
mod service;
mod submit;
mod worker;

pub use cancelled_by::CancelledBy;
pub use config::Config;
pub use directory_service::DirectoryService;
pub use disconnect_guard::DisconnectGuard;
pub use fold::apply;
pub use info::ServerInfo;
pub use normalization::MAX_ARGUMENTS_BYTES;
#[cfg(any(test, fuzzing))]
pub(crate) use normalization::normal;
pub use readiness::NotReadyCause;
pub use result::{RESULT_PIECE_BYTES, WholeResult};
pub use service::{JobPage, JobService};
pub use submit::{Submission, Submitted};
pub use worker::{AgentWorker, Assignment, JobRequirements, Worker};

// The journal types that doors name, re-exported so that doors import nothing below this module.
pub use crate::conversation::Conversation;
pub use crate::journal::{EventBatch, EventFollower, EventSlice, Filter, JobId, RenderedEvents};
