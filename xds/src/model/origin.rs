use serde::Serialize;

/// The object, and the part of it, that a value comes from: for status, logs and dumps.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize)]
pub struct Origin {
    /// `HTTPRoute`, `Service`, `TrafficPolicy`, …
    pub kind: String,
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Name or index of the rule inside the object; empty when the whole object is meant.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rule: String,
}

/// Which field of which object set a value. Only what an object beside the [`Origin`] says has one:
/// policies, and a route in its own fields where those come before policies.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Setter {
    /// The field, as the object has it: `spec.limits.connections`.
    pub field: String,
    /// The object.
    pub origin: Origin,
}
