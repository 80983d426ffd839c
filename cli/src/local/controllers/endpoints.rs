//! Service and pods → EndpointSlices.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Pod, Service, ServicePort},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use super::{Id, Labels, services::Family};

/// A pod as far as Services care.
#[derive(Debug, Clone, Copy)]
pub(in crate::local) struct Backend<'a> {
    pub(in crate::local) pod: &'a Pod,
    /// Condition `Ready`.
    pub(in crate::local) ready: bool,
    /// It has a deletion timestamp.
    pub(in crate::local) terminating: bool,
}

/// Slices by their Service: thousands of each must not be compared with each other.
#[derive(Debug)]
pub(in crate::local) struct ByService<'a>(HashMap<Id, Vec<&'a EndpointSlice>>);

impl<'a> ByService<'a> {
    /// All slices of a Service, in the order in which they came.
    pub(in crate::local) fn of(&self, service: &Id) -> &[&'a EndpointSlice] {
        self.0.get(service).map_or(&[], Vec::as_slice)
    }
}

impl<'a> FromIterator<&'a EndpointSlice> for ByService<'a> {
    fn from_iter<I: IntoIterator<Item = &'a EndpointSlice>>(slices: I) -> Self {
        let mut all: HashMap<_, Vec<_>> = HashMap::new();
        for slice in slices {
            let ObjectMeta { labels, namespace, .. } = &slice.metadata;
            let service = labels.as_ref().and_then(|l| l.get("kubernetes.io/service-name"));
            if let (Some(service), Some(namespace)) = (service, namespace) {
                all.entry(Id::new(namespace, service)).or_default().push(slice);
            }
        }
        Self(all)
    }
}

/// The slices of a filled Service: one for each family and set of resolved ports (a named target port
/// may have another number in each pod). A Service without a selector has none of ours.
pub(in crate::local) fn slices(
    id: &Id,
    service: &Service,
    pods: &[Backend<'_>],
) -> Vec<EndpointSlice> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let Some(selector) = spec.selector.as_ref().filter(|selector| !selector.is_empty()) else {
        return Vec::new();
    };
    let families = spec.ip_families.iter().flatten();
    let families: Vec<Family> =
        families.map(|f| if f == "IPv6" { Family::V6 } else { Family::V4 }).collect();
    let ports: Vec<ServicePort> = spec.ports.clone().unwrap_or_default();
    let publish_all = spec.publish_not_ready_addresses.unwrap_or(false);
    let mut slices = Vec::new();
    for family in families {
        let mut groups: BTreeMap<Numbers, Vec<Endpoint>> = BTreeMap::new();
        for backend in pods.iter().filter(|backend| chosen(selector, id, backend.pod)) {
            let Some(address) = address(backend.pod, family) else {
                continue;
            };
            let numbers = ports.iter().map(|port| target(port, backend.pod)).collect();
            let endpoint = endpoint(id, backend, address, publish_all);
            groups.entry(numbers).or_default().push(endpoint);
        }
        if groups.is_empty() {
            // An empty slice says "none", where no slice would say "not yet known".
            groups.insert(vec![None; ports.len()], Vec::new());
        }
        for (index, (numbers, endpoints)) in groups.into_iter().enumerate() {
            slices.push(slice(id, family, index, (&ports, &numbers), endpoints));
        }
    }
    slices
}

/// A pod's ports, in the order of the Service's; none where it has no port of that name.
type Numbers = Vec<Option<i32>>;

fn chosen(selector: &Labels, service: &Id, pod: &Pod) -> bool {
    let metadata = &pod.metadata;
    let labels = metadata.labels.as_ref();
    metadata.namespace.as_deref() == Some(&service.namespace)
        && selector.iter().all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value))
}

fn address(pod: &Pod, family: Family) -> Option<String> {
    let ips = pod.status.as_ref()?.pod_ips.as_ref()?;
    let mut ips = ips.iter().map(|ip| &ip.ip);
    ips.find(|ip| ip.parse::<IpAddr>().is_ok_and(|ip| Family::of(&ip) == family)).cloned()
}

/// The port that the pod listens on for this port of the Service.
fn target(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let sidecars = spec.init_containers.iter().flatten();
            let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
            let containers = spec.containers.iter().chain(sidecars);
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            ports
                .find(|p| {
                    p.name.as_deref() == Some(name)
                        && p.protocol.as_deref().unwrap_or("TCP") == protocol
                })
                .map(|p| p.container_port)
        }
    }
}

fn endpoint(service: &Id, backend: &Backend<'_>, address: String, publish_all: bool) -> Endpoint {
    let Backend { pod, ready, terminating } = *backend;
    let spec = pod.spec.as_ref();
    let subdomain = spec.and_then(|spec| spec.subdomain.as_deref());
    let hostname = spec.and_then(|spec| spec.hostname.clone());
    Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(publish_all || (ready && !terminating)),
            serving: Some(ready),
            terminating: Some(terminating),
        }),
        hostname: hostname.filter(|_| subdomain == Some(&service.name)),
        node_name: spec.and_then(|spec| spec.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

fn slice(
    id: &Id,
    family: Family,
    index: usize,
    (ports, numbers): (&[ServicePort], &Numbers),
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let suffix = if index == 0 { String::new() } else { format!("-{index}") };
    let ports = ports.iter().zip(numbers).filter(|(_, number)| number.is_some());
    EndpointSlice {
        address_type: family.name().to_owned(),
        endpoints: Some(endpoints),
        metadata: ObjectMeta {
            name: Some(format!("{}-{}{suffix}", id.name, family.name().to_lowercase())),
            namespace: Some(id.namespace.clone()),
            labels: Some(Labels::from([
                ("kubernetes.io/service-name".to_owned(), id.name.clone()),
                (
                    "endpointslice.kubernetes.io/managed-by".to_owned(),
                    "endpointslice-controller.k8s.io".to_owned(),
                ),
            ])),
            ..ObjectMeta::default()
        },
        ports: Some(
            ports
                .map(|(port, number)| EndpointPort {
                    app_protocol: port.app_protocol.clone(),
                    name: Some(port.name.clone().unwrap_or_default()),
                    port: *number,
                    protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                })
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, ip: &str, port: i32) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "a"}},
            "spec": {
                "hostname": name, "subdomain": "s",
                "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}],
            },
            "status": {"podIPs": [{"ip": ip}, {"ip": "fd00:10:244::5"}]},
        }))
        .unwrap()
    }

    fn service(extra: &str) -> Service {
        let yaml = format!(
            "spec: {{selector: {{app: a}}, ipFamilies: [IPv4], \
             ports: [{{name: web, port: 80, targetPort: http}}]{extra}}}"
        );
        serde_yaml_ng::from_str(&yaml).unwrap()
    }

    fn conditions(slice: &EndpointSlice) -> Vec<(bool, bool, bool)> {
        let endpoints = slice.endpoints.iter().flatten();
        let conditions = endpoints.map(|endpoint| endpoint.conditions.clone().unwrap());
        conditions.map(|c| (c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap())).collect()
    }

    #[test]
    fn readiness_and_termination() {
        let (a, b) = (pod("a", "10.244.0.2", 80), pod("b", "10.244.0.3", 80));
        let (c, mut stranger) = (pod("c", "10.244.0.4", 80), pod("d", "10.244.0.9", 80));
        stranger.metadata.namespace = Some("other".into());
        let backend = |pod, ready, terminating| Backend { pod, ready, terminating };
        let pods = [
            backend(&a, true, false),
            backend(&b, false, false),
            backend(&c, true, true),
            backend(&stranger, true, false),
        ];
        let id = Id::new("ns", "s");
        let slices_now = slices(&id, &service(""), &pods);
        assert_eq!(slices_now.len(), 1);
        assert_eq!(
            conditions(&slices_now[0]),
            [(true, true, false), (false, false, false), (false, true, true)]
        );
        let endpoints = slices_now[0].endpoints.as_ref().unwrap();
        assert_eq!(endpoints[0].hostname.as_deref(), Some("a"));
        assert_eq!(endpoints[0].target_ref.as_ref().unwrap().name.as_deref(), Some("a"));

        let all = slices(&id, &service(", publishNotReadyAddresses: true"), &pods);
        assert_eq!(
            conditions(&all[0]),
            [(true, true, false), (true, false, false), (true, true, true)]
        );
    }

    #[test]
    fn a_named_port_is_resolved_in_each_pod() {
        let (a, b) = (pod("a", "10.244.0.2", 8080), pod("b", "10.244.0.3", 9090));
        let backend = |pod| Backend { pod, ready: true, terminating: false };
        let slices = slices(&Id::new("ns", "s"), &service(""), &[backend(&a), backend(&b)]);
        let ports: Vec<_> = slices.iter().map(|s| s.ports.as_ref().unwrap()[0].port).collect();
        assert_eq!(ports, [Some(8080), Some(9090)]);
        assert_eq!(slices[1].metadata.name.as_deref(), Some("s-ipv4-1"));
    }

    #[test]
    fn nobody_there_is_an_empty_slice() {
        let slices = slices(&Id::new("ns", "s"), &service(""), &[]);
        assert_eq!(slices[0].endpoints, Some(vec![]));
    }
}
