//! EndpointSlice.

use std::sync::Arc;

use k8s_openapi::api::discovery::v1;
use serde_json::Value;

use super::{
    Fault, Field, Name,
    pod::address,
    service::number,
    typed::{self, Unknown},
};
use crate::world::objects::{EndpointSlice, Object, SliceEndpoint, SlicePort};

const SERVICE_LABEL: &str = "kubernetes.io/service-name";

pub(super) fn convert(name: &Name, value: &Value, faults: &mut Vec<Fault>) -> Option<Object> {
    let slice: v1::EndpointSlice = typed::read(value, Unknown::Note, faults)?;
    let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL));
    if service.is_none() {
        let reason = format!("has no label {SERVICE_LABEL}, so it belongs to no Service");
        faults.push(Fault::note("metadata.labels", reason));
    }
    let ports = slice.ports.iter().flatten().enumerate();
    Some(Object::EndpointSlice(Arc::new(EndpointSlice {
        name: name.clone(),
        service: service.map(|service| Name::new(&name.namespace, service)),
        ports: ports
            .filter(|(_, port)| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
            .filter_map(|(index, port)| {
                // Without a number it means "every port" (headless, without selector): not for us.
                let field = Field::from("ports").index(index).key("port");
                let number = number(port.port?);
                let number =
                    number.map_err(|reason| faults.push(Fault::fatal(field, reason))).ok()?;
                Some(SlicePort { name: port.name.clone().unwrap_or_default(), port: number })
            })
            .collect(),
        endpoints: slice
            .endpoints
            .iter()
            .flatten()
            .enumerate()
            .map(|(index, endpoint)| self::endpoint(name, index, endpoint, faults))
            .collect(),
    })))
}

fn endpoint(
    slice: &Name,
    index: usize,
    endpoint: &v1::Endpoint,
    faults: &mut Vec<Fault>,
) -> SliceEndpoint {
    let field = Field::from("endpoints").index(index).key("addresses");
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let hints = endpoint.hints.clone().unwrap_or_default();
    let target = endpoint.target_ref.as_ref();
    let pod = target.filter(|target| target.kind.as_deref() == Some("Pod")).and_then(|target| {
        let namespace = target.namespace.as_deref().unwrap_or(&slice.namespace);
        let name = Name::new(namespace, target.name.as_deref()?);
        Some((name, target.uid.clone().unwrap_or_default()))
    });
    // FQDN slices are deprecated and have no addresses that could be dialled: each is named.
    let addresses = endpoint.addresses.iter().enumerate();
    SliceEndpoint {
        addresses: addresses
            .filter_map(|(at, text)| address(text, || field.index(at), faults))
            .collect(),
        ready: conditions.ready.unwrap_or(true),
        serving: conditions.serving.or(conditions.ready).unwrap_or(true),
        terminating: conditions.terminating.unwrap_or(false),
        pod,
        zone: endpoint.zone.clone().unwrap_or_default(),
        node: endpoint.node_name.clone().unwrap_or_default(),
        for_nodes: hints.for_nodes.into_iter().flatten().map(|node| node.name).collect(),
        for_zones: hints.for_zones.into_iter().flatten().map(|zone| zone.name).collect(),
        hostname: endpoint.hostname.as_deref().unwrap_or_default().to_ascii_lowercase(),
    }
}
