//! Tests of `copy.rs`.

use std::fs;

use super::*;

#[test]
fn links_are_left_out_and_bounds_hold() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    fs::create_dir_all(from.join("a/b")).unwrap();
    fs::create_dir(&to).unwrap();
    fs::write(from.join("a/b/file"), "words").unwrap();
    fs::write(from.join("a/skipped"), "words").unwrap();
    std::os::unix::fs::symlink("/etc", from.join("etc")).unwrap();
    let limits = CopyLimits { max_entries: 10, max_bytes: 10, max_depth: 3 };
    let copy = |limits, to: &str| {
        let to = directory.path().join(to);
        fs::create_dir_all(&to).unwrap();
        let skip = |path: &Path| path == Path::new("a/skipped");
        copy_tree(
            &Root::open(&from).unwrap(),
            &Root::open(&to).unwrap(),
            limits,
            &skip,
            &Interrupt::default(),
        )
    };
    let copied = copy(limits, "to").unwrap();
    assert_eq!((copied.files, copied.bytes, copied.left_out), (1, 5, vec![PathBuf::from("etc")]));
    assert_eq!(fs::read_to_string(to.join("a/b/file")).unwrap(), "words");
    assert!(!to.join("etc").exists() && !to.join("a/skipped").exists());
    assert!(copy(CopyLimits { max_bytes: 4, ..limits }, "bytes").is_err());
    assert!(copy(CopyLimits { max_entries: 2, ..limits }, "entries").is_err());
    assert!(copy(CopyLimits { max_depth: 1, ..limits }, "depth").is_err());
}
