//! Tests of `code.rs`.

use super::*;

#[test]
fn code_is_copied_without_the_rest_and_again_when_it_changes() {
    let directory = tempfile::tempdir().unwrap();
    let checkout = directory.path().join("checkout");
    for path in [
        "src/a.py", "src/__pycache__/a.pyc", ".git/HEAD", "config.yaml", "prompts_log/x",
        "agents/A/history.log", ".env",
    ] {
        let path = checkout.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "words").unwrap();
    }
    let code = || Code::new(checkout.clone(), directory.path().join("copies"), vec![checkout.join("agents")]);
    let first = code().current().unwrap();
    let copied: Vec<bool> =
        ["src/a.py", ".env", "src/__pycache__", ".git", "config.yaml", "prompts_log", "agents"]
            .iter()
            .map(|path| first.join(path).exists())
            .collect();
    assert_eq!(copied, [true, true, false, false, false, false, false]);
    assert_eq!(code().current().unwrap(), first);
    for round in 0..6 {
        fs::write(checkout.join("src/a.py"), "x".repeat(round + 10)).unwrap();
        assert_ne!(code().current().unwrap(), first);
    }
    assert_eq!(fs::read_dir(directory.path().join("copies")).unwrap().count(), MAX_KEPT);
}
