//! MeshConfig and MeshTLS.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tulle_api::{ExternalTraffic, Mode, SYSTEM_NAMESPACE, Validate};

use super::{
    Fault, Field, Name,
    typed::{self, Unknown},
};
use crate::world::objects::{MeshConfig, MeshTls, MtlsMode, Object, TlsScope};

pub(super) fn config(name: &Name, value: &Value, faults: &mut Vec<Fault>) -> Option<Object> {
    let config: tulle_api::MeshConfig = read(value, faults)?;
    Some(Object::MeshConfig(Arc::new(MeshConfig {
        name: name.clone(),
        mesh_ranges: config.spec.mesh_ranges.iter().map(|cidr| cidr.get()).collect(),
        refuse_external: config
            .spec
            .external_traffic
            .map(|external| external == ExternalTraffic::Refuse),
    })))
}

pub(super) fn tls(name: &Name, value: &Value, faults: &mut Vec<Fault>) -> Option<Object> {
    let tls: tulle_api::MeshTls = read(value, faults)?;
    let scope = match tls.spec.selector {
        Some(selector) => TlsScope::Pods(selector.match_labels),
        None if &*name.namespace == SYSTEM_NAMESPACE => TlsScope::Mesh,
        None => TlsScope::Namespace,
    };
    Some(Object::MeshTls(Arc::new(MeshTls {
        name: name.clone(),
        scope,
        mode: tls.spec.mode.map(mode),
        ports: tls.spec.ports.iter().map(|port| (port.port, mode(port.mode))).collect(),
        trust_domains: tls.spec.trust_domains,
    })))
}

fn mode(mode: Mode) -> MtlsMode {
    match mode {
        Mode::Permissive => MtlsMode::Permissive,
        Mode::Strict => MtlsMode::Strict,
    }
}

/// Reads a policy of ours with everything that its type and its own rules ask for.
fn read<T: DeserializeOwned + Serialize + Validate>(
    value: &Value,
    faults: &mut Vec<Fault>,
) -> Option<T> {
    let typed: T = typed::read(value, Unknown::Refuse, faults)?;
    let problems = typed.problems().into_iter();
    faults.extend(problems.map(|p| Fault::fatal(Field::from(p.field.as_str()), p.reason)));
    Some(typed)
}
