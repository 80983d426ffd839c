//! Kubernetes object → plain type of the world. Pure; one file per kind.
//!
//! Both sources go through here: a directory reads YAML into a JSON value, Kubernetes sends one.
//! What is not understood becomes a [`Fault`], never silence. An object of one of the kinds that
//! Kubernetes defines applies in spite of a field that we do not know (the API server drops such
//! fields, too); a policy does not, because half a policy is another policy.

mod access;
mod closed;
mod endpoint_slice;
mod field;
mod grant;
mod kinds;
pub(crate) mod knobs;
mod lane;
mod mesh;
mod metadata;
mod pod;
mod policy;
mod release;
mod replica_set;
mod route;
mod service;
mod telemetry;
mod typed;

use serde_json::Value;
use tulle_api::SYSTEM_NAMESPACE;

pub(crate) use self::route::lost;
pub use self::{
    closed::closed,
    field::{Field, Step},
};
use crate::world::objects::{Kind, Name, Object, ObjectRef};

/// What became of a value.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What to call it in messages, `Service shop/reviews`; empty if it says neither kind nor name.
    pub title: String,
    /// The object of the world that it stands for, if it is of a kind that the world holds.
    pub reference: Option<ObjectRef>,
    /// The object, if it applies.
    pub object: Option<Object>,
    /// Everything that is wrong with it.
    pub faults: Vec<Fault>,
}

/// Something wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where in the object; empty means the whole.
    pub field: Field,
    /// What is wrong, and what would be right.
    pub reason: String,
    /// Whether the object applies nevertheless.
    pub applies: bool,
}

impl Fault {
    fn fatal(field: impl Into<Field>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into(), applies: false }
    }

    fn note(field: impl Into<Field>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into(), applies: true }
    }

    /// The same fault of a part, seen from the whole.
    fn within(self, outer: &Field) -> Self {
        Self { field: self.field.below(outer.steps()), ..self }
    }
}

/// Converts one object of a mesh whose control plane is in the usual namespace.
pub fn convert(value: &Value) -> Outcome {
    convert_in(SYSTEM_NAMESPACE, value)
}

/// Converts one object. A kind that is none of ours is no fault and yields nothing. In the namespace `system`, the control
/// plane's, policies without selector are about the whole mesh.
pub fn convert_in(system: &str, value: &Value) -> Outcome {
    let text = |pointer| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind_text) = (text("/apiVersion"), text("/kind"));
    let title = title(kind_text, text("/metadata/namespace"), text("/metadata/name"));
    let failed =
        |fault| Outcome { title: title.clone(), faults: vec![fault], ..Outcome::default() };

    let kind = match kinds::recognise(api_version, kind_text) {
        kinds::Recognised::World(kind) => kind,
        kinds::Recognised::Ignored => {
            return Outcome { title, ..Outcome::default() };
        }
        kinds::Recognised::Refused(fault) => return failed(fault),
    };
    let name = match metadata::name(value, kind) {
        Ok(name) => name,
        Err(fault) => return failed(fault),
    };
    let mut faults = Vec::new();
    let object = object(system, kind, &name, value, &mut faults);
    let object = object.filter(|_| faults.iter().all(|fault| fault.applies));
    Outcome { title, reference: Some(ObjectRef { kind, name }), object, faults }
}

fn object(
    system: &str,
    kind: Kind,
    name: &Name,
    value: &Value,
    faults: &mut Vec<Fault>,
) -> Option<Object> {
    match kind {
        Kind::Namespace => metadata::namespace(name, value, faults),
        Kind::ServiceAccount => metadata::service_account(name, value, faults),
        Kind::Pod => pod::convert(name, value, faults),
        Kind::Service => service::convert(name, value, faults),
        Kind::EndpointSlice => endpoint_slice::convert(name, value, faults),
        Kind::HttpRoute => route::http(name, value, faults),
        Kind::GrpcRoute => route::grpc(name, value, faults),
        Kind::TcpRoute => route::tcp(name, value, faults),
        Kind::TlsRoute => route::tls(name, value, faults),
        Kind::ReferenceGrant => grant::convert(name, value, faults),
        Kind::TrafficPolicy => policy::convert(name, value, faults),
        Kind::MeshConfig => mesh::config(name, value, faults),
        Kind::MeshTls => mesh::tls(system, name, value, faults),
        Kind::AccessPolicy => access::convert(system, name, value, faults),
        Kind::Telemetry => telemetry::convert(system, name, value, faults),
        Kind::Node => metadata::node(name, value, faults),
        Kind::ReplicaSet => replica_set::convert(name, value, faults),
        Kind::Release => release::convert(name, value, faults),
        Kind::Lane => lane::convert(name, value, faults),
    }
}

fn title(kind: &str, namespace: &str, name: &str) -> String {
    // Whatever stands in the file: bounded, and without control characters.
    let clean =
        |text: &str| -> String { text.chars().filter(|c| !c.is_control()).take(253).collect() };
    match (kind, name) {
        ("", "") => String::new(),
        (kind, "") => clean(kind),
        (kind, name) => format!("{} {}", clean(kind), Name::new(clean(namespace), clean(name))),
    }
}

#[cfg(test)]
mod tests;
