//! Which objects a resource comes from: remembered beside its bytes, never in them.

use std::{collections::BTreeSet, sync::Arc};

use tulle_xds::model::{Action, Feature, Kind, Origin, Rule, Setter, envoy::own_listener};

use super::{
    access,
    attached::{self, Callers},
    cluster, envoy, lane, listener,
    names::{self, Part, Target},
    route, split, telemetry, workload,
};
use crate::world::{
    World,
    objects::{Kind as ObjectKind, Name, ObjectRef},
    policy::Scope,
};

/// The routes and policies that something in a resource comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contributors {
    /// All of them.
    pub all: BTreeSet<ObjectRef>,
    /// The route behind each rule of the resource, by the rule's index.
    pub rules: Vec<Option<ObjectRef>>,
    /// What a proxy must understand for all of it to be in force.
    pub needs: Vec<Need>,
}

/// A field that says what older proxies do not understand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// What must be understood.
    pub feature: Feature,
    /// Whose field it is.
    pub object: ObjectRef,
    /// The field, `spec.proxy.maxStreams`.
    pub field: String,
}

/// What a resource comes from as callers in a namespace see it; `None` is everybody else.
pub type ByCaller = Vec<(Option<Arc<str>>, Contributors)>;

/// Who contributes to the resource of this kind and name: as everybody sees it, and as callers in the
/// namespaces that have routes of their own do.
pub fn contributors(world: &World, kind: Kind, name: &str) -> ByCaller {
    let mut found = Contributors::default();
    match (kind, Target::parse(name)) {
        (Kind::Workload, _) => {
            found.workload(world, name);
            found.telemetry(world, name);
        }
        // What our own proxy finds in its workload, stock Envoy has in these, but for Telemetry, which it does not heed.
        (Kind::Listener, _) => {
            if let Some((_, pod)) = own_listener(name) {
                found.workload(world, pod);
            } else if let Some(address) = names::address(name) {
                let of = |callers: &Callers| {
                    let mut found = Contributors::default();
                    if let Some(listener) = listener::at(world, address, callers) {
                        found.set_by(&listener.setters);
                        let named = listener.by_name.iter().flat_map(|named| &named.backends);
                        let backends = listener.backends.iter().chain(named);
                        found.divided(world, backends.map(|backend| &backend.cluster), false);
                    }
                    found
                };
                let own = listener::consumers(world, name)
                    .into_iter()
                    .map(|namespace| (Some(Arc::clone(&namespace)), of(&Callers::Of(namespace))));
                return own.chain([(None, of(&Callers::All))]).collect();
            }
        }
        (Kind::Cluster, Some(target)) => {
            let settled = cluster::settled(world, &target).unwrap_or_default();
            found.set_by(&settled.setters(Scope::Cluster));
            found.divided(world, [name], false);
        }
        // Stock Envoy's, for a pod's own address.
        (Kind::Cluster, None) => {
            if let Some(address) = names::address(name)
                && let Some(pod) = world.pod_at(address.ip())
            {
                let settled = envoy::opaque(world, pod, address.port());
                found.set_by(&settled.setters(Scope::Cluster));
            }
        }
        (Kind::Route, Some(Target::Service(Part { service, port, .. }))) => {
            let own = route::consumers(world, name).into_iter().map(|namespace| {
                let callers = Callers::Of(Arc::clone(&namespace));
                (Some(namespace), of_route(world, name, &service, port, &callers))
            });
            let shared = of_route(world, name, &service, port, &Callers::All);
            return own.chain([(None, shared)]).collect();
        }
        (Kind::Route, Some(Target::Pod(..))) => {
            let rules = route::compile(world, name, &Callers::All).map(|route| route.rules);
            rules.iter().flatten().for_each(|rule| found.set_by(&rule.setters));
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
    rules.iter().for_each(|rule| found.set_by(&rule.setters));
    let backends = rules.iter().flat_map(|rule| match &rule.action {
        Action::Forward(backends) => backends.as_slice(),
        Action::Redirect(_) | Action::Fail(_) => &[],
    });
    let stick = rules.iter().any(|rule| rule.stick.is_some());
    found.divided(world, backends.map(|backend| &backend.cluster), stick);
    found.all.extend(rules.iter().filter_map(|rule| lane::denied_by(&rule.origin)));
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
        for policy in world.access_for(pod) {
            let object = ObjectRef { kind: ObjectKind::AccessPolicy, name: policy.name.clone() };
            self.needs.push(Need {
                feature: Feature::Access,
                object: object.clone(),
                field: access::FIELD.to_owned(),
            });
            self.all.insert(object);
        }
        for lane in world.lanes_in(&pod.name.namespace) {
            let (object, field) = (lane.reference(), lane::FIELD.to_owned());
            self.needs.push(Need { feature: Feature::Lane, object: object.clone(), field });
            self.all.insert(object);
        }
        let Some(config) = world.mesh_config() else {
            return;
        };
        let object = ObjectRef { kind: ObjectKind::MeshConfig, name: config.name.clone() };
        let said = config.knobs.keys().filter(|knob| !pod.knobs.contains_key(knob));
        self.needs.extend(said.map(|knob| Need {
            feature: Feature::Knob(*knob),
            object: object.clone(),
            field: workload::field(*knob),
        }));
        self.all.insert(object);
    }

    fn telemetry(&mut self, world: &World, name: &str) {
        let pod = names::pod(name).and_then(|name| world.pod(&name));
        for telemetry in pod.map(|pod| world.telemetry_for(pod)).unwrap_or_default() {
            let object = ObjectRef { kind: ObjectKind::Telemetry, name: telemetry.name.clone() };
            self.needs.push(Need {
                feature: Feature::Telemetry,
                object: object.clone(),
                field: telemetry::FIELD.to_owned(),
            });
            self.all.insert(object);
        }
    }

    fn route(&mut self, world: &World, service: &Name, number: u16, callers: &Callers) {
        let Some((service, port)) =
            world.service(service).and_then(|service| Some((service, service.port(number)?)))
        else {
            return;
        };
        let routes = attached::in_force(world, service, port, false);
        let routes = routes.filter(|(of, _)| of == callers);
        self.all.extend(routes.map(|(_, route)| route.reference()));
    }

    /// The lanes that take some of what goes to these clusters, and the releases that divide the rest; `stick`: and say who stays with
    /// which version.
    fn divided(
        &mut self,
        world: &World,
        clusters: impl IntoIterator<Item = impl AsRef<str>>,
        stick: bool,
    ) {
        let (mut lanes, mut others) = (Vec::new(), Vec::new());
        for cluster in clusters {
            match lane::taken_by(cluster.as_ref()) {
                Some(lane) => lanes.push(lane),
                None => others.push(cluster),
            }
        }
        self.all.extend(lanes);
        for release in split::releases(world, others) {
            let object = release.reference();
            if stick && release.plan.stick_by.is_some() {
                let (feature, object) = (Feature::Sticky, object.clone());
                self.needs.push(Need { feature, object, field: "spec.stickBy".to_owned() });
            }
            self.all.insert(object);
        }
    }

    /// The policies, TCPRoutes and TLSRoutes among those that set something.
    fn set_by(&mut self, setters: &[Setter]) {
        let kinds = [ObjectKind::TrafficPolicy, ObjectKind::TcpRoute, ObjectKind::TlsRoute];
        let object = |Origin { kind, namespace, name, .. }: &Origin| {
            let kind = kinds.into_iter().find(|known| known.as_str() == kind)?;
            Some(ObjectRef { kind, name: Name::new(namespace, name) })
        };
        for object in setters.iter().filter_map(|setter| object(&setter.origin)) {
            if object.kind == ObjectKind::TlsRoute {
                let (feature, object) = (Feature::ByName, object.clone());
                self.needs.push(Need { feature, object, field: "spec.hostnames".to_owned() });
            }
            self.all.insert(object);
        }
    }
}
