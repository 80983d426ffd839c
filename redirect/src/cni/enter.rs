//! Into a pod's network namespace, for good: for processes that end after it.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{
    proof,
    rules::{self, Family, Options, RedirectError},
};

/// Why a pod's traffic is not redirected.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// Its namespace cannot be entered.
    #[error("cannot enter the pod's network namespace: {0}")]
    Enter(io::Error),
    /// The rules cannot be written.
    #[error(transparent)]
    Rules(#[from] RedirectError),
}

/// Redirects in `namespace` what `options` say.
pub(super) fn redirect(
    namespace: &File,
    tools: &Path,
    options: &Options,
) -> Result<(), EnterError> {
    enter(namespace.as_fd())?;
    Ok(rules::run_with(options, tools)?)
}

/// The same, unless it has been done already: whoever asks has no right to change what is there.
///
/// # Errors
/// [`EnterError`]
pub fn repair(
    namespace: BorrowedFd<'_>,
    tools: &Path,
    options: &Options,
) -> Result<(), EnterError> {
    enter(namespace)?;
    if proof::is_marked(Family::V4) {
        return Ok(());
    }
    Ok(rules::run_with(options, tools)?)
}

/// Whether the rules were written in `namespace`.
pub(super) fn is_redirected(namespace: &File) -> Result<bool, EnterError> {
    enter(namespace.as_fd())?;
    Ok(proof::is_marked(Family::V4))
}

fn enter(namespace: BorrowedFd<'_>) -> Result<(), EnterError> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
        .map_err(|error| EnterError::Enter(error.into()))
}
