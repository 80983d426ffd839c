//! What there is, for people and for metrics.

use std::collections::BTreeMap;

use super::{
    World,
    objects::{Kind, Name},
};

impl World {
    /// Every object, by kind and name: for people.
    pub fn dump(&self) -> String {
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        let mut add = |kind: Kind, name: &Name, object: &dyn std::fmt::Debug| {
            all.insert(format!("{} {name}", kind.as_str()), format!("{object:#?}\n"));
        };
        self.namespaces.values().for_each(|o| add(Kind::Namespace, &o.name, o));
        self.accounts.iter().for_each(|name| add(Kind::ServiceAccount, name, name));
        self.pods.values().for_each(|o| add(Kind::Pod, &o.name, o));
        self.services.values().for_each(|o| add(Kind::Service, &o.name, o));
        self.slices.values().for_each(|o| add(Kind::EndpointSlice, &o.name, o));
        self.routes.values().for_each(|o| add(o.kind, &o.name, o));
        self.grants.values().for_each(|o| add(Kind::ReferenceGrant, &o.name, o));
        self.policies.values().for_each(|o| add(Kind::TrafficPolicy, &o.name, o));
        self.mesh_tls.values().for_each(|o| add(Kind::MeshTls, &o.name, o));
        self.mesh_configs.values().for_each(|o| add(Kind::MeshConfig, &o.name, o));
        self.access.values().for_each(|o| add(Kind::AccessPolicy, &o.name, o));
        self.telemetries.values().for_each(|o| add(Kind::Telemetry, &o.name, o));
        self.nodes.values().for_each(|o| add(Kind::Node, &o.name, o));
        self.replica_sets.values().for_each(|o| add(Kind::ReplicaSet, &o.name, o));
        self.releases.values().for_each(|o| add(Kind::Release, &o.name, o));
        self.lanes.values().for_each(|o| add(Kind::Lane, &o.name, o));
        all.into_values().collect()
    }

    /// How many objects of each kind there are.
    pub fn counts(&self) -> [(Kind, usize); 19] {
        let routes = |kind| self.routes.keys().filter(|route| route.kind == kind).count();
        [
            (Kind::Namespace, self.namespaces.len()),
            (Kind::ServiceAccount, self.accounts.len()),
            (Kind::Pod, self.pods.len()),
            (Kind::Service, self.services.len()),
            (Kind::EndpointSlice, self.slices.len()),
            (Kind::HttpRoute, routes(Kind::HttpRoute)),
            (Kind::GrpcRoute, routes(Kind::GrpcRoute)),
            (Kind::TcpRoute, routes(Kind::TcpRoute)),
            (Kind::TlsRoute, routes(Kind::TlsRoute)),
            (Kind::ReferenceGrant, self.grants.len()),
            (Kind::TrafficPolicy, self.policies.len()),
            (Kind::MeshConfig, self.mesh_configs.len()),
            (Kind::MeshTls, self.mesh_tls.len()),
            (Kind::AccessPolicy, self.access.len()),
            (Kind::Telemetry, self.telemetries.len()),
            (Kind::Node, self.nodes.len()),
            (Kind::ReplicaSet, self.replica_sets.len()),
            (Kind::Release, self.releases.len()),
            (Kind::Lane, self.lanes.len()),
        ]
    }
}
