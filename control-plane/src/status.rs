//! Whether objects are accepted, and on how many proxies they are in force.
//!
//! ```text
//! publish ──► Standing (what the world makes of an object) ─────┐
//!         └─► Contributions (which resources come from it) ─┐   ├─► follow ──► Report ──► output
//! streams ──► what each proxy was sent, and answered ───────┴───┘
//! ```
//!
//! *In force N of M*: M are the proxies that hold a resource to which the object contributed, N those
//! that have taken the latest version of each of them. It is worked out when a change has come
//! through, or has not after [`follow::STALLED`], and now and then while proxies come and go; never
//! for a single answer.

mod contributions;
mod follow;
mod json;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tulle_xds::{
    cache::{Dialect, Key},
    protocol::Version,
    server::SessionStatus,
    session::NameStatus,
};

pub use self::{
    contributions::Contributions,
    follow::{Sources, follow},
};
use crate::world::objects::{Name, ObjectRef};

/// A rejection is told for this many proxies; the others say the same.
const MAX_REJECTIONS: usize = 16;

/// What the world makes of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// What it is attached to: a route's parents, a policy's targets.
    pub parents: Vec<Parent>,
    /// What gRPC without a proxy does not do of it, by field.
    pub beyond_grpc: Vec<String>,
    /// Why the document that says what it is now does not apply. What it said before does.
    pub invalid: Option<String>,
}

/// What an object is attached to, and whether it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the field of Gateway API's ParentReference")]
pub struct Parent {
    pub group: &'static str,
    pub kind: &'static str,
    pub name: Name,
    pub port: Option<u16>,
    pub section: Option<String>,
    /// The condition `Accepted`.
    pub accepted: Verdict,
    /// The condition `ResolvedRefs`; only routes have it.
    pub resolved: Option<Verdict>,
}

/// A condition, as Gateway API has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is true.
    pub holds: bool,
    /// A word.
    pub reason: &'static str,
    /// For people; may be empty.
    pub message: String,
}

/// On how many proxies an object is in force.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Force {
    /// Those that have taken the latest of all that comes from it.
    pub on: usize,
    /// Those that hold something that comes from it.
    pub of: usize,
    /// Why some have not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rejections: Vec<Rejection>,
    /// Those that have not answered yet.
    #[serde(skip)]
    pub waiting: usize,
    /// How many of them are gRPC without a proxy.
    #[serde(skip)]
    pub grpc: usize,
}

/// A resource that a proxy did not take.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Rejection {
    /// `NAMESPACE/POD`.
    pub proxy: String,
    /// Name of the resource.
    pub resource: String,
    /// As the proxy said it.
    pub reason: String,
}

/// How a proxy stands with everything that it holds of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Taken {
    All,
    Waiting,
    Rejected,
}

/// Who holds what comes from which object. `latest` is the version that is published for callers in a
/// namespace.
fn forces(
    contributions: &Contributions,
    sessions: &[SessionStatus],
    latest: impl Fn(&Key, &str) -> Option<Version>,
) -> BTreeMap<ObjectRef, Force> {
    // A pod that has just connected anew may have two streams: the worse one counts.
    let mut taken: BTreeMap<(ObjectRef, &str), Taken> = BTreeMap::new();
    let mut grpc: BTreeSet<&str> = BTreeSet::new();
    let mut forces: BTreeMap<ObjectRef, Force> = BTreeMap::new();
    for session in sessions {
        let (pod, namespace) = (&*session.caller.pod, &*session.caller.namespace);
        if session.dialect == Dialect::Grpc {
            grpc.insert(pod);
        }
        for (kind, name) in
            session.kinds.iter().flat_map(|kind| kind.names.iter().map(|name| (kind.kind, name)))
        {
            let key = Key { kind, name: name.name.as_str().into(), dialect: session.dialect };
            let Some(contributors) = contributions.of(&key, namespace) else {
                continue;
            };
            let latest = latest(&key, namespace);
            let how = how(name, latest.as_ref());
            for object in &contributors.all {
                let worst = taken.entry((object.clone(), pod)).or_insert(how);
                *worst = how.max(*worst);
            }
            let Some(reason) = name.rejected.as_ref().filter(|_| how == Taken::Rejected) else {
                continue;
            };
            for object in contributions::blamed(&contributors, reason) {
                let rejections = &mut forces.entry(object.clone()).or_default().rejections;
                if rejections.len() < MAX_REJECTIONS {
                    let (proxy, resource) = (pod.to_owned(), name.name.clone());
                    rejections.push(Rejection { proxy, resource, reason: reason.clone() });
                }
            }
        }
    }
    for ((object, pod), taken) in taken {
        let force = forces.entry(object).or_default();
        force.of += 1;
        force.on += usize::from(taken == Taken::All);
        force.waiting += usize::from(taken == Taken::Waiting);
        force.grpc += usize::from(grpc.contains(pod));
    }
    forces
}

fn how(name: &NameStatus, latest: Option<&Version>) -> Taken {
    if name.sent.as_ref() != latest {
        Taken::Waiting
    } else if name.rejected.is_some() {
        Taken::Rejected
    } else if name.accepted.as_ref() == latest {
        Taken::All
    } else {
        Taken::Waiting
    }
}

#[cfg(test)]
mod tests;
