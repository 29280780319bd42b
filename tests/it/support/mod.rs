//! What the tests stand on: a started gateway, raw HTTP, an independent SSE parser, a look at the processes.

mod gateway;
mod http;
pub mod model;
mod processes;
pub mod providers;
mod sse;

pub use gateway::{BINARY, Gateway, Options, mean_engine, write_workspace};
pub use http::{Answer, send, try_send};
pub use model::ModelServer;
pub use processes::{alive_in, alive_with, children, eventually, starts};
pub use sse::SseReader;
