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
mod live_job;
mod normalization;
mod queue;
mod readiness;
mod recover;
mod result;
mod run;
mod service;
mod submit;
mod title;
mod watchers;
pub(crate) mod worker;

pub(crate) use cancelled_by::CancelledBy;
pub(crate) use config::JobsConfig;
pub(crate) use directory_service::DirectoryService;
pub(crate) use disconnect_guard::DisconnectGuard;
pub(crate) use normalization::MAX_ARGUMENTS_BYTES;
#[cfg(any(test, fuzzing))]
pub(crate) use normalization::normal;
pub(crate) use readiness::NotReadyCause;
pub(crate) use result::WholeResult;
pub(crate) use service::{ChangedJob, JobPage, JobService};
pub(crate) use submit::{Submission, Submitted};
pub(crate) use watchers::Changes;
pub(crate) use worker::{AgentWorker, Assignment};

// The journal types that doors name, re-exported so that doors import nothing below this module.
pub(crate) use crate::conversation::Conversation;
pub(crate) use crate::journal::{
    EventBatch, EventFollower, EventSlice, Filter, JobId, RenderedEvents, TextForm,
};
