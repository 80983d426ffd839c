//! Where it is written down where releases are.

use std::sync::Arc;

use tulle_api::ReleaseStatus;

use crate::{release::Course, world::objects::Name};

/// What is written down of a release.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The object's: of another one of that name nothing is written.
    pub uid: String,
    /// What it is written over: how often that had been written.
    pub over: u64,
    /// Where it is.
    pub course: Arc<Course>,
    /// The same for people, and in [`ReleaseStatus::memory`] whole.
    pub status: ReleaseStatus,
}

/// Why it was not written. What was there before is there still.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// Somebody else has written since; the world will tell.
    #[error("the object has changed meanwhile")]
    Changed,
    /// Something else.
    #[error("{0}")]
    Failed(String),
}

/// Where it is written down.
#[tonic::async_trait]
pub trait Keep: Send + Sync {
    /// Writes it, unless somebody else has since. What was written comes back from the world.
    ///
    /// # Errors
    /// Why not.
    async fn keep(&self, release: &Name, kept: &Kept) -> Result<(), NotKept>;
}
