//! Who looks.

use serde_json::{Value, json};

use crate::telemetry::Scope;

/// Somebody who looks, and what he may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewer {
    /// By which name the cluster knows him; on the admin socket nobody asks.
    pub user: Option<String>,
    /// What he may see.
    pub scope: Scope,
}

impl Viewer {
    /// Whoever can open the admin socket.
    pub fn local() -> Self {
        Self { user: None, scope: Scope::All }
    }

    /// What a page must know of its reader. Without `namespaces` he may see all.
    pub(super) fn me(&self) -> Value {
        let namespaces = match &self.scope {
            Scope::All => None,
            Scope::Namespaces(namespaces) => Some(namespaces),
        };
        json!({"user": self.user, "namespaces": namespaces, "version": env!("CARGO_PKG_VERSION")})
    }
}
