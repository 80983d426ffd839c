//! What an installation sets for all sidecars, and the file that says it: `injection.yaml`, which the
//! control plane reads (`--injection`) and `tulle inject` may.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DataPlane, PROXY, ProbeKey, REDIRECT};

/// What an installation sets for all sidecars.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Value of the annotation [`super::INJECTED`].
    pub version: String,
    /// Image of the sidecar.
    pub proxy_image: String,
    /// Image of the init container; it has nft and iptables.
    pub redirect_image: String,
    /// Image of stock Envoy, where it is the sidecar: with `envoy` on its `PATH`.
    pub envoy_image: String,
    /// `imagePullPolicy` of all; `None` leaves Kubernetes' default.
    pub image_pull_policy: Option<String>,
    /// `host:port` of the control plane, as pods resolve it.
    pub control_plane: String,
    /// `error`, `warn`, `info`, `debug` or `trace`, for pods that do not say it.
    pub log_level: String,
    /// Of what ended well one in so many has a line in the access log, where neither pod nor MeshConfig
    /// says it; `None` leaves the sidecar's default.
    pub access_log_sample: Option<u32>,
    /// Whether sidecars answer DNS, in pods that do not say it: for names of the cluster, where
    /// cluster DNS is not good enough.
    pub dns: bool,
    /// What the sidecar asks for, and may use at most.
    pub proxy_resources: Resources,
    /// The same for the init container.
    pub redirect_resources: Resources,
    /// Who carries the traffic of pods that do not say it.
    pub data_plane: DataPlane,
    /// Whether tulle-cni redirects the traffic of pods, in place of an init container that may.
    pub cni: bool,
    /// Makes the paths at which the kubelet's probes ask the sidecar. A random one by default: for
    /// the same output each time, give the same key each time.
    pub probe_key: ProbeKey,
}

/// Requests and limits of a container, `cpu` and `memory` to quantities.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Resources {
    /// What is set aside for it.
    pub requests: BTreeMap<String, Quantity>,
    /// What it may use at most.
    pub limits: BTreeMap<String, Quantity>,
}

impl Resources {
    /// Requests and limits from pairs of name and quantity.
    pub fn new(requests: &[(&str, &str)], limits: &[(&str, &str)]) -> Self {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), Quantity((*v).to_owned()))).collect()
        };
        Self { requests: map(requests), limits: map(limits) }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Injection::default().settings()
    }
}

/// Where images come from unless an installation says otherwise.
const REGISTRY: &str = "tulle";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Stock Envoy, of the version that is tested.
const ENVOY: &str = "docker.io/envoyproxy/envoy:distroless-v1.40.0";

fn image(registry: &str, name: &str, tag: &str) -> String {
    format!("{registry}/{name}:{tag}")
}

impl Settings {
    /// With images of the usual names from another registry or of another version.
    #[must_use]
    pub fn images(self, registry: Option<&str>, tag: Option<&str>) -> Self {
        let registry = registry.unwrap_or(REGISTRY).trim_end_matches('/');
        let tag = tag.unwrap_or(&self.version);
        Self {
            proxy_image: image(registry, PROXY, tag),
            redirect_image: image(registry, REDIRECT, tag),
            ..self
        }
    }
}

/// `injection.yaml`. What it does not say is as in [`Injection::default`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Injection {
    /// Image of the sidecar.
    pub proxy_image: String,
    /// Image of the init container that redirects traffic.
    pub redirect_image: String,
    /// Image of stock Envoy, where it is the sidecar.
    pub envoy_image: String,
    /// When nodes fetch them; Kubernetes' own rule where it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
    /// `host:port` of the control plane, as pods resolve it.
    pub control_plane: String,
    /// Log level of sidecars whose pods do not say it.
    pub log_level: LogLevel,
    /// Of what ended well one in so many has a line in the access log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub access_log_sample: Option<u32>,
    /// Whether sidecars answer DNS.
    pub dns: bool,
    /// Who carries the traffic of pods that do not say it.
    pub data_plane: DataPlane,
    /// Whether tulle-cni redirects the traffic of pods, in place of an init container that may.
    pub cni: bool,
    /// What the sidecar asks for, and may use at most.
    pub proxy_resources: Resources,
    /// The same for the init container.
    pub redirect_resources: Resources,
    /// How the API server calls the injector.
    pub webhook: Webhook,
}

/// How the API server calls the injector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Webhook {
    /// What becomes of pods while no control plane answers: with `Fail` they are not created, with
    /// `Ignore` they run without a sidecar.
    pub failure_policy: FailurePolicy,
    /// How long it waits for an answer.
    #[schemars(range(min = 1, max = 5))]
    pub timeout_seconds: i32,
    /// Namespaces about which it never asks, beside `kube-system` and the control plane's own.
    pub excluded_namespaces: Vec<String>,
}

/// What becomes of pods about which no injector answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "Kubernetes' own names")]
pub enum FailurePolicy {
    Fail,
    Ignore,
}

/// When a node fetches an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "Kubernetes' own names")]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// As flags and annotations have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl PullPolicy {
    /// As Kubernetes has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

impl fmt::Display for FailurePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fail => "Fail",
            Self::Ignore => "Ignore",
        })
    }
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            failure_policy: FailurePolicy::Fail,
            timeout_seconds: LONGEST_WAIT,
            excluded_namespaces: Vec::new(),
        }
    }
}

impl Default for Injection {
    fn default() -> Self {
        Self {
            proxy_image: image(REGISTRY, PROXY, VERSION),
            redirect_image: image(REGISTRY, REDIRECT, VERSION),
            envoy_image: ENVOY.to_owned(),
            image_pull_policy: None,
            control_plane: "tulle-control-plane.tulle-system.svc:15010".to_owned(),
            log_level: LogLevel::Info,
            access_log_sample: None,
            dns: false,
            data_plane: DataPlane::default(),
            cni: false,
            // No CPU limit: throttling a sidecar delays every request of the pod.
            proxy_resources: Resources::new(
                &[("cpu", "10m"), ("memory", "20Mi")],
                &[("memory", "256Mi")],
            ),
            redirect_resources: Resources::new(
                &[("cpu", "10m"), ("memory", "16Mi")],
                &[("memory", "64Mi")],
            ),
            webhook: Webhook::default(),
        }
    }
}

/// The API server waits at each pod: longer than this looks like an outage of its own.
const LONGEST_WAIT: i32 = 5;

impl Injection {
    /// What no type says: the first field that cannot be, and why.
    ///
    /// # Errors
    /// As text, for whoever wrote it.
    pub fn check(&self) -> Result<(), String> {
        for (field, image) in [
            ("proxyImage", &self.proxy_image),
            ("redirectImage", &self.redirect_image),
            ("envoyImage", &self.envoy_image),
        ] {
            if image.is_empty() || image.contains(char::is_whitespace) {
                return Err(format!("{field}: {image:?} is no image; write REGISTRY/NAME:TAG"));
            }
        }
        let (host, port) = self.control_plane.rsplit_once(':').unwrap_or_default();
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(format!("controlPlane: {:?} is not HOST:PORT", self.control_plane));
        }
        if self.access_log_sample == Some(0) {
            return Err("accessLogSample: it must be 1 or more".to_owned());
        }
        self.webhook.check()
    }

    /// What [`super::inject`] is to be told.
    pub fn settings(&self) -> Settings {
        Settings {
            version: VERSION.to_owned(),
            proxy_image: self.proxy_image.clone(),
            redirect_image: self.redirect_image.clone(),
            envoy_image: self.envoy_image.clone(),
            image_pull_policy: self.image_pull_policy.map(|policy| policy.as_str().to_owned()),
            control_plane: self.control_plane.clone(),
            log_level: self.log_level.as_str().to_owned(),
            access_log_sample: self.access_log_sample,
            dns: self.dns,
            proxy_resources: self.proxy_resources.clone(),
            redirect_resources: self.redirect_resources.clone(),
            data_plane: self.data_plane,
            cni: self.cni,
            probe_key: ProbeKey::random(),
        }
    }
}

impl Webhook {
    /// The namespaces about which it never asks, where the control plane is in `own`.
    pub fn spared<'a>(&'a self, own: &'a str) -> impl Iterator<Item = &'a str> {
        let excluded = self.excluded_namespaces.iter().map(String::as_str);
        [own, "kube-system"].into_iter().chain(excluded)
    }

    fn check(&self) -> Result<(), String> {
        if !(1..=LONGEST_WAIT).contains(&self.timeout_seconds) {
            return Err(format!("webhook.timeoutSeconds: it must be from 1 to {LONGEST_WAIT}"));
        }
        let wrong = self.excluded_namespaces.iter().find(|name| !is_label(name));
        wrong.map_or(Ok(()), |name| {
            Err(format!("webhook.excludedNamespaces: {name:?} is no name of a namespace"))
        })
    }
}

/// RFC 1123: what a namespace can be called.
fn is_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Injection {
        Injection::parse("injection.yaml", text).expect("good").0
    }

    #[test]
    fn an_empty_file_is_the_default_and_what_is_written_is_read() {
        assert_eq!(parse("{}"), Injection::default());
        let injection = Injection {
            image_pull_policy: Some(PullPolicy::Never),
            access_log_sample: Some(10),
            data_plane: DataPlane::Envoy,
            webhook: Webhook {
                failure_policy: FailurePolicy::Ignore,
                timeout_seconds: 1,
                excluded_namespaces: vec!["ops".to_owned()],
            },
            ..Injection::default()
        };
        let text = serde_yaml_ng::to_string(&injection).expect("YAML");
        assert_eq!(parse(&text), injection);
    }

    #[test]
    fn settings_are_what_the_file_says() {
        let text = "{proxyImage: r/p:1, redirectImage: r/r:1, envoyImage: 'e:1', imagePullPolicy: Always, dns: true,
            controlPlane: 'c:1', logLevel: debug, accessLogSample: 7, dataPlane: envoy, cni: true,
            proxyResources: {requests: {cpu: 1m}}, redirectResources: {limits: {memory: 1Mi}}}";
        let settings = parse(text).settings();
        let expected = Settings {
            version: VERSION.to_owned(),
            proxy_image: "r/p:1".to_owned(),
            redirect_image: "r/r:1".to_owned(),
            envoy_image: "e:1".to_owned(),
            image_pull_policy: Some("Always".to_owned()),
            control_plane: "c:1".to_owned(),
            log_level: "debug".to_owned(),
            access_log_sample: Some(7),
            dns: true,
            proxy_resources: Resources::new(&[("cpu", "1m")], &[]),
            redirect_resources: Resources::new(&[], &[("memory", "1Mi")]),
            data_plane: DataPlane::Envoy,
            cni: true,
            probe_key: settings.probe_key.clone(),
        };
        assert_eq!(settings, expected);
    }
}
