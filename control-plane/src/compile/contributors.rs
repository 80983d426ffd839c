//! Which objects a resource comes from: remembered beside its bytes, never in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use tulle_xds::model::{Kind, Rule, envoy::own_listener};

use super::{
    attached::{self, Callers, Fit},
    derived,
    names::{self, Target, Via},
    port, route,
};
use crate::world::{
    World,
    objects::{Kind as ObjectKind, Name, ObjectRef, TrafficPolicy},
    policy::Scope,
};

/// The routes and policies that something in a resource comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contributors {
    /// All of them.
    pub all: BTreeSet<ObjectRef>,
    /// The route behind each rule of the resource, by the rule's index.
    pub rules: Vec<Option<ObjectRef>>,
}

/// What a resource comes from as callers in a namespace see it; `None` is everybody else.
pub type ByCaller = Vec<(Option<Arc<str>>, Contributors)>;

/// Who contributes to the resource of this kind and name: as everybody sees it, and as callers in the
/// namespaces that have routes of their own do.
pub fn contributors(world: &World, kind: Kind, name: &str) -> ByCaller {
    let mut found = Contributors::default();
    match (kind, Target::parse(name)) {
        (Kind::Workload, _) => found.workload(world, name),
        // What our own proxy finds in its workload, stock Envoy has in these.
        (Kind::Listener, _) => {
            if let Some((_, pod)) = own_listener(name) {
                found.workload(world, pod);
            } else if let Some(address) = names::address(name) {
                found.listener(world, address);
            }
        }
        (Kind::Cluster, Some(Target::Service(service, port))) => {
            found.settings(of_port(world, &service, port), Scope::Cluster);
        }
        (Kind::Cluster, Some(Target::Derived(service, port, via))) => {
            found.settings(of_derived(world, &service, port, &via), Scope::Cluster);
        }
        (Kind::Route, Some(Target::Service(service, port))) => {
            let own = route::consumers(world, name).into_iter().map(|namespace| {
                let callers = Callers::Of(Arc::clone(&namespace));
                (Some(namespace), of_route(world, name, &service, port, &callers))
            });
            let shared = of_route(world, name, &service, port, &Callers::All);
            return own.chain([(None, shared)]).collect();
        }
        _ => {}
    }
    vec![(None, found)]
}

/// Whether [`contributors`] ever finds any: what never has some need not be followed.
pub fn may_have_contributors(kind: Kind) -> bool {
    match kind {
        Kind::Workload | Kind::Listener | Kind::Cluster | Kind::Route => true,
        Kind::Endpoints | Kind::Host => false,
    }
}

fn of_route(
    world: &World,
    name: &str,
    service: &Name,
    port: u16,
    callers: &Callers,
) -> Contributors {
    let mut found = Contributors::default();
    found.route(world, service, port, callers);
    let rules = route::compile(world, name, callers).map(|route| route.rules).unwrap_or_default();
    let object = |rule: &Rule| {
        let origin = &rule.origin;
        let of = |object: &&ObjectRef| {
            object.kind.as_str() == origin.kind
                && *object.name.namespace == *origin.namespace
                && *object.name.name == *origin.name
        };
        found.all.iter().find(of).cloned()
    };
    found.rules = rules.iter().map(object).collect();
    found
}

impl Contributors {
    fn workload(&mut self, world: &World, name: &str) {
        let Some(pod) = names::pod(name).and_then(|name| world.pod(&name)) else {
            return;
        };
        let tls = world.mesh_tls_for(pod).into_iter();
        self.all
            .extend(tls.map(|tls| ObjectRef { kind: ObjectKind::MeshTls, name: tls.name.clone() }));
        self.all.extend(
            world.mesh_config().map(|config| ObjectRef {
                kind: ObjectKind::MeshConfig,
                name: config.name.clone(),
            }),
        );
    }

    /// Of what opaque connections do, one setting is in their listener.
    fn listener(&mut self, world: &World, address: SocketAddr) {
        let Some(service) = world.service_at(address.ip()) else {
            return;
        };
        let port = service.port(address.port());
        if port.is_some_and(|port| !port::declared(port).is_http()) {
            let mut policies = of_port(world, &service.name, address.port()).into_iter();
            let says = policies.find(|policy| policy.settings.idle_timeout.is_some());
            self.all.extend(says.map(|policy| ObjectRef {
                kind: ObjectKind::TrafficPolicy,
                name: policy.name.clone(),
            }));
        }
    }

    fn route(&mut self, world: &World, service: &Name, number: u16, callers: &Callers) {
        let Some((service, port)) =
            world.service(service).and_then(|service| Some((service, service.port(number)?)))
        else {
            return;
        };
        let of_port = of_port(world, &service.name, number);
        let mut plain = true;
        for route in world.routes_of(&service.name) {
            let applies = Callers::of(route, &service.name) == *callers
                && attached::to_port(world, route, service, port) == Fit::InForce;
            if !applies {
                continue;
            }
            plain = false;
            let reference = route.reference();
            for rule in &route.rules {
                let own =
                    rule.name.as_deref().map(|rule| world.policies_of(&reference, Some(rule)));
                let levels = own.into_iter().chain([world.policies_of(&reference, None)]);
                let levels = levels.flatten().chain(of_port.iter().copied());
                self.settings(levels.collect(), Scope::Rule);
            }
            self.all.insert(reference);
        }
        if plain {
            self.settings(of_port, Scope::Rule);
        }
    }

    /// Those of `policies`, the most specific first, that say something of this scope which no
    /// earlier one says.
    fn settings(&mut self, policies: Vec<&Arc<TrafficPolicy>>, scope: Scope) {
        let mut said = BTreeMap::new();
        for policy in policies {
            for (field, of) in policy.settings.said() {
                let counts = of == scope || of == Scope::Presence;
                if counts && *said.entry(field).or_insert(&policy.name) == &policy.name {
                    let name = policy.name.clone();
                    self.all.insert(ObjectRef { kind: ObjectKind::TrafficPolicy, name });
                }
            }
        }
    }
}

/// The policies of a cluster that a route has for itself, the most specific first; none if it has none.
fn of_derived<'a>(
    world: &'a World,
    service: &Name,
    number: u16,
    via: &Via,
) -> Vec<&'a Arc<TrafficPolicy>> {
    let exists = world.service(service).is_some_and(|service| {
        service
            .port(number)
            .is_some_and(|port| derived::settings(world, service, port, via).is_some())
    });
    if !exists {
        return Vec::new();
    }
    let rule = via.rule.as_deref().map(|rule| world.policies_of(&via.route, Some(rule)));
    let levels = rule.into_iter().chain([world.policies_of(&via.route, None)]);
    levels.flatten().chain(of_port(world, service, number)).collect()
}

/// The policies of a Service's port, the most specific first.
fn of_port<'a>(world: &'a World, service: &Name, number: u16) -> Vec<&'a Arc<TrafficPolicy>> {
    let found = world.service(service).and_then(|service| Some((service, service.port(number)?)));
    found
        .map(|(service, port)| super::policy::levels_of_port(world, service, port))
        .into_iter()
        .flatten()
        .flatten()
        .collect()
}
