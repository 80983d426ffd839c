//! `tulle-cni`: redirects the traffic of pods that may not do so themselves (Pod Security levels
//! `baseline` and `restricted`).
//!
//! ```text
//!  runtime ── ADD: netns, annotations ──► [ plugin ] ──► rules, or the pod does not start
//!                                             ▲
//!  agent ── [ node ]: program, tools, a line ─┘ in the network's configuration, repaired when lost
//!    └───── [ waiting ]: pods that started before ──► rules
//! ```
//!
//! **Why the plugin asks nobody.** The runtime hands it the pod's annotations (the capability
//! `io.kubernetes.cri.pod-annotations`, which containerd has), and injection has written there what is
//! to be redirected. So whether a pod starts depends on neither agent nor API server: a pod without
//! the annotation is not touched, whatever is broken, and one with it is redirected or does not
//! start. Where a runtime passes no annotations, the plugin does nothing and the agent repairs.
//!
//! **Why the agent asks nobody.** A pod whose traffic is not redirected has an init container that
//! waits for it ([`crate::proof`]); its arguments say what to redirect, and its process leads to
//! the network namespace. So the agent needs no ServiceAccount token, no socket of the runtime's and
//! no file of the pod's, and repairs while the API server is away. What a process says about itself
//! is not trusted with more than this: rules are written only where there are none, never in the
//! node's own namespace, so nobody can change those of another pod or of a pod that runs.

pub mod agent;
pub mod call;
pub mod conflist;
mod enter;
pub mod node;
pub mod plugin;
pub mod waiting;

pub use enter::{EnterError, repair};

/// Name of the program, and of the plugin's type.
pub const NAME: &str = "tulle-cni";
/// The folder beside the program with nft, iptables, ip and what they need.
pub const TOOLS: &str = "tulle-cni.tools";
/// The annotation in which injection says what is to be redirected: options of [`crate::rules`].
pub const ANNOTATION: &str = "tulle.dev/redirect";
