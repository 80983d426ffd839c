//! The control plane: Kubernetes YAML in; configuration and certificates out.
//!
//! ```text
//! files ──► convert ──► [ World ] ──► compile ──► cache ──► delta ADS ──► proxies
//!    '────── publish, the single writer ───────────'          ca ──────────^
//! ```
//!
//! `files` reads, `convert` understands, `world` knows, `compile` says it in the language of the
//! proxies; `publish` is the one task that moves a change through all of them. `ca` issues the
//! certificates by which proxies prove who they are, `inject` adds the sidecar to pods, `telemetry`
//! remembers what proxies say of their traffic, `steer` lets new versions have as much of it as they do
//! well with, `console` shows it to people.

pub mod admin;
pub mod authorize;
pub mod ca;
pub mod compile;
pub mod config;
pub mod console;
pub mod convert;
pub mod files;
pub mod inject;
pub mod k8s;
pub mod metrics;
pub mod output;
pub mod parallel;
pub mod problem;
pub mod publish;
pub mod release;
pub mod replicas;
pub mod roster;
pub mod run;
pub mod server;
pub mod source;
pub mod status;
pub mod steer;
pub mod telemetry;
pub mod world;
