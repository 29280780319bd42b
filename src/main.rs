//! The binary: see `conductor_gateway::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    conductor_gateway::cli::main(std::env::args_os())
}
