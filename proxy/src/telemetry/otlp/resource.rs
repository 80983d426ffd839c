//! Whose telemetry it is: the workload's, as
//! <https://opentelemetry.io/docs/specs/semconv/resource/> and its page on Kubernetes name it.

use opentelemetry_proto::tonic::resource::v1::Resource;
use tulle_xds::model::Workload;

use super::Attributes;

/// That of this proxy's workload; before that is known, nobody's.
pub(super) fn of(workload: Option<&Workload>) -> Resource {
    let mut attributes = Attributes::default();
    let Some(workload) = workload else {
        attributes.text("service.name", "unknown_service");
        return Resource { attributes: attributes.0, ..Resource::default() };
    };
    let (namespace, pod) = workload.name.split_once('/').unwrap_or(("", &workload.name));
    let owner = if workload.owner_name.is_empty() { pod } else { &workload.owner_name };
    attributes.text("service.name", owner);
    attributes.text("service.namespace", namespace);
    attributes.text("service.instance.id", &*workload.uid);
    attributes.text("k8s.namespace.name", namespace);
    attributes.text("k8s.pod.name", pod);
    attributes.text("k8s.pod.uid", &*workload.uid);
    attributes.text("k8s.node.name", &*workload.node);
    let kind = match workload.owner_kind.as_str() {
        "Deployment" => "k8s.deployment.name",
        "StatefulSet" => "k8s.statefulset.name",
        "DaemonSet" => "k8s.daemonset.name",
        "ReplicaSet" => "k8s.replicaset.name",
        "Job" => "k8s.job.name",
        "CronJob" => "k8s.cronjob.name",
        _ => "",
    };
    if !kind.is_empty() {
        attributes.text(kind, owner);
    }
    attributes.text("cloud.availability_zone", &*workload.zone);
    Resource { attributes: attributes.0, ..Resource::default() }
}
