//! Compares candidates for the gateway's event store: latency, a killed process, damaged files.
//!
//! `cargo run --release -- latency`, `-- crash`, `-- damage`; without an argument all three.
//! `child-append` and `child-read` are the program's own children.

mod candidate;
mod check;
mod crash;
mod damage;
mod databases;
mod image;
mod latency;
mod own;
mod units;

use candidate::Outcome;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] => {
            latency::run()?;
            crash::run()?;
            damage::run()
        }
        ["latency"] => latency::run(),
        ["crash"] => crash::run(),
        ["damage"] => damage::run(),
        ["child-append", kind, path, shape] => crash::append_until_killed(kind, path, shape),
        ["child-read", kind, path, job, step, count] => {
            check::read_as_child(kind, path, job, step.parse()?, count.parse()?)
        }
        _ => Err("one of: latency, crash, damage; nothing for all three".into()),
    }
}
