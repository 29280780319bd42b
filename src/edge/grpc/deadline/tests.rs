//! Tests of `deadline.rs`.

use super::*;

#[test]
fn timeouts_are_read_as_the_protocol_writes_them() {
    assert_eq!(read("1S"), Some(Duration::from_secs(1)));
    assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
    assert_eq!((read("250m"), read("0n")), (Some(Duration::from_millis(250)), Some(Duration::ZERO)));
    for bad in ["", "S", "1", "1s", "-1S", "123456789S", "1.5S", "é"] {
        assert_eq!(read(bad), None, "{bad}");
    }
}
