//! The kubelet's probes, sent to the sidecar instead of the application.
//!
//! The kubelet has no certificate of the mesh, so a port that wants mTLS would refuse it, and where
//! it is let in it would look like traffic. So it asks the sidecar's status port, at a path that
//! strangers cannot guess, and the sidecar asks the application:
//!
//! ```text
//!  kubelet ── GET :15021/probe/6f1c…/app/readiness ──► sidecar ── the user's probe ──► application
//! ```
//!
//! Periods, thresholds and timeouts stay the user's. Commands (`exec`) need no network and stay.
//!
//! A container without a preStop hook gets one: the kubelet tells it to end when the sidecar has
//! answered that, which is when callers have gone elsewhere. So an application that closes its port at
//! once fails nobody. Who has a hook knows how to end.

use std::fmt;

use aws_lc_rs::{digest, hmac};
use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, Lifecycle, LifecycleHandler, PodSpec, Probe},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use serde::Serialize;

use super::{AGENT, PROXY, REDIRECT, sidecar::STATUS_PORT};

/// What the paths of probes are made from: 128 bits that only the injector knows.
///
/// A pod's part of the path is a keyed hash of the pod as it was before injection. So injection is a
/// pure function: one key and one pod always give one result, and a template that did not change
/// is not rolled out again because it was injected again. An injector that sees each pod once
/// (a webhook) may as well take a fresh key each time it starts.
#[derive(Clone, PartialEq, Eq)]
pub struct ProbeKey([u8; 16]);

impl ProbeKey {
    /// Fewest bytes of a secret that nobody can try out.
    pub const LEAST: usize = 16;

    /// A fresh one.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// The one that belongs to `secret`; `None` if that has fewer than [`Self::LEAST`] bytes.
    pub fn from_secret(secret: &[u8]) -> Option<Self> {
        let hash = digest::digest(&digest::SHA256, secret);
        let key = hash.as_ref().first_chunk()?;
        (secret.len() >= Self::LEAST).then_some(Self(*key))
    }

    /// The part of the path that strangers cannot guess: 128 bits, as hexadecimal digits.
    fn part(&self, metadata: &ObjectMeta, spec: &PodSpec) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let pod = serde_json::json!([metadata, spec]).to_string();
        let tag = hmac::sign(&key, pod.as_bytes());
        tag.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for ProbeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProbeKey")
    }
}

/// One of the pod's probes or hooks that asks the sidecar from now on.
#[derive(Debug, Clone, PartialEq)]
pub struct Rewrite {
    /// The list that has the container, as it was before anything was added.
    pub list: List,
    /// Which container of it.
    pub index: usize,
    /// Which of its probes and hooks.
    pub handler: Handler,
    /// Takes the place of `httpGet`, `tcpSocket` and `grpc`.
    pub http_get: HTTPGetAction,
}

/// A list of containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// `containers`.
    Containers,
    /// `initContainers`: sidecars of the user's own have probes too.
    InitContainers,
}

/// What the kubelet calls in a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "Kubernetes' own names")]
pub enum Handler {
    StartupProbe,
    ReadinessProbe,
    LivenessProbe,
    PostStart,
    PreStop,
}

impl List {
    /// The field of a pod's spec.
    pub fn field(self) -> &'static str {
        match self {
            Self::Containers => "containers",
            Self::InitContainers => "initContainers",
        }
    }
}

impl Handler {
    const ALL: [Self; 5] = [
        Self::StartupProbe,
        Self::ReadinessProbe,
        Self::LivenessProbe,
        Self::PostStart,
        Self::PreStop,
    ];

    /// The fields that lead to it from the container.
    pub fn fields(self) -> &'static [&'static str] {
        match self {
            Self::StartupProbe => &["startupProbe"],
            Self::ReadinessProbe => &["readinessProbe"],
            Self::LivenessProbe => &["livenessProbe"],
            Self::PostStart => &["lifecycle", "postStart"],
            Self::PreStop => &["lifecycle", "preStop"],
        }
    }

    /// The end of its path.
    fn segment(self) -> &'static str {
        match self {
            Self::StartupProbe => "startup",
            Self::ReadinessProbe => "readiness",
            Self::LivenessProbe => "liveness",
            Self::PostStart => "post-start",
            Self::PreStop => "pre-stop",
        }
    }
}

/// What the sidecar does when one path is asked for. The proxy reads this: `proxy/src/probe.rs`.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    path: String,
    /// Absent: as long as the kubelet waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_seconds: Option<u32>,
    action: Action,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Action {
    #[serde(rename_all = "camelCase")]
    HttpGet {
        port: u16,
        path: String,
        scheme: Scheme,
        http_headers: Vec<(String, String)>,
    },
    TcpSocket {
        port: u16,
    },
    Grpc {
        port: u16,
        service: String,
    },
    /// Answers when the pod's inbound traffic has drained, at the latest after this time.
    Hold {
        seconds: u32,
    },
}

#[derive(Debug, PartialEq, Eq, Serialize)]
enum Scheme {
    #[serde(rename = "HTTP")]
    Http,
    #[serde(rename = "HTTPS")]
    Https,
}

/// What is to be changed about a pod's probes.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) rewrites: Vec<Rewrite>,
    /// For the sidecar, as JSON; `None` if there is nothing for it to do.
    pub(super) variable: Option<String>,
    /// Probes that stay as they are although they use the network.
    pub(super) warnings: Vec<String>,
}

/// Sends every probe and hook of the pod that uses the network to the sidecar, and keeps its containers from
/// ending for so many seconds at most, if for any.
pub(super) fn plan(
    metadata: &ObjectMeta,
    spec: &PodSpec,
    key: &ProbeKey,
    hold: Option<u32>,
) -> Plan {
    let (mut plan, checks) = gather(&key.part(metadata, spec), spec, hold);
    plan.variable = (!checks.is_empty()).then(|| variable(&checks));
    plan
}

/// The same for a pod whose sidecar was told this `already`. `None` if it needs to be told nothing else, or what it was told
/// cannot be read.
pub(super) fn later(
    already: Option<&str>,
    metadata: &ObjectMeta,
    spec: &PodSpec,
    key: &ProbeKey,
    hold: Option<u32>,
) -> Option<Plan> {
    let mut all: Vec<serde_json::Value> = match already {
        Some(told) => serde_json::from_str(told).ok()?,
        None => Vec::new(),
    };
    let mut paths = all.iter().filter_map(|check| check["path"].as_str());
    let known = paths.find_map(|path| path.strip_prefix("/probe/")?.split('/').next());
    let part = known.map_or_else(|| key.part(metadata, spec), str::to_owned);
    let (mut plan, checks) = gather(&part, spec, hold);
    if checks.is_empty() {
        return None;
    }
    all.retain(|check| checks.iter().all(|new| check["path"] != new.path.as_str()));
    all.extend(checks.iter().map(|new| serde_json::json!(new)));
    plan.variable = Some(variable(&all));
    Some(plan)
}

/// What is to be rewritten to paths with this `part`, and what is to be done there.
fn gather(part: &str, spec: &PodSpec, hold: Option<u32>) -> (Plan, Vec<Check>) {
    let mut plan = Plan::default();
    let mut checks = Vec::new();
    let init = spec.init_containers.iter().flatten().enumerate();
    let init = init.map(|(index, container)| (List::InitContainers, index, container));
    let others = spec.containers.iter().enumerate();
    let others = others.map(|(index, container)| (List::Containers, index, container));
    let ours = |container: &Container| [PROXY, AGENT, REDIRECT].contains(&&*container.name);
    for (list, index, container) in init.chain(others).filter(|(.., c)| !ours(c)) {
        for handler in Handler::ALL {
            let found = match list {
                List::Containers if handler == Handler::PreStop && has_no_hook(container) => {
                    Ok(hold.map(|seconds| Action::Hold { seconds }))
                }
                _ => action(container, handler),
            };
            let action = match found {
                Ok(Some(action)) => action,
                Ok(None) => continue,
                Err(reason) => {
                    let (name, what) = (&container.name, handler.fields().join("."));
                    plan.warnings.push(format!(
                        "{what} of container {name} stays as it is: {reason}; a port that wants \
                         mTLS refuses the kubelet"
                    ));
                    continue;
                }
            };
            let path = format!("/probe/{part}/{}/{}", container.name, handler.segment());
            let timeout_seconds = probe(container, handler).map(timeout_seconds);
            checks.push(Check { path: path.clone(), timeout_seconds, action });
            let http_get = HTTPGetAction {
                path: Some(path),
                port: IntOrString::Int(STATUS_PORT),
                ..HTTPGetAction::default()
            };
            plan.rewrites.push(Rewrite { list, index, handler, http_get });
        }
    }
    (plan, checks)
}

fn has_no_hook(container: &Container) -> bool {
    container.lifecycle.as_ref().is_none_or(|lifecycle| lifecycle.pre_stop.is_none())
}

/// As JSON without `$`, which is only ever in its strings: Kubernetes replaces `$(NAME)` in the
/// values of variables.
fn variable(checks: &impl Serialize) -> String {
    serde_json::json!(checks).to_string().replace('$', "\\u0024")
}

fn probe(container: &Container, handler: Handler) -> Option<&Probe> {
    match handler {
        Handler::StartupProbe => container.startup_probe.as_ref(),
        Handler::ReadinessProbe => container.readiness_probe.as_ref(),
        Handler::LivenessProbe => container.liveness_probe.as_ref(),
        Handler::PostStart | Handler::PreStop => None,
    }
}

fn hook(lifecycle: &Lifecycle, handler: Handler) -> Option<&LifecycleHandler> {
    match handler {
        Handler::PostStart => lifecycle.post_start.as_ref(),
        Handler::PreStop => lifecycle.pre_stop.as_ref(),
        Handler::StartupProbe | Handler::ReadinessProbe | Handler::LivenessProbe => None,
    }
}

/// Kubernetes' default is one second, and it makes one of anything below.
fn timeout_seconds(probe: &Probe) -> u32 {
    let given = probe.timeout_seconds.and_then(|seconds| u32::try_from(seconds).ok());
    given.unwrap_or(1).max(1)
}

/// What the sidecar shall do; `None` if this does not use the network, or is the sidecar's
/// business already.
///
/// # Errors
/// Why the kubelet has to go on doing it.
fn action(container: &Container, handler: Handler) -> Result<Option<Action>, String> {
    let own = IntOrString::Int(STATUS_PORT);
    let probe = probe(container, handler);
    let hook = container.lifecycle.as_ref().and_then(|lifecycle| hook(lifecycle, handler));
    let http = probe.and_then(|p| p.http_get.as_ref());
    if let Some(http) = http.or_else(|| hook?.http_get.as_ref()) {
        return if http.port == own { Ok(None) } else { http_get(container, http).map(Some) };
    }
    if let Some(tcp) = probe.and_then(|p| p.tcp_socket.as_ref()) {
        only_the_pod(tcp.host.as_deref())?;
        let port = port(container, &tcp.port)?;
        return Ok((tcp.port != own).then_some(Action::TcpSocket { port }));
    }
    if let Some(grpc) = probe.and_then(|p| p.grpc.as_ref()) {
        let port = port(container, &IntOrString::Int(grpc.port))?;
        let service = grpc.service.clone().unwrap_or_default();
        return Ok(Some(Action::Grpc { port, service }));
    }
    Ok(None)
}

fn http_get(container: &Container, http: &HTTPGetAction) -> Result<Action, String> {
    only_the_pod(http.host.as_deref())?;
    let scheme = match http.scheme.as_deref() {
        None | Some("" | "HTTP") => Scheme::Http,
        Some("HTTPS") => Scheme::Https,
        Some(other) => return Err(format!("its scheme {other:?} is neither HTTP nor HTTPS")),
    };
    let headers = http.http_headers.iter().flatten();
    Ok(Action::HttpGet {
        port: port(container, &http.port)?,
        path: http.path.clone().unwrap_or_default(),
        scheme,
        http_headers: headers.map(|h| (h.name.clone(), h.value.clone())).collect(),
    })
}

/// A host means what it means to the node: its loopback, its names. Not ours to ask from the pod.
fn only_the_pod(host: Option<&str>) -> Result<(), String> {
    match host {
        None | Some("") => Ok(()),
        Some(host) => Err(format!("it asks host {host} and not the pod")),
    }
}

/// By number, by the name of one of the container's ports, or a number as text: the kubelet's order.
fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let named = ports.find(|port| port.name.as_ref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    let number = number.and_then(|number| u16::try_from(number).ok()).filter(|n| *n != 0);
    number.ok_or_else(|| match port {
        IntOrString::Int(number) => format!("{number} is no port"),
        IntOrString::String(name) => format!("none of the container's ports is named {name:?}"),
    })
}

#[cfg(test)]
mod tests;
