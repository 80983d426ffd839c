//! How a pod's traffic comes to its sidecar.
//!
//! ```text
//!  init container, uid 0 with NET_ADMIN ──► [ rules ] ──► the pod's network namespace
//!  tulle-cni, where pods may not have it ──────┘                 │
//!  init container without any right ──► [ proof ] ◄──────────────┘
//! ```
//!
//! The same [`rules`] in both cases. Who writes them is chosen for the whole mesh. With [`cni`] it
//! is not the pod, so the pod convinces itself ([`proof`]) before its sidecar and its application
//! start: it never runs in plaintext because something was missing on its node.
//!
//! **Invariants.** Nothing here speaks to the API server. Only [`cni::node`] writes files of a node.

pub mod cni;
pub mod proof;
pub mod resolvers;
pub mod rules;
