//! What a port speaks, and where on a pod it is.

use std::net::SocketAddr;

use tulle_xds::model::{Origin, Protocol, ServicePort as ModelPort, UpstreamProtocol};

use super::Settings;
use crate::world::{
    World,
    objects::{Pod, Service, ServicePort, TargetPort},
};

/// What a Service's port declares: `appProtocol` if it is one that we know, else the part of the
/// port's name before the first `-`. The names are those that Kubernetes (KEP-3726) and other
/// meshes use.
pub(super) fn declared(port: &ServicePort) -> Protocol {
    let app_protocol = port.app_protocol.as_deref().map(named);
    let prefix = port.name.split('-').next().unwrap_or_default();
    app_protocol.filter(|known| *known != Protocol::Detect).unwrap_or_else(|| named(prefix))
}

fn named(protocol: &str) -> Protocol {
    let eq = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(protocol));
    if eq(&["http", "ws", "http1", "kubernetes.io/ws"]) {
        Protocol::Http
    } else if eq(&["http2", "h2c", "kubernetes.io/h2c"]) {
        Protocol::Http2
    } else if eq(&["grpc", "kubernetes.io/grpc"]) {
        Protocol::Grpc
    } else if eq(&[
        "tcp",
        "tls",
        "https",
        "wss",
        "kubernetes.io/wss",
        "mysql",
        "mongo",
        "redis",
        "postgres",
        "postgresql",
        "amqp",
        "kafka",
        "smtp",
        "ldap",
    ]) {
        // Encrypted by the application, or no HTTP: bytes. Several of these speak first.
        Protocol::Tcp
    } else {
        Protocol::Detect
    }
}

/// The port on `pod` that `target` means.
pub(super) fn on_pod(target: &TargetPort, pod: &Pod) -> Option<u16> {
    match target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => {
            pod.ports.iter().find(|port| port.name == *name).map(|port| port.port)
        }
    }
}

/// What is declared for a port of a pod, by the Services that target it or, if none does, by the
/// container port's own name. Services that contradict each other declare nothing: detection gets
/// each of them right.
pub(super) fn declared_on_pod(world: &World, pod: &Pod, number: u16) -> Protocol {
    let mut by_services = Vec::new();
    for service in world.services_selecting(pod) {
        let ports = service.ports.iter();
        let targeting = ports.filter(|port| on_pod(&port.target, pod) == Some(number));
        by_services.extend(targeting.map(declared));
    }
    by_services.retain(|protocol| *protocol != Protocol::Detect);
    by_services.dedup();
    match by_services.as_slice() {
        [] => {
            let container = pod.ports.iter().find(|port| port.port == number);
            container.map_or(Protocol::Detect, |port| {
                named(port.name.split('-').next().unwrap_or_default())
            })
        }
        [first, rest @ ..] if rest.iter().all(|other| other == first) => *first,
        _ => Protocol::Detect,
    }
}

/// HTTP version towards an endpoint without sidecar. What is declared as plain HTTP gets what the
/// client spoke: nothing was said about versions.
pub(super) fn upstream(protocol: Protocol) -> UpstreamProtocol {
    match protocol {
        Protocol::Http2 | Protocol::Grpc => UpstreamProtocol::Http2,
        Protocol::Http | Protocol::Detect | Protocol::Tcp => UpstreamProtocol::Same,
    }
}

pub(super) fn service_port(settings: &Settings, service: &Service, port: u16) -> ModelPort {
    let (namespace, name) = (&service.name.namespace, &service.name.name);
    ModelPort {
        namespace: namespace.to_string(),
        name: name.to_string(),
        port,
        host: format!("{name}.{namespace}.svc.{}", settings.cluster_domain),
    }
}

/// The first of the pod's own addresses of the same family as `like`, or simply its first.
pub(super) fn first_address(pod: &Pod, port: u16) -> Option<SocketAddr> {
    pod.ips.first().map(|ip| SocketAddr::new(*ip, port))
}

pub(super) fn origin(kind: &str, namespace: &str, name: &str) -> Origin {
    Origin {
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        rule: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, app_protocol: Option<&str>) -> ServicePort {
        ServicePort {
            name: name.to_owned(),
            port: 80,
            target: TargetPort::Number(80),
            app_protocol: app_protocol.map(str::to_owned),
        }
    }

    #[test]
    fn app_protocol_beats_the_name() {
        for (name, app_protocol, protocol) in [
            ("", None, Protocol::Detect),
            ("web", None, Protocol::Detect),
            ("http", None, Protocol::Http),
            ("http-web", None, Protocol::Http),
            ("httpd", None, Protocol::Detect),
            ("grpc-api", None, Protocol::Grpc),
            ("https", None, Protocol::Tcp),
            ("http", Some("kubernetes.io/h2c"), Protocol::Http2),
            ("http", Some("example.com/own"), Protocol::Http),
            ("tcp-x", Some("HTTP"), Protocol::Http),
        ] {
            assert_eq!(declared(&port(name, app_protocol)), protocol, "{name} {app_protocol:?}");
        }
    }
}
