//! A value that must not be seen: it is printed as `***` and never by accident.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What stands in the place of a secret.
pub const MASK: &str = "***";

/// A credential. `Debug` and `Display` hide it. It serialises as itself, because configuration is loaded, and handed
/// to the bundled engine, by way of serde; what is serialised is never logged.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The credential itself. Every place that calls this is a place where it can leak.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}
