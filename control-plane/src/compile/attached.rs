//! Whether references of routes and policies lead somewhere. What compilation does and what people
//! are told about it both follow from here.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use tulle_xds::model::Protocol;

use super::port;
use crate::world::{
    World,
    attach::age,
    objects::{Kind, Name, Route, Service, ServicePort},
};

/// Whether a route applies to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// It does.
    InForce,
    /// It is attached to another port.
    Elsewhere,
    /// The port speaks no HTTP.
    Opaque,
    /// The port speaks HTTP, and the route is about opaque connections.
    Http,
    /// There is a GRPCRoute for the same callers, which an HTTPRoute gives way to (GEP-1426); or an older TCPRoute,
    /// or older TLSRoutes with all the names of this one.
    Conflicted,
}

/// Whose requests a route is about (GEP-1426, "Namespace boundaries"). Routes for the same callers
/// are merged; those for everybody do not count where there are some for the caller's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Callers {
    /// A route beside its Service: the producer's.
    #[default]
    All,
    /// A route in another namespace, that of its callers: a consumer's.
    Of(Arc<str>),
}

impl Callers {
    pub(super) fn of(route: &Route, service: &Name) -> Self {
        let own = &route.name.namespace;
        if *own == service.namespace { Self::All } else { Self::Of(Arc::clone(own)) }
    }
}

/// Whether a route that is attached to a Service applies to this port of it.
pub(super) fn to_port(world: &World, route: &Route, service: &Service, port: &ServicePort) -> Fit {
    let fit = alone(route, service, port);
    if fit != Fit::InForce {
        return fit;
    }
    let callers = Callers::of(route, &service.name);
    let mut others = competing(world, service, port, &callers);
    let gives_way = match route.kind {
        Kind::HttpRoute => others.any(|other| other.kind == Kind::GrpcRoute),
        Kind::TcpRoute => others.any(|other| other.kind == route.kind && rank(other) < rank(route)),
        Kind::TlsRoute => {
            let mut named = by_name(world, service, port, &callers).into_iter();
            named.all(|named| named.route.name != route.name)
        }
        _ => false,
    };
    if gives_way { Fit::Conflicted } else { fit }
}

/// A TLSRoute, and those of its servers' names that lead to it; never none.
pub(super) struct Named<'a> {
    pub(super) route: &'a Arc<Route>,
    pub(super) names: Vec<&'a str>,
}

/// The TLSRoutes that are in force at a port for these callers, the oldest first: of two with one name the older counts.
pub(super) fn by_name<'a>(
    world: &'a World,
    service: &'a Service,
    port: &'a ServicePort,
    callers: &'a Callers,
) -> Vec<Named<'a>> {
    let routes = competing(world, service, port, callers);
    let mut routes: Vec<_> = routes.filter(|route| route.kind == Kind::TlsRoute).collect();
    routes.sort_by_key(|route| rank(route));
    let mut taken = HashSet::new();
    let mut names = |route: &'a Route| {
        let names = route.hostnames.iter().map(String::as_str);
        names.filter(|name| taken.insert(*name)).collect()
    };
    let named = routes.into_iter().map(|route| Named { route, names: names(route) });
    named.filter(|named| !named.names.is_empty()).collect()
}

/// The routes for the same callers that could be in force at a port.
fn competing<'a>(
    world: &'a World,
    service: &'a Service,
    port: &'a ServicePort,
    callers: &'a Callers,
) -> impl Iterator<Item = &'a Arc<Route>> {
    world.routes_of(&service.name).filter(move |other| {
        Callers::of(other, &service.name) == *callers && alone(other, service, port) == Fit::InForce
    })
}

/// Gateway API's order of two routes of one kind.
fn rank(route: &Route) -> ((bool, &str), &Name) {
    (age(&route.created), &route.name)
}

/// The routes that are in force at a port, for whichever callers: those about opaque connections, or those about requests.
pub(super) fn in_force<'a>(
    world: &'a World,
    service: &'a Service,
    port: &'a ServicePort,
    opaque: bool,
) -> impl Iterator<Item = (Callers, &'a Arc<Route>)> {
    let routes = world.routes_of(&service.name).filter(move |route| {
        route.is_opaque() == opaque && to_port(world, route, service, port) == Fit::InForce
    });
    routes.map(|route| (Callers::of(route, &service.name), route))
}

/// The namespaces whose callers have some of their own.
pub(super) fn consumers(
    world: &World,
    service: &Service,
    port: &ServicePort,
    opaque: bool,
) -> BTreeSet<Arc<str>> {
    let namespace = |(callers, _)| match callers {
        Callers::Of(namespace) => Some(namespace),
        Callers::All => None,
    };
    in_force(world, service, port, opaque).filter_map(namespace).collect()
}

fn alone(route: &Route, service: &Service, port: &ServicePort) -> Fit {
    let mut parents = route.parents.iter();
    if !parents.any(|p| p.service == service.name && p.covers(port.port, &port.name)) {
        Fit::Elsewhere
    } else if route.is_opaque() && port::declared(port).is_http() {
        Fit::Http
    } else if !route.is_opaque() && port::declared(port) == Protocol::Tcp {
        Fit::Opaque
    } else {
        Fit::InForce
    }
}

/// Why a backend is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoBackend {
    #[error("there is no Service {0}")]
    NoService(Name),
    #[error("Service {0} has no TCP port {1}{2}")]
    NoPort(Name, u16, String),
    #[error(
        "no ReferenceGrant in namespace {} lets {} of namespace {from} refer to Service {}",
        .to.namespace, .kind.as_str(), .to.name
    )]
    NotGranted { to: Name, from: String, kind: Kind },
}

/// Whether a route may and can send requests of these callers to a port of a Service.
///
/// A ReferenceGrant is asked for where a route moves other people's requests into another namespace.
/// A consumer's route moves only those of its own namespace, which may go there by themselves.
///
/// # Errors
/// Why not.
pub(super) fn backend(
    world: &World,
    route: &Route,
    callers: &Callers,
    service: &Name,
    port: u16,
) -> Result<(), NoBackend> {
    // Before anything else: whether another namespace has a Service is not for everybody to know.
    if *callers == Callers::All && !world.may_refer(route, service) {
        let from = route.name.namespace.to_string();
        return Err(NoBackend::NotGranted { to: service.clone(), from, kind: route.kind });
    }
    let found = world.service(service).ok_or_else(|| NoBackend::NoService(service.clone()))?;
    if found.port(port).is_none() {
        let there = ports(found);
        return Err(NoBackend::NoPort(service.clone(), port, there));
    }
    Ok(())
}

/// `; it has 80 (http), 81`.
pub(super) fn ports(service: &Service) -> String {
    let ports = service.ports.iter().take(16).map(|port| match port.name.as_str() {
        "" => port.port.to_string(),
        name => format!("{} ({name})", port.port),
    });
    let ports: Vec<_> = ports.collect();
    if ports.is_empty() { String::new() } else { format!("; it has {}", ports.join(", ")) }
}
