//! Admission of a pod: the sidecar is added by the very function that the Kubernetes webhook uses.

use k8s_openapi::api::core::v1::Pod;
use tulle_control_plane::inject::{DataPlane, Decision, Settings, inject};

use super::controllers::Labels;

/// The pod as it shall run.
///
/// # Errors
/// Why a pod that asks for a sidecar cannot have one.
pub(super) fn admit(
    pod: Pod,
    namespace_labels: &Labels,
    data_plane: DataPlane,
) -> Result<Pod, String> {
    // In Kubernetes cluster DNS already answers; here the whole mesh is to be seen.
    let settings = Settings {
        dns: true,
        access_log_sample: Some(1),
        data_plane,
        // In full: a pod with `dnsPolicy: None` has no search list.
        control_plane: "tulle-control-plane.tulle-system.svc.cluster.local:15010".to_owned(),
        ..Settings::default()
    };
    match inject(&pod, namespace_labels, &settings) {
        Ok(Decision::Injected { pod: injected, warnings }) => {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            for warning in warnings {
                tracing::warn!(pod = name, warning, "injection");
            }
            Ok(*injected)
        }
        Ok(Decision::Skipped(_)) => Ok(pod),
        Err(refusal) => Err(refusal.to_string()),
    }
}
