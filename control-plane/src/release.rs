//! Releases: a new version gets more and more of the requests, while it does no worse than the one that it replaces.
//!
//! ```text
//! what sidecars saw, a second at a time ──► [ findings ] ──► green, amber, red
//!                                                │  [ evidence ], by which nobody is accused by chance
//!                                                ▼
//!        [ plan ], what the object says ──► [ course ] ──► what share the canary gets
//!        [ command ], what people want ────────^
//! ```
//!
//! What others say who are asked, a Prometheus and webhooks, comes in by [`Asker`]: all the rest is pure.

mod ask;
mod asked;
mod cause;
mod command;
mod course;
mod evidence;
mod findings;
mod plan;
mod share;
mod simulate;

pub use self::{
    ask::{AllowedHost, Asker, NoHost},
    asked::{Answer, Asked},
    cause::Cause,
    command::{Refusal, Verb},
    course::{Course, Entry, Pods, Tick},
    evidence::{Arm, Evidence, Pair, Test},
    findings::{Counts, Findings, Gate, Light, Seen, Verdict},
    plan::{Errors, Gates, Latency, LowTraffic, NoData, Plan, Query, Step, Webhook},
    share::Share,
    simulate::{Answers, Disturbance, Outcome, Traffic, simulate},
};
