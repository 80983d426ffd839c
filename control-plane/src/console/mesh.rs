//! How the mesh itself is: its proxies and the control plane's replicas.

use serde::{Deserialize, Serialize};

use super::Surveys;
use crate::{replicas::Stream, telemetry::Scope};

/// The mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshView {
    /// The control plane.
    pub replicas: Vec<ReplicaView>,
    /// All streams of configuration that are open.
    pub proxies: Vec<ProxyView>,
    /// Replicas that did not say what they know: their proxies are missing.
    pub unheard: Vec<String>,
}

/// A replica of the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaView {
    /// Its pod: NAMESPACE/NAME.
    pub name: String,
    /// Whether it has answered.
    pub heard: bool,
    /// Of its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How many streams it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxies: Option<usize>,
}

/// A proxy, or whatever speaks xDS in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyView {
    /// Of its pod.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// Name of what the pod is of.
    pub workload: String,
    /// `tulle`, `envoy` or `grpc`.
    pub data_plane: String,
    /// Of its program, as it says.
    pub version: String,
    /// Whether it has what it should have.
    pub state: State,
    /// Resources that it uses.
    pub resources: usize,
    /// Those of them of which it has accepted the latest version.
    pub accepted: usize,
    /// What it does not take, and why.
    pub rejects: Vec<Rejected>,
    /// It reports what it carries. Only our own proxies do.
    pub reporting: bool,
    /// When its certificate ends, in seconds since 1970, as it reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_ends: Option<i64>,
    /// The replica that tells it.
    pub replica: String,
}

/// Whether a proxy has what it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// The latest of everything.
    Synced,
    /// Something has not been accepted yet.
    Behind,
    /// It refuses something.
    Rejecting,
}

/// What a proxy does not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The resource's name.
    pub resource: String,
    /// As the proxy says it.
    pub reason: String,
}

/// What somebody may see of it. The control plane's replicas are no secret.
pub(super) fn view(surveys: &Surveys, scope: &Scope) -> MeshView {
    let heard = surveys.heard.iter().map(|(name, survey)| ReplicaView {
        name: name.clone(),
        heard: true,
        version: Some(survey.version.clone()),
        proxies: Some(survey.streams.len()),
    });
    let silent = surveys.unheard.iter().map(|name| ReplicaView {
        name: name.clone(),
        heard: false,
        version: None,
        proxies: None,
    });
    let streams = surveys.heard.iter().flat_map(|(replica, survey)| {
        survey.streams.iter().map(move |stream| (replica.as_str(), stream))
    });
    let seen = streams.filter(|(_, stream)| scope.has(&stream.pod.namespace));
    let mut proxies: Vec<_> = seen.map(|(replica, stream)| proxy(replica, stream)).collect();
    proxies.sort_by(|one, other| (&one.namespace, &one.pod).cmp(&(&other.namespace, &other.pod)));
    MeshView { replicas: heard.chain(silent).collect(), proxies, unheard: surveys.unheard.clone() }
}

fn proxy(replica: &str, stream: &Stream) -> ProxyView {
    let rejects = stream.rejections.iter();
    let rejects: Vec<_> = rejects
        .map(|(resource, reason)| Rejected { resource: resource.clone(), reason: reason.clone() })
        .collect();
    let state = match (rejects.is_empty(), stream.accepted == stream.resources) {
        (false, _) => State::Rejecting,
        (true, false) => State::Behind,
        (true, true) => State::Synced,
    };
    ProxyView {
        namespace: stream.pod.namespace.to_string(),
        pod: stream.pod.name.to_string(),
        workload: stream.workload.as_ref().map(|of| of.name.clone()).unwrap_or_default(),
        data_plane: stream.data_plane.clone(),
        version: stream.version.clone(),
        state,
        resources: stream.resources,
        accepted: stream.accepted,
        rejects,
        reporting: stream.reports,
        certificate_ends: (stream.certificate_ends > 0).then_some(stream.certificate_ends),
        replica: replica.to_owned(),
    }
}
