//! Ready when nothing is left to wait for.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

/// What the process waits for before it may get traffic. Clones share one list.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    pending: Arc<Mutex<BTreeMap<u64, String>>>,
    next: Arc<AtomicU64>,
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
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let what = what.into();
        self.pending.lock().insert(id, what.clone());
        Blocker { readiness: self.clone(), id, what }
    }

    /// What is waited for, oldest first.
    pub fn pending(&self) -> Vec<String> {
        self.pending.lock().values().cloned().collect()
    }

    /// Whether nothing is waited for.
    pub fn is_ready(&self) -> bool {
        self.pending.lock().is_empty()
    }
}

impl Blocker {
    /// Says why it still takes: `certificate` becomes `certificate (reason)`.
    pub fn because(&self, reason: impl std::fmt::Display) {
        let text = format!("{} ({reason})", self.what);
        self.readiness.pending.lock().insert(self.id, text);
    }
}

impl Drop for Blocker {
    fn drop(&mut self) {
        self.readiness.pending.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_the_last_blocker_is_gone() {
        let ready = Readiness::new();
        assert!(ready.is_ready());
        let certificate = ready.block("certificate");
        let workload = ready.block("workload");
        certificate.because("connection refused");
        assert_eq!(ready.pending(), ["certificate (connection refused)", "workload"]);
        drop(workload);
        assert!(!ready.is_ready());
        drop(certificate);
        assert!(ready.is_ready());
    }
}
