//! What `tulle release get` says.

use serde::Deserialize;
use tulle_api::ReleasePhase;

use super::Mesh;
use crate::{load::json, scene::Failure};

/// A release, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    pub phase: ReleasePhase,
    pub reason: String,
    pub stable: String,
    pub canary: String,
    /// From 1 on; 0: before the first.
    pub step: usize,
    pub in_force: bool,
    /// To the new version, in this step.
    pub requests: u64,
}

impl Mesh {
    /// What is said of the release NAMESPACE/NAME. Right after it was saved nobody knows it, nor right after the control plane's
    /// start.
    pub async fn release(&self, name: &str) -> Result<Release, Failure> {
        json(&self.ask(&["release", "get", name, "-o", "json"]).await?)
    }
}
