//! The query of a request: pairs, percent-decoded; a member that means one value is given once.

use crate::{
    error::{Error, Result},
    text::quoted,
};

/// The pairs of a query, in order.
pub(super) struct Pairs(Vec<(String, String)>);

impl Pairs {
    pub(super) fn of(query: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// Every value of a member that means a list.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The value of a member that means one; empty where it is not given.
    ///
    /// # Errors
    /// [`crate::error::Reason::InvalidArgument`] where it is given twice.
    pub(super) fn one<'a>(&'a self, name: &'a str) -> Result<&'a str> {
        let mut given = self.all(name);
        match (given.next(), given.next()) {
            (Some(_), Some(_)) => Err(Error::invalid(name, "is given more than once")),
            (value, _) => Ok(value.unwrap_or_default()),
        }
    }

    /// A number; 0 where it is not given.
    ///
    /// # Errors
    /// As above, and where it is none.
    pub(super) fn number(&self, name: &str) -> Result<u32> {
        match self.one(name)? {
            "" => Ok(0),
            text => {
                text.parse().map_err(|_| Error::invalid(name, format!("`{}` is no number", quoted(text))))
            }
        }
    }
}
