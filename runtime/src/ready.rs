//! Ready when nothing is left to wait for.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

/// What the process waits for before it may get traffic. Clones share one list.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    pending: watch::Sender<BTreeMap<u64, Pending>>,
    next: Arc<AtomicU64>,
}

/// Something that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pending {
    what: String,
    /// Whether the process has not started before that.
    starts: bool,
}

/// One thing that is waited for; dropping it ends the wait.
#[derive(Debug)]
pub struct Blocker {
    readiness: Readiness,
    id: u64,
    what: String,
}

impl Readiness {
    /// With nothing to wait for: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Not ready from now until the blocker is dropped.
    #[must_use = "dropping the blocker ends the wait"]
    pub fn block(&self, what: impl Into<String>) -> Blocker {
        self.add(what.into(), true)
    }

    /// The same of a process that works, and is to get no traffic all the same.
    #[must_use = "dropping the blocker ends the wait"]
    pub fn hold(&self, what: impl Into<String>) -> Blocker {
        self.add(what.into(), false)
    }

    fn add(&self, what: String, starts: bool) -> Blocker {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let it = Pending { what: what.clone(), starts };
        self.pending.send_modify(|pending| drop(pending.insert(id, it)));
        Blocker { readiness: self.clone(), id, what }
    }

    /// What is waited for, oldest first.
    pub fn pending(&self) -> Vec<String> {
        self.pending.borrow().values().map(|it| it.what.clone()).collect()
    }

    /// What is waited for until the process works, oldest first.
    pub fn starting(&self) -> Vec<String> {
        let pending = self.pending.borrow();
        pending.values().filter(|it| it.starts).map(|it| it.what.clone()).collect()
    }

    /// Whether nothing is waited for.
    pub fn is_ready(&self) -> bool {
        self.pending.borrow().is_empty()
    }

    /// Resolves as soon as nothing is waited for. Cancel safe.
    pub async fn ready(&self) {
        let mut pending = self.pending.subscribe();
        // This holds a sender: it cannot be gone.
        let _gone = pending.wait_for(BTreeMap::is_empty).await.is_err();
    }
}

impl Blocker {
    /// Says why it still takes: `certificate` becomes `certificate (reason)`.
    pub fn because(&self, reason: impl std::fmt::Display) {
        let text = format!("{} ({reason})", self.what);
        self.readiness.pending.send_modify(|pending| {
            if let Some(it) = pending.get_mut(&self.id) {
                it.what = text;
            }
        });
    }
}

impl Drop for Blocker {
    fn drop(&mut self) {
        self.readiness.pending.send_modify(|pending| drop(pending.remove(&self.id)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_when_the_last_blocker_is_gone() {
        let ready = Readiness::new();
        ready.ready().await;
        assert!(ready.is_ready());
        let certificate = ready.block("certificate");
        let workload = ready.block("workload");
        certificate.because("connection refused");
        assert_eq!(ready.pending(), ["certificate (connection refused)", "workload"]);
        drop(workload);
        assert!(!ready.is_ready());
        let waiting = ready.clone();
        let waited = tokio::spawn(async move { waiting.ready().await });
        tokio::task::yield_now().await;
        assert!(!waited.is_finished());
        drop(certificate);
        assert!(ready.is_ready());
        waited.await.unwrap();
        let held = ready.hold("hold");
        held.because("not its turn");
        assert_eq!(ready.pending(), ["hold (not its turn)"]);
        assert_eq!(ready.starting(), [""; 0], "it works");
    }
}
