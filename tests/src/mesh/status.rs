//! What `tulle local status` says.

use serde::Deserialize;

/// `tulle local status -o json`.
#[derive(Debug, Deserialize)]
pub struct Status {
    pub pods: Vec<Pod>,
    pub problems: Vec<Problem>,
    #[serde(default)]
    pub objects: Vec<Object>,
}

/// A route or policy, in [`Status`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    pub name: String,
    pub in_force: Force,
}

/// On how many proxies it is in force.
#[derive(Debug, Clone, Deserialize)]
pub struct Force {
    pub on: usize,
    pub of: usize,
    pub rejections: Vec<Rejection>,
}

/// Why it is not on one of them.
#[derive(Debug, Clone, Deserialize)]
pub struct Rejection {
    /// `NAMESPACE/POD`.
    pub proxy: String,
    pub resource: String,
    pub reason: String,
}

/// Something wrong with the YAML, in [`Status`].
#[derive(Debug, Deserialize)]
pub struct Problem {
    /// File and line.
    pub place: String,
    pub object: String,
    pub field: Option<String>,
    pub message: String,
}

/// A pod of [`Status`].
#[derive(Debug, Clone, Deserialize)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub ip: Option<String>,
    pub ready: bool,
    pub waiting: Vec<String>,
}
