//! Where does a request go? One snapshot of what was told decides.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode, request::Parts};
use rand::Rng;
use tulle_xds::model::{Action, Backend, Filter, Origin, PathMatch, RouteConfiguration, Rule};

use super::{
    Connection, Side, admit, filter, head, mirror,
    route::{self, Draw},
    stick,
};
use crate::{
    error::{Error, Reason},
    mesh::{Destination, Resolution},
    telemetry::{Record, route_text},
    tls::Peer,
    upstream::Cluster,
};

/// Objects that are named where a route has no rule for a request.
const MOST_NAMED: usize = 3;

/// Where a request goes.
#[derive(Debug)]
pub enum Target {
    /// To an endpoint.
    Forward(Forward),
    /// Back, with this status and `Location`.
    Redirect(StatusCode, Option<HeaderValue>),
}

/// Where a request is forwarded, and by which rule.
#[derive(Debug)]
pub struct Forward {
    /// Its endpoints.
    pub cluster: Arc<Cluster>,
    /// `None` without a route.
    chosen: Option<Chosen>,
    mirrors: Vec<Arc<Cluster>>,
}

/// What a route has chosen.
#[derive(Debug)]
pub struct Chosen {
    /// The route.
    pub route: Arc<RouteConfiguration>,
    /// The rule's index in the route.
    pub rule: usize,
    /// The backend's index in the rule.
    backend: usize,
}

impl Forward {
    /// To this cluster, whatever a route says.
    pub fn to(cluster: Arc<Cluster>) -> Self {
        Self { cluster, chosen: None, mirrors: Vec::new() }
    }

    /// What the route has chosen, if there is one.
    pub fn chosen(&self) -> Option<&Chosen> {
        self.chosen.as_ref()
    }

    /// Where copies go.
    pub fn mirrors(&self) -> &[Arc<Cluster>] {
        &self.mirrors
    }

    /// The rule that matched.
    pub fn rule(&self) -> Option<&Rule> {
        let Chosen { route, rule, .. } = self.chosen.as_ref()?;
        route.rules.get(*rule)
    }

    /// The time that the request has, from its arrival to its response's end.
    pub fn timeout(&self) -> Option<Duration> {
        self.rule()?.timeouts.request
    }

    /// The rule's filters, with its condition on the path.
    pub fn rule_filters(&self) -> Option<(&PathMatch, &[Filter])> {
        self.rule().map(|rule| (&rule.matches.path, &rule.filters[..]))
    }

    /// The backend's, to be applied after the rule's.
    pub fn backend_filters(&self) -> Option<(&PathMatch, &[Filter])> {
        let (rule, chosen) = (self.rule()?, self.chosen.as_ref()?);
        let Action::Forward(backends) = &rule.action else {
            return None;
        };
        backends.get(chosen.backend).map(|backend| (&rule.matches.path, &backend.filters[..]))
    }
}

/// Finds the target of a request.
///
/// # Errors
/// The reason why there is none.
pub async fn find(
    connection: &Connection,
    head: &mut Parts,
    record: &mut Record,
) -> Result<Target, Error> {
    match &connection.side {
        Side::Inbound { peer, application, drain } => {
            connection.cx.locals.arrived();
            if let Some(policy) = admit::request(connection, peer.as_deref(), drain)? {
                record.audited(policy);
            }
            name_caller(connection, peer.as_deref(), head);
            let cluster = Arc::clone(application);
            Ok(Target::Forward(Forward::to(cluster)))
        }
        Side::Outbound => match connection.cx.store.resolve(connection.destination).await {
            Resolution::Mesh(destination) => outbound(connection, &destination, head, record),
            Resolution::External => {
                let detail = "the address has left the mesh since the connection began";
                Err(Error::new(Reason::ControlPlane, detail).never_sent())
            }
            Resolution::Refused(reason) => Err(unresolved(connection, reason)),
        },
    }
}

/// Why a destination that does not resolve is refused.
pub fn unresolved(connection: &Connection, reason: Reason) -> Error {
    let address = connection.destination;
    let detail = match reason {
        Reason::NoEndpoint => {
            format!("no Service port or pod of the mesh has the address {address}")
        }
        Reason::ExternalRefused => {
            format!("{address} is outside of the mesh, and MeshConfig refuses such traffic")
        }
        _ => format!(
            "the control plane has not said what {address} is: is the proxy connected to it?"
        ),
    };
    let error = Error::new(reason, detail).never_sent();
    if reason == Reason::ExternalRefused { error.forbidden_by(admit::MESH_CONFIG) } else { error }
}

/// Tells the application who calls.
fn name_caller(connection: &Connection, peer: Option<&Peer>, head: &mut Parts) {
    if let Some(workload) = &connection.cx.store.current().workload {
        let how = connection.cx.settings().client_cert;
        head::set_client_cert(&mut head.headers, how, workload.identity.as_str(), peer);
    }
}

fn outbound(
    connection: &Connection,
    destination: &Destination,
    head: &Parts,
    record: &mut Record,
) -> Result<Target, Error> {
    let chance = Draw::Chance(rand::rng().random());
    let Some(route) = &destination.route else {
        // The port was declared opaque after the connection had begun.
        let (_, cluster) = backend(destination, &destination.listener.backends, chance)?;
        return Ok(Target::Forward(Forward::to(cluster)));
    };
    let Some(index) = route::find(route, head) else {
        let routes = routes(route);
        let detail = match routes.as_slice() {
            [] => format!("no rule of {} matches", route.name),
            routes => format!("no rule of {} matches", routes.join(", ")),
        };
        return Err(Error::new(Reason::RouteNotFound, detail).lacking(routes.into_iter().next()));
    };
    record.matched(route, index);
    let rule = &route.rules[index];
    match &rule.action {
        Action::Forward(backends) => {
            let stick = rule.stick.as_ref();
            let client = connection.client.ip();
            let hash = stick.and_then(|stick| stick::hash(stick, &head.headers, client));
            let draw = hash.map_or(chance, Draw::Hash);
            let (backend, cluster) = backend(destination, backends, draw)?;
            let chosen = Some(Chosen { route: Arc::clone(route), rule: index, backend });
            let mirrors = mirror::draw(&rule.mirrors, destination, || rand::rng().random());
            Ok(Target::Forward(Forward { cluster, chosen, mirrors }))
        }
        Action::Redirect(redirect) => {
            let port = connection.destination.port();
            let (status, location) = filter::redirect(redirect, &rule.matches.path, head, port);
            Ok(Target::Redirect(status, location))
        }
        Action::Fail(status) if rule.origin.kind == "Lane" => {
            let lane = route_text(&rule.origin);
            let detail =
                format!("{lane} has no ready pod there, and lets its requests go to no other");
            Err(Error::new(Reason::NoEndpoint, detail).with_status(*status).never_sent())
        }
        Action::Fail(status) => {
            let detail = "the rule's backend is invalid: see the route's status for why";
            Err(Error::new(Reason::InvalidBackend, detail).with_status(*status))
        }
    }
}

/// The objects that its rules come from, some of them if they are many.
fn routes(route: &RouteConfiguration) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for origin in route.rules.iter().map(|rule| &rule.origin) {
        let object = route_text(&Origin { rule: String::new(), ..origin.clone() });
        if !found.contains(&object) {
            found.push(object);
        }
        if found.len() == MOST_NAMED {
            break;
        }
    }
    found
}

/// The backend that is drawn with its index, and its cluster.
///
/// # Errors
/// [`Reason::NoEndpoint`] if there is none: all weights are 0, or the cluster does not exist.
/// [`Reason::InvalidBackend`] if the backend that is drawn is invalid.
pub fn backend(
    destination: &Destination,
    backends: &[Backend],
    draw: Draw,
) -> Result<(usize, Arc<Cluster>), Error> {
    let index = route::choose(backends, draw).ok_or_else(|| {
        Error::new(Reason::NoEndpoint, "no backend has a weight above 0").never_sent()
    })?;
    if !backends[index].is_valid() {
        let detail = "this share's backend is invalid: see the route's status for why";
        return Err(Error::new(Reason::InvalidBackend, detail));
    }
    let name = &backends[index].cluster;
    let cluster = destination.clusters.get(name).ok_or_else(|| {
        Error::new(Reason::NoEndpoint, format!("{name} does not exist")).never_sent()
    })?;
    Ok((index, Arc::clone(cluster)))
}
