//! A service of three pods that fail when they are told to, and count what reaches them: for retries, ejection and
//! limits.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};

use tulle_tests::{
    load,
    mesh::{Mesh, Pod},
    scene::{Failure, prove},
};

const YAML: &str = include_str!("stock/stock.yaml");
/// How long the pods may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// The service.
#[derive(Debug)]
pub(super) struct Stock<'a> {
    mesh: &'a Mesh,
    /// Two of v1, then one of v2.
    pods: Vec<Pod>,
}

/// What a pod has seen since it was told last.
#[derive(Debug, Deserialize)]
pub(super) struct Seen {
    /// When it was told, and when it says this, in seconds since 1970.
    pub(super) told: f64,
    pub(super) now: f64,
    pub(super) good: u64,
    pub(super) bad: u64,
    /// POSTs by path: how many paths, and how often the one came that came most often.
    pub(super) posts: u64,
    pub(super) most_times: u64,
    /// Requests with no long pause between them.
    pub(super) spells: Vec<Spell>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Spell {
    pub(super) first: f64,
    pub(super) last: f64,
}

impl<'a> Stock<'a> {
    /// Waits until it is ready; the first that needs it puts it there, and it stays.
    pub(super) async fn new(mesh: &'a Mesh) -> Result<Self, Failure> {
        mesh.save("stock.yaml", YAML)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let all = mesh.status().await?.pods;
            let there = |pod: &Pod| pod.ready && pod.namespace == "bookstore";
            let clerk = all.iter().any(|pod| pod.name == "clerk" && there(pod));
            let mut pods: Vec<_> = all
                .into_iter()
                .filter(|pod| pod.name.starts_with("stock-") && there(pod))
                .collect();
            if clerk && pods.len() == 3 {
                pods.sort_by(|a, b| a.name.cmp(&b.name));
                return Ok(Self { mesh, pods });
            }
            prove(Instant::now() < deadline, || format!("not ready after {PATIENCE:?}: {pods:?}"))?;
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Tells v1's pods and v2's how many of 100 requests to fail from now on. What v2's has seen until then.
    pub(super) async fn fail(&self, v1: u32, v2: u32) -> Result<Seen, Failure> {
        for pod in &self.pods[..2] {
            self.ask(pod, &format!("?fail={v1}")).await?;
        }
        self.ask(&self.pods[2], &format!("?fail={v2}")).await
    }

    /// What all pods have seen since then.
    pub(super) async fn seen(&self) -> Result<Vec<Seen>, Failure> {
        let mut seen = Vec::new();
        for pod in &self.pods {
            seen.push(self.ask(pod, "").await?);
        }
        Ok(seen)
    }

    /// What the pod of v2 has seen.
    pub(super) async fn seen_by_v2(&self) -> Result<Seen, Failure> {
        self.ask(&self.pods[2], "").await
    }

    async fn ask(&self, pod: &Pod, what: &str) -> Result<Seen, Failure> {
        let url = format!("http://127.0.0.1:8081/{what}");
        let text = self.mesh.exec(pod, "stock", &["curl", "-sS", "-m", "5", &url]).await?;
        load::json(&text)
    }
}
