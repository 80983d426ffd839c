//! Workload: what a proxy is told about itself.

use std::collections::{BTreeMap, BTreeSet};

use tulle_xds::model::{
    ExternalTraffic, InboundPort, Knob, Knobs, MTLS_MODE, MtlsMode, Setter, SpiffeId,
    TRUST_DOMAINS, Workload, mtls_port,
};

use super::{Settings, access, lane, names, port, telemetry};
use crate::{
    convert::knobs::ANNOTATION,
    world::{
        World,
        objects::{self, Kind, Pod},
    },
};

pub(super) fn compile(world: &World, settings: &Settings, name: &str) -> Option<Workload> {
    let pod = world.pod(&names::pod(name)?)?;
    let (namespace, account) = (&pod.name.namespace, &pod.service_account);
    let identity = SpiffeId::service_account(&settings.trust_domain, namespace, account);
    let objects::Workload { kind: owner_kind, name: owner_name, .. } = pod.workload();
    let tls = Tls::of(world, pod);
    let (knobs, mut setters) = knobs(world, pod);
    let access = access::of(world, settings, pod);
    let ports = ports(world, pod, &tls, access::ports(&access));
    setters.extend(tls.setters);
    let (telemetry, said) = telemetry::of(world, pod);
    setters.extend(said);
    Some(Workload {
        name: name.to_owned(),
        uid: pod.uid.clone(),
        identity,
        owner_kind,
        owner_name,
        revision: pod.revision().to_owned(),
        addresses: pod.ips.clone(),
        ports,
        default_mtls: tls.default,
        mesh_ranges: mesh_ranges(world, settings),
        external_traffic: match world.mesh_config().and_then(|config| config.refuse_external) {
            Some(true) => ExternalTraffic::Refuse,
            Some(false) | None => ExternalTraffic::Pass,
        },
        hold: world.hold(pod),
        trust_domains: trust_domains(settings, tls.trust_domains),
        cluster_domain: match world.mesh_config().and_then(|config| config.pass_on_dns) {
            Some(true) => String::new(),
            Some(false) | None => settings.cluster_domain.clone(),
        },
        knobs,
        setters,
        access,
        node: pod.node.clone(),
        zone: world.zone(&pod.node).to_owned(),
        telemetry: Box::new(telemetry),
        counted: world.is_being_released(pod),
        lanes: world.lanes_in(namespace).map(|told| lane::told(told)).collect(),
    })
}

/// Settings of the sidecar, and who set them: the pod comes before the mesh.
fn knobs(world: &World, pod: &Pod) -> (Knobs, Vec<Setter>) {
    let mut knobs = Knobs::new();
    let mut setters = Vec::new();
    if let Some(config) = world.mesh_config() {
        knobs.extend(&config.knobs);
        let said = config.knobs.keys().filter(|knob| !pod.knobs.contains_key(knob));
        setters.extend(said.map(|knob| Setter {
            field: field(*knob),
            origin: port::origin("MeshConfig", "", &config.name.name),
        }));
    }
    knobs.extend(&pod.knobs);
    setters.extend(pod.knobs.keys().map(|knob| Setter {
        field: format!("metadata.annotations[{ANNOTATION}{}]", knob.annotation()),
        origin: port::origin("Pod", &pod.name.namespace, &pod.name.name),
    }));
    (knobs, setters)
}

/// The field of MeshConfig that says it.
pub(super) fn field(knob: Knob) -> String {
    format!("spec.proxy.{}", knob.name())
}

fn ports(world: &World, pod: &Pod, tls: &Tls, told: impl Iterator<Item = u16>) -> Vec<InboundPort> {
    let declared = pod.ports.iter().map(|port| (port.port, BTreeSet::new()));
    let mut services: BTreeMap<u16, BTreeSet<String>> = declared.collect();
    for service in world.services_selecting(pod) {
        for number in service.ports.iter().filter_map(|port| port::on_pod(&port.target, pod)) {
            services.entry(number).or_default().insert(service.name.to_string());
        }
    }
    // What is said of a port that nobody declares holds, too.
    for number in tls.ports.keys().copied().chain(told) {
        services.entry(number).or_default();
    }
    services
        .into_iter()
        .map(|(number, services)| InboundPort {
            port: number,
            protocol: port::declared_on_pod(world, pod, number),
            mtls: tls.ports.get(&number).copied().unwrap_or(tls.default),
            services: services.into_iter().collect(),
        })
        .collect()
}

/// What all MeshTLS objects together say about a pod.
struct Tls {
    default: MtlsMode,
    ports: BTreeMap<u16, MtlsMode>,
    trust_domains: Vec<String>,
    setters: Vec<Setter>,
}

impl Tls {
    /// Field by field the most specific wins. An exception for a port outlives the general mode of
    /// a more specific object: it is a field of its own, and was made for that port.
    fn of(world: &World, pod: &Pod) -> Self {
        let mut merged = Self {
            default: MtlsMode::default(),
            ports: BTreeMap::new(),
            trust_domains: Vec::new(),
            setters: Vec::new(),
        };
        let mut setters = BTreeMap::new();
        for tls in world.mesh_tls_for(pod) {
            let origin = port::origin(Kind::MeshTls.as_str(), &tls.name.namespace, &tls.name.name);
            let mut set = |field| drop(setters.insert(field, origin.clone()));
            if let Some(mode) = tls.mode {
                merged.default = self::mode(mode);
                set(MTLS_MODE.to_owned());
            }
            tls.ports.keys().for_each(|port| set(mtls_port(*port)));
            if !tls.trust_domains.is_empty() {
                set(TRUST_DOMAINS.to_owned());
            }
            merged.ports.extend(tls.ports.iter().map(|(port, mode)| (*port, self::mode(*mode))));
            if !tls.trust_domains.is_empty() {
                merged.trust_domains.clone_from(&tls.trust_domains);
            }
        }
        let setter = |(field, origin)| Setter { field, origin };
        merged.setters = setters.into_iter().map(setter).collect();
        merged
    }
}

fn mode(mode: objects::MtlsMode) -> MtlsMode {
    match mode {
        objects::MtlsMode::Permissive => MtlsMode::Permissive,
        objects::MtlsMode::Strict => MtlsMode::Strict,
    }
}

fn mesh_ranges(world: &World, settings: &Settings) -> Vec<ipnet::IpNet> {
    let configured = world.mesh_config().into_iter().flat_map(|config| &config.mesh_ranges);
    let all: BTreeSet<_> = settings.mesh_ranges.iter().chain(configured).copied().collect();
    all.into_iter().collect()
}

fn trust_domains(settings: &Settings, others: Vec<String>) -> Vec<String> {
    let mut all: BTreeSet<_> = others.into_iter().collect();
    all.remove(&settings.trust_domain);
    std::iter::once(settings.trust_domain.clone()).chain(all).collect()
}
