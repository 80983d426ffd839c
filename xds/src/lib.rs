//! The language between control plane and proxies.
//!
//! ```text
//!  publisher ─► cache ─► session ─► server  ══ delta ADS ══  client ─► subscription ─► consumer
//!    ▲            │      (sans-IO)  (tonic)                  (tonic)   (sans-IO)
//!    └─ Interest ─┘                     the bytes in between: model
//! ```
//!
//! [`model`] is what is said: one plain type per resource and its Envoy encoding, the same on both
//! ends. [`session`] and [`subscription`] are how it is said: the two ends of the delta variant of
//! xDS, as plain state machines that are driven by [`server`] and [`client`] and, in tests, by one
//! another. [`cache`] is what the control plane publishes. [`grpc`] are words that both use.
//!
//! **Invariants.** Envoy's message types appear in `model`, `client`, `server` and `sds` only. `session`
//! and `subscription` know neither tokio nor tonic. No queue is unbounded: what a peer has not been
//! told yet is a set of names, so a slow peer gets the latest state and never a backlog.

pub mod cache;
pub mod client;
pub mod grpc;
pub mod model;
pub mod protocol;
pub mod sds;
pub mod server;
pub mod session;
pub mod subscription;
pub mod text;
