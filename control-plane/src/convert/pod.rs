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

    let life = life(&spec, &status, pod.metadata.deletion_timestamp.is_some());
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
        life,
    })))
}

fn is_ready(status: &v1::PodStatus) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// How its containers are, native sidecars of others among them, without our own.
fn life(spec: &v1::PodSpec, status: &v1::PodStatus, ends: bool) -> Life {
    let always = |name: &str| {
        let mut all = spec.init_containers.iter().flatten();
        all.any(|one| one.name == name && one.restart_policy.as_deref() == Some("Always"))
    };
    let sidecars = status.init_container_statuses.iter().flatten().filter(|one| always(&one.name));
    let own = status.container_statuses.iter().flatten();
    let all: Vec<_> = own.chain(sidecars).filter(|one| one.name != SIDECAR).collect();
    let began = |one: &&v1::ContainerStatus| {
        let running = one.state.as_ref()?.running.as_ref()?;
        u64::try_from(running.started_at.as_ref()?.0.as_second()).ok()
    };
    let runs = status.phase.as_deref() == Some("Running") && !ends;
    Life {
        ready: runs && is_ready(status),
        serving: runs && !all.is_empty() && all.iter().all(|one| one.ready),
        since: all.iter().filter_map(began).max().unwrap_or(0),
        restarts: all.iter().map(|one| u32::try_from(one.restart_count).unwrap_or(0)).sum(),
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::convert::convert;

    fn life(metadata: &Value, phase: &str, statuses: &Value, init: &Value) -> Life {
        let mut value = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "shop", "name": "a"},
            "spec": {
                "containers": [{"name": "app"}, {"name": "helper"}],
                "initContainers": [
                    {"name": "setup"},
                    {"name": "tulle-proxy", "restartPolicy": "Always"},
                    {"name": "logs", "restartPolicy": "Always"},
                ],
            },
            "status": {"phase": phase, "containerStatuses": statuses, "initContainerStatuses": init},
        });
        for (key, said) in metadata.as_object().unwrap() {
            value["metadata"][key] = said.clone();
        }
        let outcome = convert(&value);
        assert_eq!(outcome.faults, []);
        match outcome.object {
            Some(Object::Pod(pod)) => pod.life,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_pod_serves_if_nothing_but_its_sidecar_is_not_ready() {
        let status = |name: &str, ready: bool, restarts: u32, second: u32| {
            json!({
                "name": name, "ready": ready, "restartCount": restarts, "image": "", "imageID": "",
                "state": {"running": {"startedAt": format!("1970-01-01T00:01:{second:02}Z")}},
            })
        };
        let own = json!([status("app", true, 2, 5), status("helper", true, 1, 9)]);
        let done = json!({
            "name": "setup", "ready": false, "restartCount": 7, "image": "", "imageID": "",
        });
        let held = status("tulle-proxy", false, 4, 30);
        let init = |logs: bool| json!([done, held, status("logs", logs, 1, 7)]);
        let none = json!({});
        let lives = Life { serving: true, ready: false, since: 69, restarts: 4 };
        assert_eq!(life(&none, "Running", &own, &init(true)), lives);
        let not = Life { serving: false, ..lives };
        assert_eq!(life(&none, "Running", &own, &init(false)), not, "another's sidecar");
        assert_eq!(life(&none, "Pending", &own, &init(true)), not);
        let ends = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!(life(&ends, "Running", &own, &init(true)), not);
        assert_eq!(life(&none, "Running", &json!([]), &json!([])), Life::default());
        let one = json!([status("app", true, 0, 5), status("helper", false, 0, 9)]);
        assert!(!life(&none, "Running", &one, &init(true)).serving);
    }
}
