//! The data path: a transparent sidecar.
//!
//! ```text
//!                       told                          measured
//!  control plane ══► [ mesh ] ──► outbound, inbound ──► [ upstream ] ══► endpoints
//!        ║               resolve      │      │   in flight      ▲
//!        ╚═════════► [ tls ]          ▼      ▼                  │
//!        certificates  └──────────► net, request, stream ───────┘ ──► [ telemetry ]
//! ```
//!
//! Three kinds of state never mix: what was *told* ([`mesh`]), what is *measured* ([`upstream`]) and
//! what is *in flight* ([`request`], [`stream`]). The life of a request starts in [`outbound`] or
//! [`inbound`]; the life of a configuration change in [`mesh`]; the process in [`run`]. Questions for
//! names are answered in [`dns`].
//!
//! **Invariants.** Only [`config`] reads the environment. Only [`tls`] names rustls. Only
//! `mesh/sync.rs` publishes a [`mesh::Mesh`]. Keys exist in memory only (for gRPC, [`agent`] writes
//! them to a file system that is memory). Unknown addresses inside of
//! the mesh fail closed.

pub mod admin;
pub mod agent;
pub mod authz;
pub mod config;
pub mod context;
pub mod dns;
pub mod error;
pub mod inbound;
pub mod mesh;
pub mod net;
pub mod outbound;
pub mod probe;
pub mod request;
pub mod run;
pub mod stream;
pub mod telemetry;
pub mod tls;
pub mod upstream;

#[cfg(test)]
mod tests;
