//! MeshConfig and MeshTLS.

use std::sync::Arc;

use serde_json::Value;
use tulle_api::{Dns, ExternalTraffic, Mode, PodSelector};

use super::{Fault, Name, knobs, typed::read_ours};
use crate::world::objects::{MeshConfig, MeshTls, MtlsMode, Object, Scope};

pub(super) fn config(name: &Name, value: &Value, faults: &mut Vec<Fault>) -> Option<Object> {
    let config: tulle_api::MeshConfig = read_ours(value, faults)?;
    let knobs = knobs::of_mesh(&config.spec.proxy.unwrap_or_default(), faults);
    Some(Object::MeshConfig(Arc::new(MeshConfig {
        name: name.clone(),
        mesh_ranges: config.spec.mesh_ranges.iter().map(|cidr| cidr.get()).collect(),
        refuse_external: config
            .spec
            .external_traffic
            .map(|external| external == ExternalTraffic::Refuse),
        pass_on_dns: config.spec.dns.map(|dns| dns == Dns::PassOn),
        knobs,
    })))
}

pub(super) fn tls(
    system: &str,
    name: &Name,
    value: &Value,
    faults: &mut Vec<Fault>,
) -> Option<Object> {
    let tls: tulle_api::MeshTls = read_ours(value, faults)?;
    Some(Object::MeshTls(Arc::new(MeshTls {
        name: name.clone(),
        scope: scope(system, name, tls.spec.selector),
        mode: tls.spec.mode.map(mode),
        ports: tls.spec.ports.iter().map(|port| (port.port, mode(port.mode))).collect(),
        trust_domains: tls.spec.trust_domains,
    })))
}

/// What a policy of this name and selector is about; `system` is the namespace whose policies are the mesh's.
pub(super) fn scope(system: &str, name: &Name, selector: Option<PodSelector>) -> Scope {
    match selector {
        Some(selector) => Scope::Pods(selector.match_labels),
        None if &*name.namespace == system => Scope::Mesh,
        None => Scope::Namespace,
    }
}

fn mode(mode: Mode) -> MtlsMode {
    match mode {
        Mode::Permissive => MtlsMode::Permissive,
        Mode::Strict => MtlsMode::Strict,
    }
}
