//! What somebody may see.

use std::collections::BTreeSet;

/// Namespaces whose workloads somebody may see, and with them who calls these, and whom they call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of them, and what is of none.
    All,
    /// These.
    Namespaces(BTreeSet<String>),
}

impl Scope {
    /// Whether what is in this namespace may be seen.
    pub fn has(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Namespaces(namespaces) => namespaces.contains(namespace),
        }
    }
}
