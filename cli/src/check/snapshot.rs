//! What is known of a cluster at one time, and how to look into it.

use std::collections::BTreeMap;

use serde_json::Value;
use tulle_control_plane::{
    ca::root::{Material, Root},
    inject::{INJECTED, Injection, LABEL, Webhook},
    world::objects::Workload,
};

use crate::{
    cluster::ask::Answer,
    install::{INJECTION, NAME, argument},
};

/// A cluster at one time.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    /// The control plane's.
    pub(super) namespace: String,
    /// Seconds since 1970, by our own clock.
    pub(super) now: i64,
    /// As `/version` has it.
    pub(super) version: String,
    /// Objects, by what [`gather`](super::gather) calls them; what is not there is empty.
    pub(super) objects: BTreeMap<&'static str, Vec<Value>>,
    /// What could not be had, and why.
    pub(super) refused: BTreeMap<&'static str, String>,
    /// What somebody should be allowed and is not.
    pub(super) denied: Vec<Right>,
    /// What the control plane's ports answered.
    pub(super) ports: Vec<Port>,
    /// What became of pods that were created by dry run, by namespace.
    pub(super) admissions: BTreeMap<String, Admission>,
    /// What sidecars answered, by `namespace/pod`.
    pub(super) sidecars: BTreeMap<String, Sidecar>,
    /// Requests a second that came to workloads in the last ten minutes, in namespaces with releases and where that is known.
    pub(super) rates: BTreeMap<Workload, f64>,
}

/// Something that one may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Right {
    /// `ClusterRole` or `Role` of the control plane, or nothing: whoever asks.
    pub(super) role: &'static str,
    pub(super) verb: String,
    /// `resource.group/subresource`, and the name if it is about one.
    pub(super) resource: String,
}

/// What a port of the control plane answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) pod: String,
    pub(super) port: u16,
    pub(super) said: Answer,
}

/// What became of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admission {
    /// It got a sidecar.
    Injected,
    /// It would run without one.
    Bare,
    /// It was refused, why, and whether it is also without a sidecar.
    Refused { why: String, also_without: bool },
    /// It could not be tried, and why.
    Untried(String),
}

/// What a sidecar says.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Sidecar {
    /// Whether it has a stream to the control plane.
    pub(crate) connected: Option<bool>,
    /// When its certificate ends, in seconds since 1970.
    pub(crate) not_after: Option<i64>,
    /// What it waits for, if it is not ready.
    pub(crate) pending: Option<String>,
}

impl Snapshot {
    pub(super) fn all(&self, what: &str) -> &[Value] {
        self.objects.get(what).map_or(&[], Vec::as_slice)
    }

    /// The only one of its sort.
    pub(super) fn one(&self, what: &str) -> Option<&Value> {
        self.all(what).first()
    }

    /// Whether it could be looked at.
    pub(super) fn known(&self, what: &str) -> bool {
        !self.refused.contains_key(what)
    }

    /// The control plane's pods that are not on their way out.
    pub(super) fn control_plane(&self) -> impl Iterator<Item = &Value> {
        self.all("pods").iter().filter(|pod| {
            text(pod, "/metadata/namespace") == self.namespace
                && text(pod, "/metadata/labels/app.kubernetes.io~1name") == NAME
                && !ending(pod)
        })
    }

    /// Pods with a sidecar that live.
    pub(super) fn injected(&self) -> impl Iterator<Item = &Value> {
        self.living().filter(|pod| annotation(pod, INJECTED).is_some())
    }

    /// Pods that have not ended, and shall not.
    pub(super) fn living(&self) -> impl Iterator<Item = &Value> {
        self.all("pods").iter().filter(|pod| {
            !ending(pod) && !["Succeeded", "Failed"].contains(&text(pod, "/status/phase"))
        })
    }

    /// What sidecars get, if the installation says it and can be understood.
    pub(super) fn injection(&self) -> Option<Result<Injection, String>> {
        let map = self.one("injection")?;
        let content = map["data"][INJECTION.1].as_str().unwrap_or_default();
        let read = Injection::parse(INJECTION.1, content);
        Some(read.map(|(injection, _)| injection).map_err(|error| error.to_string()))
    }

    /// Namespaces whose pods get sidecars: those that ask for it, and about which the API server asks.
    pub(super) fn enabled(&self) -> impl Iterator<Item = &Value> {
        let webhook = match self.injection() {
            Some(Ok(injection)) => injection.webhook,
            _ => Webhook::default(),
        };
        self.all("namespaces").iter().filter(move |namespace| {
            let name = name(namespace);
            label(namespace, LABEL) == Some("enabled")
                && !ending(namespace)
                && webhook.spared(&self.namespace).all(|spared| spared != name)
        })
    }

    pub(super) fn namespace(&self, wanted: &str) -> Option<&Value> {
        self.all("namespaces").iter().find(|namespace| name(namespace) == wanted)
    }

    /// The mesh's, as its control plane is told.
    fn trust_domain(&self) -> &str {
        let told = self.one("deployment").and_then(|d| argument(d, "--trust-domain="));
        told.unwrap_or("cluster.local")
    }

    /// The mesh's root, from its Secret; `None` if that is not there or may not be read.
    pub(super) fn root(&self) -> Option<Result<Root, String>> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let secret = self.one("secret")?;
        let part = |field: &str| {
            let data =
                secret["data"][field].as_str().ok_or_else(|| format!("{field} is missing"))?;
            let bytes = STANDARD.decode(data).map_err(|error| format!("{field}: {error}"))?;
            String::from_utf8(bytes).map_err(|error| format!("{field}: {error}"))
        };
        let read = || -> Result<Root, String> {
            let material = Material {
                certificates: part("tls.crt")?,
                key: part("tls.key")?,
                roots: part("ca.crt")?,
            };
            Root::from_pem(&material, self.trust_domain()).map_err(|error| error.to_string())
        };
        Some(read())
    }
}

/// The text at a JSON pointer; empty if there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// `namespace/name`.
pub(super) fn place(object: &Value) -> String {
    format!("{}/{}", text(object, "/metadata/namespace"), name(object))
}

pub(super) fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"][key].as_str()
}

pub(super) fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][key].as_str()
}

/// Labels or annotations.
pub(super) fn texts(object: &Value, what: &str) -> BTreeMap<String, String> {
    let fields = object["metadata"][what].as_object().into_iter().flatten();
    fields.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether it is being deleted.
pub(super) fn ending(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

/// Seconds since 1970 of a time as Kubernetes writes it.
pub(super) fn seconds(time: &str) -> Option<i64> {
    let time: k8s_openapi::jiff::Timestamp = time.parse().ok()?;
    Some(time.as_second())
}
