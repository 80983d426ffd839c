//! Who calls whom, by which rule: what the data path's series are about.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use hashbrown::Equivalent;
use tulle_xds::model::Origin;

use super::{Direction, record::route_text, tags::Tag};

/// What has no name of its own in labels: edges beyond the budget, servers that are no Service, values of tags that are too
/// many.
pub(super) const OTHER: &str = "other";

/// Borrowed from a record, so that looking for its series allocates nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge<'a> {
    pub(super) direction: Direction,
    /// Namespace and name of the workload on the other side; a class without namespace if it is none of
    /// the mesh.
    pub(super) peer: (&'a str, &'a str),
    pub(super) server: Server<'a>,
    /// The rule that matched.
    pub(super) route: Option<&'a Origin>,
    /// `None`: there was nobody to speak to, or it is outside of the mesh.
    pub(super) security: Option<Security>,
    /// What a Telemetry tells it apart by, in the order of the labels' names.
    pub(super) tags: &'a [Tag<'a>],
}

/// How bytes travel between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Security {
    /// Both have proven who they are.
    Mtls,
    Plaintext,
}

/// What was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Server<'a> {
    /// This workload itself; or it is not known, as the request was refused before.
    None,
    /// The port of a Service with this host name.
    Service(&'a str, u16),
    /// Anything else: a pod by its own address, what is outside of the mesh.
    Other,
}

/// An edge that series are kept of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EdgeName {
    direction: Direction,
    peer: (String, String),
    /// With the port if it is a Service; empty for [`Server::None`].
    server: (String, Option<u16>),
    route: Option<Origin>,
    security: Option<Security>,
    tags: Box<[Tag<'static>]>,
}

impl Security {
    fn as_str(self) -> &'static str {
        match self {
            Self::Mtls => "mtls",
            Self::Plaintext => "plaintext",
        }
    }
}

impl Edge<'_> {
    /// What edges without room of their own are counted as.
    pub(super) fn other(direction: Direction) -> Self {
        let (peer, server) = (("", OTHER), Server::Other);
        Edge { direction, peer, server, route: None, security: None, tags: &[] }
    }

    pub(super) fn is_other(&self) -> bool {
        *self == Edge::other(self.direction)
    }

    pub(super) fn name(&self) -> EdgeName {
        let server = match self.server {
            Server::None => (String::new(), None),
            Server::Service(host, port) => (host.to_owned(), Some(port)),
            Server::Other => (OTHER.to_owned(), None),
        };
        let (namespace, workload) = self.peer;
        EdgeName {
            direction: self.direction,
            peer: (namespace.to_owned(), workload.to_owned()),
            server,
            route: self.route.cloned(),
            security: self.security,
            tags: self.tags.iter().cloned().map(Tag::into_owned).collect(),
        }
    }
}

/// Most have no tags, and nothing is done about these then.
impl Hash for Edge<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { direction, peer, server, route, security, tags } = self;
        (direction, peer, server, route, security).hash(state);
        tags.iter().for_each(|tag| tag.hash(state));
    }
}

impl EdgeName {
    pub(super) fn edge(&self) -> Edge<'_> {
        let server = match &self.server {
            (host, Some(port)) => Server::Service(host, *port),
            (host, None) if host.is_empty() => Server::None,
            _ => Server::Other,
        };
        let peer = (&*self.peer.0, &*self.peer.1);
        let (direction, security) = (self.direction, self.security);
        Edge { direction, peer, server, route: self.route.as_ref(), security, tags: &self.tags }
    }

    /// What a Telemetry tells it apart by.
    pub(super) fn tags(&self) -> &[Tag<'static>] {
        &self.tags
    }

    /// Its labels but for tags; what is not known has none.
    pub(super) fn labels(&self) -> Vec<(&'static str, String)> {
        let port = self.server.1.map(|port| port.to_string());
        let route = self.route.as_ref().map(route_text);
        let labels = [
            ("tulle_reporter", self.direction.reporter().to_owned()),
            ("tulle_peer_namespace", self.peer.0.clone()),
            ("tulle_peer_workload", self.peer.1.clone()),
            ("server_address", self.server.0.clone()),
            ("server_port", port.unwrap_or_default()),
            ("tulle_route", route.unwrap_or_default()),
            ("tulle_security", self.security.map_or("", Security::as_str).to_owned()),
        ];
        labels.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }
}

/// As the edge that it names, which is what makes [`Equivalent`] hold.
impl Hash for EdgeName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.edge().hash(state);
    }
}

impl Equivalent<Arc<EdgeName>> for Edge<'_> {
    fn equivalent(&self, name: &Arc<EdgeName>) -> bool {
        *self == name.edge()
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use proptest::prelude::*;
    use tulle_xds::model::Tag;

    use super::*;
    use crate::telemetry::tags::Label;

    #[test]
    fn labels_leave_out_what_is_not_known() {
        let route = Origin {
            kind: "HTTPRoute".into(),
            namespace: "shop".into(),
            name: "web".into(),
            rule: "0".into(),
        };
        let edge = Edge {
            direction: Direction::Outbound,
            peer: ("shop", "cart"),
            server: Server::Service("cart.shop.svc.cluster.local", 80),
            route: Some(&route),
            security: Some(Security::Mtls),
            tags: &[],
        };
        let all = [
            ("tulle_reporter", "source"),
            ("tulle_peer_namespace", "shop"),
            ("tulle_peer_workload", "cart"),
            ("server_address", "cart.shop.svc.cluster.local"),
            ("server_port", "80"),
            ("tulle_route", "HTTPRoute/shop/web#0"),
            ("tulle_security", "mtls"),
        ];
        assert_eq!(edge.name().labels(), all.map(|(key, value)| (key, value.to_owned())));
        let stranger = Edge {
            direction: Direction::Inbound,
            peer: ("", "internet"),
            server: Server::None,
            route: None,
            security: None,
            tags: &[],
        };
        let some = [("tulle_reporter", "destination"), ("tulle_peer_workload", "internet")];
        assert_eq!(stranger.name().labels(), some.map(|(key, value)| (key, value.to_owned())));
    }

    proptest! {
        #[test]
        fn a_name_is_found_by_the_edge_that_it_names(
            (inbound, mtls) in any::<(bool, bool)>(), peer in any::<(String, String)>(), tag in prop::option::of("[a-z]"), host in "[a-z.]{1,9}", port in any::<u16>(), which in 0..3_usize,
        ) {
            let direction = if inbound { Direction::Inbound } else { Direction::Outbound };
            let server = [Server::None, Server::Service(&host, port), Server::Other][which];
            let security = mtls.then_some(Security::Mtls);
            let label = Label::of(&Tag { name: "a".into(), expression: "route".into(), max_values: 1 });
            let tags: Vec<_> = tag.map(|value| label.with(value.into())).into_iter().collect();
            let edge = Edge {
                direction, peer: (&peer.0, &peer.1), server, route: None, security, tags: &tags,
            };
            let name = Arc::new(edge.name());
            prop_assert_eq!(name.edge(), edge);
            let hasher = RandomState::new();
            prop_assert_eq!(hasher.hash_one(&name), hasher.hash_one(edge));
            let untagged = Edge { tags: &[], ..edge };
            prop_assert_eq!(untagged == edge, tags.is_empty());
        }
    }
}
