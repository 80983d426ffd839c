//! Which endpoints are for whom, by where both are. Pure.
//!
//! As kube-proxy has it: `internalTrafficPolicy: Local` admits those of the own node and no others, even if there are none;
//! hints of EndpointSlices (`trafficDistribution`, topology-aware routing) are a preference, which holds if every endpoint
//! has some and one of them is meant for here.

use serde::Serialize;

use super::{Endpoint, Endpoints, Health};

/// Who is to use an endpoint. The default is everybody.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Near {
    /// Only workloads on this node (`internalTrafficPolicy: Local` of the Service); empty: all.
    pub node: String,
    /// The nodes that it is meant for (`hints.forNodes` of the EndpointSlice).
    pub for_nodes: Vec<String>,
    /// The zones that it is meant for (`hints.forZones`).
    pub for_zones: Vec<String>,
}

impl Near {
    pub(super) fn is_everybody(&self) -> bool {
        *self == Self::default()
    }
}

/// Where a workload is; what is empty is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Here {
    /// Its node.
    pub node: String,
    /// The node's zone.
    pub zone: String,
}

impl Here {
    /// Keeps those of `candidates`, which are of one sort (all of them ready, for instance), that are for a workload here.
    pub fn keep<T>(&self, candidates: Vec<(T, &Near)>) -> Vec<T> {
        let own = candidates.into_iter();
        let own: Vec<_> = own.filter(|(_, near)| self.admits(near)).collect();
        let meant = [
            (&self.node, (|near| &near.for_nodes) as fn(&Near) -> &Vec<String>),
            (&self.zone, |near| &near.for_zones),
        ];
        let hint = meant.into_iter().find(|(here, hints)| {
            let told = own.iter().all(|(_, near)| !hints(near).is_empty());
            told && own.iter().any(|(_, near)| hints(near).contains(here))
        });
        let hinted = own
            .into_iter()
            .filter(|(_, near)| hint.is_none_or(|(here, hints)| hints(near).contains(here)));
        hinted.map(|(candidate, _)| candidate).collect()
    }

    /// Whether a workload here may use an endpoint at all.
    pub fn admits(&self, near: &Near) -> bool {
        near.node.is_empty() || near.node == self.node
    }
}

impl Endpoints {
    /// Those for a workload that is `here`, for clients that do not choose themselves: they are told of no others. Of each
    /// health for itself, so that what ends elsewhere is not what is left of hints.
    #[must_use]
    pub fn at(&self, here: &Here) -> Self {
        let of = |health| self.endpoints.iter().filter(move |endpoint| endpoint.health == health);
        let kept = [Health::Ready, Health::Draining, Health::NotReady].map(|health| {
            here.keep(of(health).map(|endpoint| (endpoint, &endpoint.near)).collect())
        });
        let told = |endpoint: &Endpoint| Endpoint { near: Near::default(), ..endpoint.clone() };
        let mut endpoints: Vec<_> = kept.into_iter().flatten().map(told).collect();
        endpoints.sort_by_key(|endpoint| endpoint.address);
        Self { name: self.name.clone(), endpoints }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Endpoints as `node|nodes|zones`, lists by comma.
    fn kept(here: (&str, &str), endpoints: &[&str]) -> Vec<usize> {
        let list =
            |text: &str| text.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect();
        let near = |text: &&str| {
            let [node, nodes, zones] = text.split('|').collect::<Vec<_>>().try_into().unwrap();
            Near { node: node.to_owned(), for_nodes: list(nodes), for_zones: list(zones) }
        };
        let all: Vec<Near> = endpoints.iter().map(near).collect();
        let here = Here { node: here.0.to_owned(), zone: here.1.to_owned() };
        here.keep(all.iter().enumerate().collect())
    }

    #[test]
    fn local_means_this_node_even_if_nobody_is_there() {
        assert_eq!(kept(("n1", ""), &["n1||", "n2||", "n1||"]), [0, 2]);
        assert_eq!(kept(("n1", ""), &["n2||"]), [0; 0]);
        assert_eq!(kept(("", ""), &["n2||"]), [0; 0]);
    }

    #[test]
    fn hints_hold_if_all_have_some_and_one_is_for_here() {
        for (here, endpoints, expected) in [
            // No hints, nothing known.
            (("n1", "a"), &["||", "||"][..], &[0, 1][..]),
            (("", ""), &["||a", "||b"], &[0, 1]),
            // By zone; one may be meant for several.
            (("n1", "a"), &["||a", "||b", "||b,a"], &[0, 2]),
            // Nobody is meant for here: everybody is.
            (("n1", "c"), &["||a", "||b"], &[0, 1]),
            // One has no hint: they are not complete.
            (("n1", "a"), &["||a", "||"], &[0, 1]),
            // The node comes before the zone, and the zone if there is nobody on the node.
            (("n1", "a"), &["|n1|a", "|n2|a"], &[0]),
            (("n3", "a"), &["|n1|a", "|n2|b"], &[0]),
            // Both at once: hints among those of the own node.
            (("n1", "a"), &["n1||b", "n2||a", "n1||a"], &[2]),
        ] {
            assert_eq!(kept(here, endpoints), expected, "{here:?} {endpoints:?}");
        }
    }

    #[test]
    fn who_is_told_of_the_near_alone_is_told_of_each_health() {
        let endpoint = |last: u8, health, node: &str| Endpoint {
            health,
            near: Near { for_nodes: vec![node.to_owned()], ..Near::default() },
            ..Endpoint::new(([10, 0, 0, last], 80).into())
        };
        let all = Endpoints {
            name: "a".to_owned(),
            endpoints: vec![
                endpoint(1, Health::Draining, "n1"),
                endpoint(2, Health::Ready, "n2"),
                endpoint(3, Health::Ready, "n2"),
                endpoint(4, Health::NotReady, "n1"),
                endpoint(5, Health::Draining, "n2"),
            ],
        };
        let told = |node: &str| {
            let told = all.at(&Here { node: node.to_owned(), zone: String::new() });
            assert!(told.endpoints.iter().all(|endpoint| endpoint.near.is_everybody()));
            let last = |endpoint: &Endpoint| match endpoint.address.ip() {
                std::net::IpAddr::V4(ip) => ip.octets()[3],
                std::net::IpAddr::V6(_) => 0,
            };
            told.endpoints.iter().map(last).collect::<Vec<_>>()
        };
        // Nobody ready is meant for `n1`: for it the hint does not hold.
        assert_eq!(told("n1"), [1, 2, 3, 4]);
        assert_eq!(told("n2"), [2, 3, 4, 5]);
    }
}
