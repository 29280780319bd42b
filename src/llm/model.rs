//! The one trait behind which every model is.

use std::fmt::Debug;

use futures_util::stream::BoxStream;

use super::{Failure, Piece, Request};

/// An answer as it comes. It ends with one [`Piece::End`] or with one failure; dropping it ends the request, and the
/// server sees that.
pub type Pieces = BoxStream<'static, Result<Piece, Failure>>;

/// Which model it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The provider's name.
    pub provider: String,
    /// The model's name.
    pub model: String,
}

/// A language model that can call tools.
pub trait Model: Send + Sync + Debug {
    /// Which one.
    fn identity(&self) -> &Identity;

    /// Asks it. Nothing is sent before the first piece is waited for.
    fn ask(&self, request: Request) -> Pieces;
}
