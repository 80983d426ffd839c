//! Pod.

use std::{net::IpAddr, sync::Arc};

use k8s_openapi::api::core::v1;
use serde_json::Value;

use super::{
    Fault, Field, Name,
    knobs::{self, ANNOTATION},
    metadata,
    typed::{self, Unknown},
};
use crate::inject::{EXCLUDE_INBOUND_PORTS, INCLUDE_INBOUND_PORTS};
use crate::world::objects::{ContainerPort, Life, Object, Pod, Redirected};

/// What a replica of the control plane has as its label.
const REPLICA: (&str, &str) = ("app.kubernetes.io/name", "tulle-control-plane");

/// The container that makes a pod meshed, whether it is a native sidecar or an ordinary one.
const SIDECAR: &str = "tulle-proxy";

pub(super) fn convert(name: &Name, value: &Value, faults: &mut Vec<Fault>) -> Option<Object> {
    let mut value = value.clone();
    quantities_as_text(&mut value);
    let mut pod: v1::Pod = typed::read(&value, Unknown::Note, faults)?;
    let Some(spec) = pod.spec.take() else {
        faults.push(Fault::fatal("spec", "is missing"));
        return None;
    };
    let status = pod.status.take().unwrap_or_default();
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let annotations = pod.metadata.annotations.take().unwrap_or_default();
    // Injection has refused what is no list of ports.
    let listed = |name: &str| -> Vec<u16> {
        let text = annotations.get(&format!("{ANNOTATION}{name}")).map_or("", String::as_str);
        text.split(',').filter_map(|port| port.trim().parse().ok()).collect()
    };
    let sidecar = containers().filter(|container| container.name == SIDECAR);
    let own = sidecar.flat_map(ports).map(|port| port.port);
    let owners = pod.metadata.owner_references.take().unwrap_or_default();

    let labels = metadata::labels(&mut pod.metadata);
    let is_replica = labels.get(REPLICA.0).is_some_and(|name| name == REPLICA.1);

    Some(Object::Pod(Arc::new(Pod {
        name: name.clone(),
        uid: pod.metadata.uid.take().unwrap_or_default(),
        labels,
        service_account: spec
            .service_account_name
            .clone()
            .filter(|account| !account.is_empty())
            .unwrap_or_else(|| "default".to_owned()),
        ips: addresses(&status, faults),
        host_network: spec.host_network == Some(true),
        ended: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
        // The sidecar's own ports are the mesh's business, not the application's.
        ports: containers().filter(|container| container.name != SIDECAR).flat_map(ports).collect(),
        meshed: containers().any(|container| container.name == SIDECAR),
        redirected: Redirected {
            only: listed(INCLUDE_INBOUND_PORTS),
            except: listed(EXCLUDE_INBOUND_PORTS),
            // They are read as they are: whoever scrapes its metrics may be meshed.
            own: own.collect(),
        },
        knobs: knobs::of_pod(annotations.iter(), faults),
        owner: owners
            .into_iter()
            .find(|owner| owner.controller == Some(true))
            .map(|owner| (owner.kind, owner.name)),
        node: spec.node_name.clone().unwrap_or_default(),
        replica: is_replica && is_ready(&status),
        life: Life::default(),
    })))
}

fn is_ready(status: &v1::PodStatus) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// `podIPs`, or `podIP` where a writer sets only that.
fn addresses(status: &v1::PodStatus, faults: &mut Vec<Fault>) -> Vec<IpAddr> {
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let mut texts: Vec<&str> = all.filter(|ip| !ip.is_empty()).collect();
    if texts.is_empty() {
        texts.extend(status.pod_ip.as_deref().filter(|ip| !ip.is_empty()));
    }
    let field = |index| Field::from("status.podIPs").index(index);
    texts
        .into_iter()
        .enumerate()
        .filter_map(|(index, text)| address(text, || field(index), faults))
        .collect()
}

/// An address; an IPv4 one that is written as IPv6 becomes IPv4.
pub(super) fn address(
    text: &str,
    field: impl FnOnce() -> Field,
    faults: &mut Vec<Fault>,
) -> Option<IpAddr> {
    let parsed = text.parse::<IpAddr>();
    if parsed.is_err() {
        faults.push(Fault::note(field(), format!("{text:?} is no IP address")));
    }
    parsed.ok().map(|ip| ip.to_canonical())
}

/// What a container says that it listens on, by TCP.
fn ports(container: &v1::Container) -> Vec<ContainerPort> {
    let ports = container.ports.iter().flatten();
    ports
        .filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
        .filter_map(|port| {
            let number = u16::try_from(port.container_port).ok().filter(|port| *port > 0)?;
            Some(ContainerPort { name: port.name.clone().unwrap_or_default(), port: number })
        })
        .collect()
}

/// Kubernetes takes `cpu: 1` for `cpu: "1"`; the type does not.
fn quantities_as_text(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(quantities_as_text),
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("sizeLimit" | "divisor", value @ Value::Number(_)) => {
                        *value = Value::String(value.to_string());
                    }
                    ("limits" | "requests" | "overhead", Value::Object(quantities)) => {
                        for quantity in quantities.values_mut().filter(|q| q.is_number()) {
                            *quantity = Value::String(quantity.to_string());
                        }
                    }
                    (_, value) => quantities_as_text(value),
                }
            }
        }
        _ => {}
    }
}
