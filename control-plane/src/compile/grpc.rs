//! For gRPC without a proxy: names that it asks for, and what it gets.
//!
//! ```text
//! reviews.shop:80 (Listener) -> service/shop/reviews/80 (Route, Cluster)
//!                                        -> mtls/service/shop/reviews/80 (Endpoints with sidecars)
//!                                        -> service/shop/reviews/80      (Endpoints without)
//! ```
//!
//! A cluster is for endpoints of one kind, because for gRPC security is a cluster's: as long as any
//! endpoint that may be used has a sidecar, those are all that there are. Each kind has endpoints
//! of a name of its own, so that no update, in whatever order it comes, lets a client send
//! plaintext to a sidecar.
//!
//! Only for ports that are declared HTTP, HTTP/2 or gRPC: elsewhere a sidecar must take the client's
//! TLS for the application's own.

use std::collections::BTreeSet;

use bytes::Bytes;
use tulle_xds::model::{Backend, Balance, Cluster, Endpoints, Kind, Limits, Protocol, grpc};

use super::{
    Settings, Whom, cluster, endpoints,
    names::{self, MTLS, Part, Target},
    port, route,
};
use crate::world::{World, objects::Name};

pub(super) fn compile(
    world: &World,
    settings: &Settings,
    kind: Kind,
    name: &str,
    whom: &Whom,
) -> Option<Bytes> {
    if name == Backend::INVALID {
        return nobody(kind);
    }
    match kind {
        Kind::Listener => {
            let (service, number) = host(settings, name)?;
            serves(world, &service, number)?;
            Some(grpc::listener(name, &Target::Service(Part::whole(&service, number)).to_string()))
        }
        Kind::Route => {
            served(world, name)?;
            Some(grpc::route(&route::compile(world, name, &whom.callers)?))
        }
        Kind::Cluster => {
            served(world, name)?;
            let cluster = cluster::compile(world, settings, name)?;
            let identities = identities(&usable(world, settings, name, whom)?);
            Some(match identities.is_empty() {
                true => grpc::cluster(&cluster, name, None),
                false => grpc::cluster(&cluster, &format!("{MTLS}{name}"), Some(&identities)),
            })
        }
        Kind::Endpoints => {
            served(world, plain(name))?;
            let mut found = usable(world, settings, plain(name), whom)?;
            let meshed = name.starts_with(MTLS);
            found.endpoints.retain(|endpoint| endpoint.identity.is_some() == meshed);
            Some(grpc::endpoints(&Endpoints { name: name.to_owned(), ..found }))
        }
        Kind::Workload | Kind::Host => None,
    }
}

/// The name of the cluster that endpoints are of.
pub(super) fn plain(name: &str) -> &str {
    name.strip_prefix(MTLS).unwrap_or(name)
}

/// The cluster without endpoints, to which goes what has nowhere to go. gRPC waits long for a
/// cluster that does not exist.
fn nobody(kind: Kind) -> Option<Bytes> {
    let name = || Backend::INVALID.to_owned();
    match kind {
        Kind::Cluster => {
            let cluster = Cluster {
                name: name(),
                service: None,
                protocol: Protocol::Grpc,
                upstream_protocol: port::upstream(Protocol::Grpc),
                balance: Balance::RoundRobin,
                limits: Limits::default(),
                ejection: None,
                connect_timeout: cluster::CONNECT_TIMEOUT,
                released: Default::default(),
                origin: port::origin("", "", ""),
                setters: Vec::new(),
            };
            Some(grpc::cluster(&cluster, Backend::INVALID, None))
        }
        Kind::Endpoints => Some(grpc::endpoints(&Endpoints { name: name(), endpoints: vec![] })),
        Kind::Listener | Kind::Route | Kind::Workload | Kind::Host => None,
    }
}

/// The Service's port that gRPC calls `name`: by its short name, with `.svc`, or fully.
fn host(settings: &Settings, name: &str) -> Option<(Name, u16)> {
    let (service, domain, port) = names::host(name)?;
    let fully = domain.strip_prefix("svc.") == Some(settings.cluster_domain.as_str());
    (domain.is_empty() || domain == "svc" || fully).then_some((service, port))
}

fn service(name: &str) -> Option<(Name, u16)> {
    match Target::parse(name)? {
        Target::Service(Part { service, port, .. }) => Some((service, port)),
        Target::Pod(..) => None,
    }
}

/// That this is the name of a Service's port that gRPC is served at.
fn served(world: &World, name: &str) -> Option<()> {
    let (service, number) = service(name)?;
    serves(world, &service, number)
}

fn serves(world: &World, service: &Name, number: u16) -> Option<()> {
    let port = world.service(service)?.port(number)?;
    port::declared(port).is_http().then_some(())
}

fn usable(world: &World, settings: &Settings, name: &str, whom: &Whom) -> Option<Endpoints> {
    Some(endpoints::compile(world, settings, name)?.at(&whom.here).usable())
}

/// Who must answer: those of the endpoints that have sidecars.
fn identities(endpoints: &Endpoints) -> BTreeSet<tulle_xds::model::SpiffeId> {
    endpoints.endpoints.iter().filter_map(|endpoint| endpoint.identity.clone()).collect()
}
