//! PodMonitors, of the Prometheus operator, by which its Prometheus scrapes the mesh. The kind is not ours to bring.

use kube::Client;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::cluster::{found, objects_like};

/// What they say: the chart reads the file too.
const MONITORS: &str = include_str!("../../../deploy/chart/files/pod-monitors.yaml");

/// The kind.
pub(super) const KIND: &str = "PodMonitor";

/// Names of the PodMonitors, and what each says.
pub(super) fn all() -> impl Iterator<Item = (String, Value)> {
    serde_yaml_ng::Deserializer::from_str(MONITORS).map(|document| {
        let monitor = Value::deserialize(document).expect("a test reads the file");
        let name = monitor["metadata"]["name"].as_str().unwrap_or_default();
        (name.to_owned(), monitor["spec"].clone())
    })
}

/// Whether the cluster has the kind.
pub(super) async fn known(client: &Client) -> Result<bool, kube::Error> {
    let like = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"});
    let name = "podmonitors.monitoring.coreos.com";
    Ok(found(objects_like(client, &like).get(name).await)?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_monitor_is_read() {
        let names: Vec<_> = all().map(|(name, _)| name).collect();
        assert_eq!(names, ["tulle-proxy", "tulle-control-plane"]);
        for (name, spec) in all() {
            assert!(spec["podMetricsEndpoints"].is_array(), "{name}: {spec}");
        }
    }
}
