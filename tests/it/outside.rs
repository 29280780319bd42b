//! Clients that others wrote. They need packages, which `tests/all` installs; there a missing one is a failure.

use std::process::Command;

use crate::support::Gateway;

/// Runs a client of `tests/clients` against a gateway. It prints what failed and exits with 0 only if nothing did.
fn client(interpreter: &str, script: &str, gateway: &Gateway) {
    let outside =
        std::env::var("OUTSIDE").expect("tests/all sets OUTSIDE to where it installed the packages");
    let root = env!("CARGO_MANIFEST_DIR");
    let program =
        if interpreter == "python" { format!("{outside}/venv/bin/python") } else { interpreter.to_owned() };
    let output = Command::new(program)
        .arg(format!("{root}/tests/clients/{script}"))
        .arg(&gateway.address)
        .arg(env!("CARGO_BIN_EXE_conductor-gateway"))
        .env("NODE_PATH", format!("{outside}/node_modules"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{script}:\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "needs Python packages"]
fn python_grpc_client_by_reflection() {
    client("python", "grpc_client.py", &Gateway::start());
}

#[test]
#[ignore = "needs Python packages"]
fn python_sse_client() {
    client("python", "sse.py", &Gateway::start());
}

#[test]
#[ignore = "needs Python and Node packages"]
fn every_client_sees_the_same_job() {
    client("python", "same_job.py", &Gateway::start());
}
