//! Who calls whom, as the store tells edges apart.

use serde::Serialize;
use tulle_proto::telemetry::v1 as proto;
use tulle_xds::text::bounded;

/// Characters of a name of Kubernetes, of a host's, and of a rule's.
const LONGEST: usize = 320;

/// A workload of the mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// `Deployment`, `StatefulSet`, …
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// What one workload's proxies see of one other. Rules are told apart below it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Edge {
    /// Whose proxies see it.
    pub workload: Workload,
    /// Which way requests go.
    pub direction: Direction,
    /// The workload on the other side; without namespace a class: `internet`, `unknown`, …
    pub peer: Peer,
    /// The Service that was called; `other` with port 0 if it is none, empty if nothing is known.
    pub server: (String, u16),
    /// How bytes travel.
    pub security: Security,
}

/// The other side.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Peer {
    /// Empty for a class.
    pub namespace: String,
    /// Of the workload, or the class.
    pub name: String,
}

/// Which way requests go, as seen by the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// To it.
    Inbound,
    /// From it.
    Outbound,
}

/// How an edge's bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Security {
    /// Nobody was reached, or it is outside of the mesh.
    Unknown,
    /// Both ends have proven who they are.
    Mtls,
    /// In plaintext.
    Plaintext,
}

/// All that came to a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Sum<'a> {
    /// As its own proxies saw it.
    Own(&'a Workload),
    /// As those of its callers did.
    Callers(&'a Peer),
}

/// An edge that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an edge has no direction")]
pub struct NoEdge;

/// What a proxy calls something: it may end on a terminal.
pub(super) fn text(text: &str) -> String {
    bounded(text, LONGEST).chars().filter(char::is_ascii_graphic).collect()
}

impl Edge {
    /// The edge that a proxy of `workload` tells of, and the rule that matched.
    ///
    /// # Errors
    /// [`NoEdge`].
    pub fn read(workload: &Workload, edge: &proto::Edge) -> Result<(Self, String), NoEdge> {
        let direction = match edge.direction() {
            proto::Direction::Inbound => Direction::Inbound,
            proto::Direction::Outbound => Direction::Outbound,
            proto::Direction::Unspecified => return Err(NoEdge),
        };
        let security = match edge.security() {
            proto::Security::Mtls => Security::Mtls,
            proto::Security::Plaintext => Security::Plaintext,
            proto::Security::Unspecified => Security::Unknown,
        };
        let read = Self {
            workload: workload.clone(),
            direction,
            peer: Peer { namespace: text(&edge.peer_namespace), name: text(&edge.peer) },
            server: (text(&edge.host), u16::try_from(edge.port).unwrap_or(0)),
            security,
        };
        Ok((read, text(&edge.route)))
    }

    /// As a message, with the rule that matched.
    pub fn message(&self, route: &str) -> proto::Edge {
        let direction = match self.direction {
            Direction::Inbound => proto::Direction::Inbound,
            Direction::Outbound => proto::Direction::Outbound,
        };
        let security = match self.security {
            Security::Unknown => proto::Security::Unspecified,
            Security::Mtls => proto::Security::Mtls,
            Security::Plaintext => proto::Security::Plaintext,
        };
        proto::Edge {
            direction: direction.into(),
            peer_namespace: self.peer.namespace.clone(),
            peer: self.peer.name.clone(),
            host: self.server.0.clone(),
            port: self.server.1.into(),
            route: route.to_owned(),
            security: security.into(),
        }
    }

    /// With which others it is added up where edges are not told apart.
    pub(super) fn sum(&self) -> Sum<'_> {
        match self.direction {
            Direction::Inbound => Sum::Own(&self.workload),
            Direction::Outbound => Sum::Callers(&self.peer),
        }
    }

    /// The edge that all of one [`Sum`] are together.
    pub(super) fn summed(&self) -> Self {
        let nobody = Peer { namespace: String::new(), name: String::new() };
        let (workload, peer) = match self.sum() {
            Sum::Own(workload) => (workload.clone(), nobody),
            Sum::Callers(peer) => (Workload::default(), peer.clone()),
        };
        let (server, security) = ((String::new(), 0), Security::Unknown);
        Self { workload, direction: self.direction, peer, server, security }
    }

    /// What edges of this workload are counted as that have no room of their own.
    pub(super) fn other(self) -> Self {
        let peer = Peer { namespace: String::new(), name: "other".to_owned() };
        Self { peer, server: ("other".to_owned(), 0), security: Security::Unknown, ..self }
    }
}
