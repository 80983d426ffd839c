//! Service.

use std::sync::Arc;

use k8s_openapi::{api::core::v1, apimachinery::pkg::util::intstr::IntOrString};
use serde_json::Value;

use super::{
    Fault, Field, Name,
    pod::address,
    typed::{self, Unknown},
};
use crate::world::objects::{Object, Service, ServicePort, TargetPort};

pub(super) fn convert(name: &Name, value: &Value, faults: &mut Vec<Fault>) -> Option<Object> {
    let service: v1::Service = typed::read(value, Unknown::Note, faults)?;
    let spec = service.spec.unwrap_or_default();
    let external = spec.type_.as_deref() == Some("ExternalName");

    let single = spec.cluster_ip.into_iter();
    let texts = spec.cluster_ips.filter(|ips| !ips.is_empty()).unwrap_or_else(|| single.collect());
    let cluster_ips = texts
        .iter()
        .filter(|ip| !external && !ip.is_empty() && *ip != "None")
        .filter_map(|ip| address(ip, || Field::from("spec.clusterIP"), faults))
        .collect();

    let ports = spec.ports.iter().flatten().enumerate();
    Some(Object::Service(Arc::new(Service {
        name: name.clone(),
        cluster_ips,
        selector: spec.selector.unwrap_or_default().into_iter().collect(),
        ports: ports
            .filter(|(_, port)| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
            .filter_map(|(index, port)| {
                let field = Field::from("spec.ports").index(index);
                service_port(port).map_err(|fault| faults.push(fault.within(&field))).ok()
            })
            .collect(),
        publish_not_ready: spec.publish_not_ready_addresses == Some(true),
        node_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
    })))
}

fn service_port(port: &v1::ServicePort) -> Result<ServicePort, Fault> {
    let number = number(port.port).map_err(|reason| Fault::fatal("port", reason))?;
    let target = match &port.target_port {
        None | Some(IntOrString::Int(0)) => TargetPort::Number(number),
        Some(IntOrString::Int(target)) => {
            let target = self::number(*target).map_err(|reason| Fault::fatal("targetPort", reason));
            TargetPort::Number(target?)
        }
        Some(IntOrString::String(name)) if name.is_empty() => TargetPort::Number(number),
        Some(IntOrString::String(name)) => match name.parse() {
            Ok(number) => TargetPort::Number(number),
            Err(_not_a_number) => TargetPort::Name(name.clone()),
        },
    };
    Ok(ServicePort {
        name: port.name.clone().unwrap_or_default(),
        port: number,
        target,
        app_protocol: port.app_protocol.clone(),
    })
}

pub(super) fn number(port: i32) -> Result<u16, String> {
    let number = u16::try_from(port).ok().filter(|port| *port > 0);
    number.ok_or_else(|| format!("{port} is no port; ports are 1 to 65535"))
}
