//! The promises of docs/reliability.md against the real binary. The checkers know the public contract only.
//!
//! `cargo test --test chaos` is the short form, `CHAOS=full cargo test --test chaos -- --include-ignored --nocapture` the
//! full one. A failure prints its seed; `CHAOS_SEED=n` makes the same choices again (the machine's timing stays its own).

#![allow(missing_docs, unreachable_pub)]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr
)]

#[allow(dead_code, unused_imports, reason = "shared with the other tests, which need other parts of it")]
#[path = "../it/support/mod.rs"]
mod support;

mod cancel;
mod checker;
mod crash;
mod damage;
mod disk;
mod exhaustion;
mod idempotency;
mod leaving;
mod overload;
mod power;
mod probes;
mod proxies;
mod raw;
mod readers;
mod resume;
mod retention;
mod scenario;
mod sharing;
mod soak;
