//! Which kinds there are, and what becomes of them.

use super::{Fault, Kind};

pub(super) enum Recognised {
    /// The world holds it.
    World(Kind),
    /// None of the mesh's business.
    Ignored,
    /// Named, because whoever wrote it expects something of it.
    Refused(Fault),
}

const GATEWAY: &str = "gateway.networking.k8s.io";
const TULLE: &str = "tulle.dev";

/// A kind, its group, and its versions of one shape, the newest first.
type KnownKind = (Kind, &'static str, &'static [&'static str]);

/// In force.
const WORLD: [KnownKind; 19] = [
    (Kind::Namespace, "", &["v1"]),
    (Kind::ServiceAccount, "", &["v1"]),
    (Kind::Pod, "", &["v1"]),
    (Kind::Service, "", &["v1"]),
    (Kind::EndpointSlice, "discovery.k8s.io", &["v1"]),
    (Kind::HttpRoute, GATEWAY, &["v1", "v1beta1"]),
    (Kind::GrpcRoute, GATEWAY, &["v1"]),
    (Kind::TcpRoute, GATEWAY, &["v1", "v1alpha2"]),
    (Kind::TlsRoute, GATEWAY, &["v1", "v1alpha3"]),
    (Kind::ReferenceGrant, GATEWAY, &["v1", "v1beta1"]),
    (Kind::TrafficPolicy, TULLE, &["v1alpha1"]),
    (Kind::MeshConfig, TULLE, &["v1alpha1"]),
    (Kind::MeshTls, TULLE, &["v1alpha1"]),
    (Kind::AccessPolicy, TULLE, &["v1alpha1"]),
    (Kind::Telemetry, TULLE, &["v1alpha1"]),
    (Kind::Node, "", &["v1"]),
    (Kind::ReplicaSet, "apps", &["v1"]),
    (Kind::Release, TULLE, &["v1alpha1"]),
    (Kind::Lane, TULLE, &["v1alpha1"]),
];

/// Kinds of policy that exist but do nothing here yet.
const NOT_IN_FORCE: [(&str, &str); 6] = [
    (GATEWAY, "UDPRoute"),
    (GATEWAY, "Gateway"),
    (GATEWAY, "GatewayClass"),
    (GATEWAY, "BackendTLSPolicy"),
    (GATEWAY, "ListenerSet"),
    ("networking.k8s.io", "NetworkPolicy"),
];

/// Kinds of Kubernetes' own groups that may stand beside ours in a file.
const BUILT_IN: &str = " Binding ConfigMap Endpoints Event LimitRange PersistentVolume \
    PersistentVolumeClaim PodTemplate ReplicationController ResourceQuota Secret \
    ControllerRevision DaemonSet Deployment StatefulSet HorizontalPodAutoscaler CronJob \
    Job Lease LeaseCandidate Ingress IngressClass IPAddress ServiceCIDR RuntimeClass \
    PodDisruptionBudget ClusterRole ClusterRoleBinding Role RoleBinding PriorityClass CSIDriver \
    CSINode CSIStorageCapacity StorageClass VolumeAttachment VolumeAttributesClass \
    MutatingWebhookConfiguration ValidatingWebhookConfiguration ValidatingAdmissionPolicy \
    ValidatingAdmissionPolicyBinding MutatingAdmissionPolicy MutatingAdmissionPolicyBinding \
    CustomResourceDefinition APIService FlowSchema PriorityLevelConfiguration \
    CertificateSigningRequest ClusterTrustBundle DeviceClass ResourceClaim ResourceClaimTemplate \
    ResourceSlice Kustomization ";

pub(super) fn recognise(api_version: &str, kind: &str) -> Recognised {
    let refused = |field: &str, reason: String| Recognised::Refused(Fault::fatal(field, reason));
    if kind.is_empty() || api_version.is_empty() {
        let missing = if kind.is_empty() { "kind" } else { "apiVersion" };
        return refused("", format!("no Kubernetes object: it has no {missing}"));
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if let Some((known, own, versions)) = WORLD.iter().find(|(known, ..)| known.as_str() == kind) {
        // Another group may have a kind of the same name (Knative's Service): not ours to judge.
        let right = group == *own && versions.contains(&version);
        return match (right, group == *own || is_built_in(group)) {
            (true, _) => Recognised::World(*known),
            (false, true) => {
                let slash = if own.is_empty() { "" } else { "/" };
                let newest = versions.first().copied().unwrap_or_default();
                let wrong = shown(api_version);
                let reason = format!("{kind} is of apiVersion {own}{slash}{newest}, not {wrong}");
                refused("apiVersion", reason)
            }
            (false, false) => Recognised::Ignored,
        };
    }
    if NOT_IN_FORCE.contains(&(group, kind)) {
        return refused(
            "kind",
            format!("not in force yet: this version does not act on {kind} ({group}/{version})"),
        );
    }
    if group == GATEWAY || group == TULLE {
        return refused("kind", format!("{group} has no kind {}", shown(kind)));
    }
    let ours = || {
        let kinds = WORLD.iter().map(|(known, ..)| known.as_str());
        kinds.chain(NOT_IN_FORCE.iter().map(|(_, kind)| *kind)).any(|known| known == kind)
    };
    if is_built_in(group) && ours() {
        return refused(
            "apiVersion",
            format!("{kind} is not of apiVersion {}", shown(api_version)),
        );
    }
    if is_built_in(group) && !BUILT_IN.contains(&format!(" {kind} ")) {
        return refused("kind", format!("Kubernetes has no kind {}", shown(kind)));
    }
    Recognised::Ignored
}

/// Kubernetes' own groups: those without a dot (no others can be without one), and these.
fn is_built_in(group: &str) -> bool {
    const DOTTED: [&str; 12] = [
        "discovery.k8s.io",
        "networking.k8s.io",
        "rbac.authorization.k8s.io",
        "storage.k8s.io",
        "scheduling.k8s.io",
        "node.k8s.io",
        "coordination.k8s.io",
        "certificates.k8s.io",
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
        "resource.k8s.io",
        "flowcontrol.apiserver.k8s.io",
    ];
    !group.contains('.') || DOTTED.contains(&group)
}

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(100).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(api_version: &str, kind: &str) -> Option<String> {
        match recognise(api_version, kind) {
            Recognised::Refused(fault) => Some(fault.reason),
            Recognised::World(_) | Recognised::Ignored => None,
        }
    }

    #[test]
    fn names_what_it_cannot_act_on() {
        assert!(matches!(recognise("v1", "Pod"), Recognised::World(Kind::Pod)));
        assert!(reason("apps/v1", "Service").unwrap().contains("apiVersion v1, not \"apps/v1\""));
        assert!(
            reason("gateway.networking.k8s.io/v1", "Gateway").unwrap().contains("not in force")
        );
        assert_eq!(reason("gateway.networking.k8s.io/v1beta1", "ReferenceGrant"), None);
        assert!(reason("gateway.networking.k8s.io/v1", "HTTPRout").unwrap().contains("no kind"));
        assert!(reason("tulle.dev/v1", "MeshTLS").unwrap().contains("tulle.dev/v1alpha1"));
        assert!(reason("v1", "UDPRoute").unwrap().contains("not of apiVersion"));
        assert!(reason("v1", "Servise").unwrap().contains("no kind"));
        let right = "is of apiVersion gateway.networking.k8s.io/v1, not";
        assert!(reason("v1", "HTTPRoute").unwrap().contains(right));
        assert!(reason("", "Pod").unwrap().contains("apiVersion"));
    }

    #[test]
    fn leaves_others_alone() {
        assert_eq!(reason("serving.knative.dev/v1", "Service"), None);
        assert_eq!(reason("apps/v1", "Deployment"), None);
        assert_eq!(reason("cert-manager.io/v1", "Certificate"), None);
    }
}
