//! The query string of a request: percent-decoded pairs; single-valued parameters must not be repeated.

use crate::{
    error::{Error, Result},
    text::quoted,
};

/// The pairs of a query string, in order.
pub(super) struct Pairs(Vec<(String, String)>);

impl Pairs {
    pub(super) fn of(query: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// Returns every value of a parameter that may be repeated.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// Returns the value of a single-valued parameter; empty if it is absent.
    ///
    /// # Errors
    /// [`crate::error::Reason::InvalidArgument`] if it is repeated.
    pub(super) fn one<'a>(&'a self, name: &'a str) -> Result<&'a str> {
        let mut given = self.all(name);
        match (given.next(), given.next()) {
            (Some(_), Some(_)) => Err(Error::invalid(name, "is given more than once")),
            (value, _) => Ok(value.unwrap_or_default()),
        }
    }

    /// Returns a numeric parameter; 0 if it is absent or empty.
    ///
    /// # Errors
    /// [`crate::error::Reason::InvalidArgument`] if it is repeated or not a number.
    pub(super) fn number(&self, name: &str) -> Result<u32> {
        match self.one(name)? {
            "" => Ok(0),
            text => {
                text.parse().map_err(|_| Error::invalid(name, format!("`{}` is no number", quoted(text))))
            }
        }
    }
}
