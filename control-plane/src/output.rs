//! What the control plane writes back: roots for the pods, and what is wrong with the policy, and
//! whether it is in force.
//!
//! Behind one trait, so that a directory and Kubernetes can take each other's place.

mod directory;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;
use tokio::sync::watch;

pub use self::directory::Directory;
pub(crate) use self::directory::replace;
use crate::{ca::root::Root, problem::Problem, status::Standing, world::objects::ObjectRef};

/// What there is to write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Whether the source has been read: before that the rest means nothing.
    pub complete: bool,
    /// Namespaces whose pods need the roots.
    pub namespaces: BTreeSet<String>,
    /// Everything that is wrong, by file and line.
    pub problems: Vec<Problem>,
    /// What the world makes of each object that has a status.
    pub standings: BTreeMap<ObjectRef, Arc<Standing>>,
    /// Sidecars that should be connected to some replica.
    pub sidecars: usize,
    /// The statuses, which follow from that and from what proxies say.
    pub statuses: Vec<Arc<Value>>,
}

/// Where it goes.
pub trait Output: Send + 'static {
    /// Makes what is written agree with `report`; writes only what differs. May block.
    ///
    /// # Errors
    /// What could not be written; it is tried again with the next report.
    fn write(&mut self, report: &Report) -> std::io::Result<()>;
}

/// Writes every report, or the latest of several, until the sender is gone; also when the root has
/// changed.
pub async fn run(
    mut reports: watch::Receiver<Report>,
    mut root: watch::Receiver<Arc<Root>>,
    mut output: impl Output,
) {
    while reports.wait_for(|report| report.complete).await.is_ok() {
        let report = reports.borrow_and_update().clone();
        let written = tokio::task::spawn_blocking(move || {
            let result = output.write(&report);
            (output, result)
        });
        let Ok((returned, result)) = written.await else {
            return;
        };
        output = returned;
        if let Err(error) = result {
            tracing::error!(%error, "status and roots could not be written");
        }
        let go_on = tokio::select! {
            changed = reports.changed() => changed.is_ok(),
            changed = root.changed() => changed.is_ok(),
        };
        if !go_on {
            return;
        }
    }
}
