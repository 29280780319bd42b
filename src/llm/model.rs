//! The trait that every model implements.

use std::fmt::Debug;

use futures_util::stream::BoxStream;

use super::{ModelFailure, ModelRequest, Piece};

/// An answer as it arrives. It ends with one [`Piece::End`] or with one failure; dropping it cancels the request,
/// which the server notices.
pub(crate) type Pieces = BoxStream<'static, Result<Piece, ModelFailure>>;

/// Identifies a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelIdentity {
    /// The provider's name.
    pub provider: &'static str,
    /// The model's name.
    pub model: String,
}

/// A language model that can call tools.
pub trait Model: Send + Sync + Debug {
    /// Returns which model this is.
    fn identity(&self) -> &ModelIdentity;

    /// Starts a request. Nothing is sent before the first piece is polled for.
    fn ask(&self, request: ModelRequest) -> Pieces;
}
