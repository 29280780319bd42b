//! Tests of `documents.rs`.

use std::fs;

use super::*;

#[test]
fn a_change_is_seen_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.yaml");
    let root = Root::open(directory.path()).unwrap();
    let read = || {
        read_yaml::<Vec<u32>>(&root, directory.path(), Path::new("x.yaml")).map(|document| document.to_vec())
    };
    assert_eq!(read().unwrap_err().kind(), io::ErrorKind::NotFound);
    for round in 0..200u32 {
        fs::write(&path, format!("[{}]", 100 + round)).unwrap();
        if round == 100 {
            // Old enough to be cached.
            let old = SystemTime::now() - Duration::from_secs(60);
            fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        }
        assert_eq!(read().unwrap(), [100 + round]);
        assert_eq!(read().unwrap(), [100 + round]);
    }
    for (text, why) in [("{", ""), ("", "empty"), (" \n", "empty"), ("a: b", "")] {
        fs::write(&path, text).unwrap();
        let error = read().unwrap_err();
        assert!(error.kind() == io::ErrorKind::InvalidData && error.to_string().contains(why), "{error}");
    }
    fs::write(&path, "x".repeat(300 * 1024)).unwrap();
    assert!(read().unwrap_err().to_string().contains("larger"));
}
