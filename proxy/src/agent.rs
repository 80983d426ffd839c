//! `tulle-proxy agent`: this pod's identity, for data planes that cannot enrol themselves.
//!
//! ```text
//!  control plane ══► enrolment ──► secrets ─┬─► SDS on a Unix socket ══► Envoy
//!        ▲                                  └─► files in memory ───────► gRPC (file_watcher)
//!        ╚════════ mTLS ════ [ relay ] ◄──── plain ADS on loopback ──── gRPC
//! ```
//!
//! The enrolment is the sidecar's own. Envoy takes secrets by SDS and opens its xDS connection with
//! them. gRPC reads files, and its Node implementation knows no way to present a certificate to its
//! xDS server: the [`relay`] carries that connection, for all of gRPC's implementations alike.
//!
//! **Invariants.** The files of gRPC are the one exception to "keys are never written": only to a
//! file system in memory, readable by owner and group. Secrets leave on a Unix socket for the same user
//! alone. The relay listens on loopback: whoever is in the pod may learn what the pod may learn.

mod bootstrap;
mod draining;
mod files;
mod options;
mod relay;
mod secrets;
mod serve;
mod socket;

pub use files::BadFolder;
pub use options::Options;
pub use serve::{AgentError, run};
