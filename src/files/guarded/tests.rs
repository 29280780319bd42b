//! Tests of the module above.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use super::*;

#[test]
fn only_what_is_a_file_below_is_read_and_nothing_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().join("base");
    fs::create_dir_all(base.join("inside")).unwrap();
    fs::write(directory.path().join("secret"), "canary").unwrap();
    fs::write(base.join("inside/file"), "words").unwrap();
    symlink("../secret", base.join("link")).unwrap();
    symlink("..", base.join("out")).unwrap();
    symlink("/dev/zero", base.join("zero")).unwrap();
    symlink("inside", base.join("linked")).unwrap();
    let pipe = base.join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
    fs::write(base.join("large"), vec![b'x'; 1001]).unwrap();
    let root = Root::open(&base).unwrap();
    let read = |path: &str| root.read(Path::new(path), 1000).map_err(|error| error.to_string());
    assert_eq!(read("inside/file").unwrap(), b"words");
    assert_eq!(read("./inside/./file").unwrap(), b"words");
    for (path, why) in [
        ("link", "link"),
        ("out/secret", "link"),
        ("zero", "link"),
        ("linked/file", "link"),
        ("pipe", "no regular file"),
        ("inside", "no regular file"),
        ("large", "larger than 1000"),
        ("../secret", "leads out"),
        ("/etc/passwd", "leads out"),
        ("inside/../../secret", "leads out"),
    ] {
        let error = read(path).unwrap_err();
        assert!(error.contains(why), "{path}: {error}");
    }
    assert!(root.append(Path::new("link")).is_err() && root.append(Path::new("pipe")).is_err());
    assert!(root.directory(Path::new("linked")).is_err());
    assert!(root.create_directory(Path::new("out/new")).is_err());
    assert_eq!(root.kind(Path::new("link")).unwrap(), Some(EntryKind::Other));
    assert_eq!(root.kind(Path::new("none")).unwrap(), None);
    assert!(root.entries(3).is_err());
    assert_eq!(root.entries(100).unwrap().len(), 7);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    root.create_directory(Path::new("a/b")).unwrap().create_file(Path::new("f")).unwrap();
    assert_eq!((mode(&base.join("a")), mode(&base.join("a/b/f"))), (0o700, 0o600));
}
