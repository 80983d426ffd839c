//! What is watched.

use kube::{Client, core::ApiResource};

use super::not_found;
use crate::world::objects::Kind;

const GATEWAY: &str = "gateway.networking.k8s.io";
const TULLE: &str = "tulle.dev";

/// A kind, as the API server knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watched {
    pub(super) kind: Kind,
    group: &'static str,
    /// Of one shape; the first one that is served is taken.
    versions: &'static [&'static str],
    plural: &'static str,
}

/// Everything that the mesh has use for. ServiceAccounts are not: pods name them, and tokens prove them.
pub(super) const WATCHED: [Watched; 18] = [
    watched(Kind::Namespace, "", &["v1"], "namespaces"),
    watched(Kind::Node, "", &["v1"], "nodes"),
    watched(Kind::Pod, "", &["v1"], "pods"),
    watched(Kind::Service, "", &["v1"], "services"),
    watched(Kind::EndpointSlice, "discovery.k8s.io", &["v1"], "endpointslices"),
    watched(Kind::ReplicaSet, "apps", &["v1"], "replicasets"),
    watched(Kind::HttpRoute, GATEWAY, &["v1", "v1beta1"], "httproutes"),
    watched(Kind::GrpcRoute, GATEWAY, &["v1"], "grpcroutes"),
    watched(Kind::TcpRoute, GATEWAY, &["v1", "v1alpha2"], "tcproutes"),
    watched(Kind::TlsRoute, GATEWAY, &["v1", "v1alpha3"], "tlsroutes"),
    watched(Kind::ReferenceGrant, GATEWAY, &["v1", "v1beta1"], "referencegrants"),
    watched(Kind::TrafficPolicy, TULLE, &["v1alpha1"], "trafficpolicies"),
    watched(Kind::MeshConfig, TULLE, &["v1alpha1"], "meshconfigs"),
    watched(Kind::MeshTls, TULLE, &["v1alpha1"], "meshtls"),
    watched(Kind::AccessPolicy, TULLE, &["v1alpha1"], "accesspolicies"),
    watched(Kind::Telemetry, TULLE, &["v1alpha1"], "telemetries"),
    watched(Kind::Release, TULLE, &["v1alpha1"], "releases"),
    watched(Kind::Lane, TULLE, &["v1alpha1"], "lanes"),
];

const fn watched(
    kind: Kind,
    group: &'static str,
    versions: &'static [&'static str],
    plural: &'static str,
) -> Watched {
    Watched { kind, group, versions, plural }
}

impl Watched {
    /// Whether it comes from a CustomResourceDefinition, which may not be there.
    fn is_custom(&self) -> bool {
        [GATEWAY, TULLE].contains(&self.group)
    }

    /// Whether its metadata says all that matters. ReplicaSets are many, and each has a pod template in it.
    pub(super) fn is_metadata_only(&self) -> bool {
        self.kind == Kind::ReplicaSet
    }

    /// The kind in the version that this server serves; `None` if it serves none.
    pub(super) async fn discover(&self, client: &Client) -> kube::Result<Option<ApiResource>> {
        let [newest, ..] = self.versions else {
            return Ok(None);
        };
        if !self.is_custom() {
            return Ok(Some(self.in_version(newest)));
        }
        let groups = client.list_api_groups().await?.groups;
        let group = groups.into_iter().find(|group| group.name == self.group);
        let served = group.map(|group| group.versions).unwrap_or_default();
        for version in self.versions {
            if !served.iter().any(|served| served.version == *version) {
                continue;
            }
            let resource = self.in_version(version);
            let listed = client.list_api_group_resources(&resource.api_version).await;
            match listed {
                Ok(listed) if listed.resources.iter().any(|r| r.name == self.plural) => {
                    return Ok(Some(resource));
                }
                Ok(_) => {}
                // Gone since we asked.
                Err(error) if not_found(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn in_version(&self, version: &str) -> ApiResource {
        let slash = if self.group.is_empty() { "" } else { "/" };
        ApiResource {
            group: self.group.to_owned(),
            version: version.to_owned(),
            api_version: format!("{}{slash}{version}", self.group),
            kind: self.kind.as_str().to_owned(),
            plural: self.plural.to_owned(),
        }
    }
}

/// The kind in its newest version, to write a status of it.
pub(super) fn newest(kind: Kind) -> Option<ApiResource> {
    let watched = WATCHED.iter().find(|watched| watched.kind == kind)?;
    Some(watched.in_version(watched.versions.first()?))
}
