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
//! for a single answer, and never from all there is: [`tally`] is kept up with what changed.

mod contributions;
mod follow;
mod json;
mod tally;

use std::collections::BTreeMap;

use serde::Serialize;
use tulle_xds::{protocol::Version, session::NameStatus};

pub use self::{
    contributions::Contributions,
    follow::{Sources, follow},
    json::problem,
};
use crate::world::{Bypassed, objects::Name};

/// Who we are in a status.
pub const CONTROLLER: &str = "tulle.dev/mesh";

/// A rejection is told for this many proxies; the others say the same.
const MAX_REJECTIONS: usize = 16;

/// So many of the proxies that have not answered are named.
const MAX_LAGGARDS: usize = 5;

/// What the world makes of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// What it is attached to: a route's parents, a policy's targets.
    pub parents: Vec<Parent>,
    /// Conditions that only objects of its kind have, by type; and `Accepted` where it is about the whole object and does not
    /// hold.
    pub own: Vec<(&'static str, Verdict)>,
    /// What gRPC without a proxy does not do of it, by field.
    pub beyond_grpc: Vec<String>,
    /// The pods that it is about and that have no sidecar, which nobody keeps to it.
    pub without_sidecar: Vec<Name>,
    /// Those that it is about and that have ports past their sidecar, with these ports: there nobody keeps them to it either.
    pub bypassed: Bypassed,
    /// Why the document that says what it is now does not apply. What it said before does.
    pub invalid: Option<String>,
    /// Of what the object says now, if the source counts.
    pub edition: Option<Edition>,
}

/// Which object of a name it is, and what of all that it has said: one that is deleted and made anew counts from 1 again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edition {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`; 0: the source counts none.
    pub generation: i64,
    /// How often what the control plane makes of it by itself has changed: where a Release is.
    pub turn: u64,
}

impl Edition {
    fn counts(&self) -> (i64, u64) {
        (self.generation, self.turn)
    }
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
    /// The first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub laggards: Vec<String>,
    /// How many of them are gRPC without a proxy.
    #[serde(skip)]
    pub grpc: usize,
    /// Other replicas of the control plane that have not said what their proxies make of what the object is now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unheard: Vec<String>,
    /// By field, how many are of a version that does not understand it, and got all but that.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub too_old: BTreeMap<String, usize>,
}

/// The force of an object, and of which of its editions that is said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// On how many proxies.
    pub force: Force,
    /// Editions of sources that count none are all the same.
    pub edition: Option<Edition>,
}

impl Told {
    /// Whether this is said of what the object is in `edition`, or of what it became after that.
    pub fn knows(&self, edition: Option<&Edition>) -> bool {
        edition.is_none_or(|edition| {
            self.edition
                .as_ref()
                .is_some_and(|own| own.uid == edition.uid && own.counts() >= edition.counts())
        })
    }

    /// Adds what is said of other proxies. If that is of an earlier edition, none of them has what the object is now.
    pub fn add(&mut self, other: &Self) {
        let behind = !other.knows(self.edition.as_ref());
        let (force, more) = (&mut self.force, &other.force);
        force.of += more.of;
        force.grpc += more.grpc;
        if behind {
            force.waiting += more.on + more.waiting;
        } else {
            force.on += more.on;
            force.waiting += more.waiting;
        }
        force.rejections.extend(more.rejections.iter().cloned());
        force.rejections.truncate(MAX_REJECTIONS);
        force.laggards.extend(more.laggards.iter().cloned());
        force.laggards.truncate(MAX_LAGGARDS);
        for (field, proxies) in &more.too_old {
            *force.too_old.entry(field.clone()).or_default() += proxies;
        }
    }
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
