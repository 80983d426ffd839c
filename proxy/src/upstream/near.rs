//! Which of the endpoints are for this workload, by where both are. Pure.
//!
//! As kube-proxy has it: `internalTrafficPolicy: Local` admits those of the own node and no others, even if there are none;
//! hints of EndpointSlices (`trafficDistribution`, topology-aware routing) are a preference, which holds if every endpoint
//! has some and one of them is meant for here.

use tulle_xds::model::Near;

/// Where this workload is; what is empty is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Here {
    /// Its node.
    pub node: String,
    /// The node's zone.
    pub zone: String,
}

impl Here {
    /// Keeps those of `candidates` that are for this workload.
    pub(super) fn keep<T>(&self, candidates: Vec<(T, &Near)>) -> Vec<T> {
        let own = candidates.into_iter();
        let own: Vec<_> = own.filter(|(_, near)| self.admits(&near.node)).collect();
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

    fn admits(&self, node: &str) -> bool {
        node.is_empty() || node == self.node
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
}
