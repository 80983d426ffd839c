//! World → what is sent. Pure and deterministic; one file per resource.
//!
//! ```text
//! 10.96.0.7:9080 (Listener) -> service/shop/reviews/9080 (Route, Cluster, Endpoints)
//! service/shop/reviews/9080/HTTPRoute/shop/slow (Cluster, Endpoints): see [`derived`]
//! canary/shop/reviews/9080, lane/shop/reviews/9080/pr-1 (Cluster, Endpoints): see [`split`] and [`lane`]
//! 10.244.0.9:9080 (Listener) -> pod/shop/reviews-1/9080 (Route, Cluster, Endpoints)
//! shop/reviews-1 (Workload)
//! reviews.shop.svc.cluster.local (Host)
//! ```
//!
//! A resource is compiled from its name alone, when somebody wants it; one that the world has no
//! reason for is `None`, "does not exist".

mod access;
mod attached;
mod cluster;
mod contributors;
mod derived;
mod direct;
mod endpoints;
mod envoy;
mod grpc;
mod host;
mod lane;
mod listener;
mod names;
mod policy;
mod port;
mod precedence;
mod references;
mod route;
mod settled;
mod split;
mod standing;
mod steps;
mod telemetry;
pub(crate) mod workload;

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use ipnet::IpNet;
use tulle_xds::{
    cache::{Contents, Dialect, Key},
    model::{Here, Kind, Resource},
};

use self::{attached::Callers, endpoints::Places};
pub use self::{
    contributors::{ByCaller, Contributors, Need, contributors, may_have_contributors},
    envoy::members,
    lane::{Behind, LaneSight},
    names::subject,
    references::complaints,
    standing::standing,
};
use crate::world::World;

/// What the command line says about the mesh.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Trust domain of every identity.
    pub trust_domain: String,
    /// Suffix of host names, `cluster.local`.
    pub cluster_domain: String,
    /// Address ranges of pods and Services.
    pub mesh_ranges: Vec<IpNet>,
}

/// For whom something is compiled. By default for whoever is not anything special.
#[derive(Debug, Default)]
struct Whom {
    callers: Callers,
    here: Here,
}

/// What `key` stands for, in the words of its dialect: for everybody, for callers in the namespaces that have routes of
/// their own, and for those near endpoints that are for them.
pub fn contents(world: &World, settings: &Settings, key: &Key) -> Contents {
    let of = |whom: &Whom| encoded(world, settings, key, whom);
    let places = match (key.dialect, key.kind) {
        (Dialect::Envoy, Kind::Endpoints) | (Dialect::Grpc, Kind::Endpoints | Kind::Cluster) => {
            endpoints::places(world, grpc::plain(&key.name))
        }
        // Our own proxy is told which are for whom.
        _ => Places::default(),
    };
    let namespaces = consumers(world, key.kind, &key.name).into_iter();
    let at = |node: &str, zone: &str| Whom {
        here: Here { node: node.to_owned(), zone: zone.to_owned() },
        ..Whom::default()
    };
    Contents {
        by_namespace: namespaces
            .map(|namespace| {
                let callers = Callers::Of(Arc::clone(&namespace));
                (namespace, of(&Whom { callers, ..Whom::default() }))
            })
            .collect(),
        by_node: places
            .nodes
            .iter()
            .map(|&node| (node.into(), of(&at(node, world.zone(node)))))
            .collect(),
        by_zone: places.zones.iter().map(|&zone| (zone.into(), of(&at("", zone)))).collect(),
        shared: of(&Whom::default()),
    }
}

fn consumers(world: &World, kind: Kind, name: &str) -> BTreeSet<Arc<str>> {
    match kind {
        Kind::Route => route::consumers(world, name),
        Kind::Listener => listener::consumers(world, name),
        _ => BTreeSet::new(),
    }
}

fn encoded(world: &World, settings: &Settings, key: &Key, whom: &Whom) -> Option<Bytes> {
    let (kind, name) = (key.kind, &*key.name);
    match key.dialect {
        Dialect::Tulle => {
            compile(world, settings, kind, name, &whom.callers).map(|resource| resource.encode())
        }
        Dialect::Other(features) => compile(world, settings, kind, name, &whom.callers)
            .map(|resource| resource.within(features).encode()),
        Dialect::Envoy => envoy::compile(world, settings, kind, name, whom),
        Dialect::Grpc => grpc::compile(world, settings, kind, name, whom),
    }
}

/// The resource of this kind and name, for our own proxy.
fn compile(
    world: &World,
    settings: &Settings,
    kind: Kind,
    name: &str,
    callers: &Callers,
) -> Option<Resource> {
    Some(match kind {
        Kind::Workload => Resource::Workload(workload::compile(world, settings, name)?),
        Kind::Listener => Resource::Listener(listener::compile(world, settings, name, callers)?),
        Kind::Route => Resource::Route(route::compile(world, name, callers)?),
        Kind::Cluster => Resource::Cluster(cluster::compile(world, settings, name)?),
        Kind::Endpoints => Resource::Endpoints(endpoints::compile(world, settings, name)?),
        Kind::Host => Resource::Host(host::compile(world, settings, name)?),
    })
}

#[cfg(test)]
mod tests;
