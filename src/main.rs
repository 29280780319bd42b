//! scratch
fn main() -> std::process::ExitCode {
    let mut a = std::env::args_os().skip(1);
    match a.next().unwrap_or_default().to_str() {
        Some("engine") => conductor_gateway::bundled::main(a).into(),
        Some("guardian") => { conductor_gateway::engine::guardian::main().unwrap(); 0.into() }
        _ => 1.into(),
    }
}
