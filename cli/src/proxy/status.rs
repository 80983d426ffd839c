//! `tulle proxy status`: every sidecar of a cluster, and how it stands.
//!
//! ```text
//!  pods ──┐
//!  each replica's streams, by exec ──┼──► lines, pure ──► table, JSON
//!  each sidecar's metrics ──┘
//! ```

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::ListParams};
use serde::Serialize;
use serde_json::Value;

use crate::{
    check::{Sidecar, sidecar},
    cluster::pods::{Error, exec, injected, refused},
    install::NAME,
    observe::units,
    table::Table,
};

/// Questions at once.
const AT_ONCE: usize = 16;
/// Characters of a rejection in the table.
const SHORT: usize = 80;

/// A sidecar, or whatever else speaks xDS in a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line {
    /// `namespace/name`.
    pod: String,
    /// Which replica of the control plane tells it; none if it has no stream.
    replica: Option<String>,
    /// Version of its program.
    version: Option<String>,
    /// Resources that it uses, and those of them of which it has accepted the latest version.
    resources: usize,
    accepted: usize,
    /// The first resource that it rejects, and why.
    rejected: Option<String>,
    /// When its certificate ends.
    certificate_ends: Option<String>,
}

/// Asks everybody.
pub(super) async fn lines(client: &Client, namespace: &str) -> Result<Vec<Line>, Error> {
    let pods = injected(client).await?;
    let streams = streams(client, namespace).await?;
    let each = stream::iter(&pods).map(|(namespace, name)| async move {
        (format!("{namespace}/{name}"), sidecar(client, (namespace.as_str(), name.as_str())).await)
    });
    let sidecars: BTreeMap<_, _> = Box::pin(each.buffer_unordered(AT_ONCE)).collect().await;
    let pods: Vec<_> = pods.iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
    Ok(merge(&pods, &streams, &sidecars))
}

/// The open streams of each replica.
async fn streams(client: &Client, namespace: &str) -> Result<Vec<(String, Value)>, Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let ours = ListParams::default()
        .labels(&format!("app.kubernetes.io/name={NAME}"))
        .fields("status.phase=Running");
    let replicas = api.list_metadata(&ours).await.map_err(refused("the control plane's pods"))?;
    let mut found = Vec::new();
    let living = replicas.items.into_iter().map(|pod| pod.metadata);
    for replica in living.filter(|pod| pod.deletion_timestamp.is_none()).filter_map(|pod| pod.name)
    {
        let command = ["/usr/bin/tulle-control-plane", "ctl", "/debug/streams"];
        let said = exec(client, (namespace, &replica), "control-plane", &command).await?;
        let streams: Value = serde_json::from_str(&said).map_err(|error| Error::Failed {
            command: command.join(" "),
            pod: format!("{namespace}/{replica}"),
            said: error.to_string(),
        })?;
        found.push((replica, streams));
    }
    Ok(found)
}

/// A line for each pod, in order: those with a sidecar, and whoever else has a stream.
fn merge(
    pods: &[String],
    streams: &[(String, Value)],
    sidecars: &BTreeMap<String, Sidecar>,
) -> Vec<Line> {
    let mut lines: BTreeMap<String, Line> = BTreeMap::new();
    for (replica, streams) in streams {
        for stream in streams.as_array().into_iter().flatten() {
            let pod = stream["caller"]["pod"].as_str().unwrap_or_default();
            let line = lines.entry(pod.to_owned()).or_insert_with(|| Line::new(pod));
            line.replica = Some(replica.clone());
            line.version = stream["version"].as_str().map(str::to_owned);
            let kinds = stream["kinds"].as_array().into_iter().flatten();
            for name in kinds.flat_map(|kind| kind["names"].as_array().into_iter().flatten()) {
                line.resources += 1;
                line.accepted += usize::from(name["sent"] == name["accepted"]);
                if let (None, Some(why)) = (&line.rejected, name["rejected"].as_str()) {
                    let called = name["name"].as_str().unwrap_or_default();
                    line.rejected = Some(format!("{called}: {why}"));
                }
            }
        }
    }
    for pod in pods {
        lines.entry(pod.clone()).or_insert_with(|| Line::new(pod));
    }
    for (pod, line) in &mut lines {
        let end = sidecars.get(pod).and_then(|sidecar| sidecar.not_after);
        line.certificate_ends = end.and_then(units::instant);
    }
    lines.into_values().collect()
}

impl Line {
    fn new(pod: &str) -> Self {
        Self {
            pod: pod.to_owned(),
            replica: None,
            version: None,
            resources: 0,
            accepted: 0,
            rejected: None,
            certificate_ends: None,
        }
    }

    /// Whether it has a stream and has accepted everything.
    pub(super) fn synced(&self) -> bool {
        self.replica.is_some() && self.accepted == self.resources && self.rejected.is_none()
    }

    fn state(&self) -> String {
        match (&self.replica, self.synced()) {
            (None, _) => "no stream".to_owned(),
            (Some(_), true) => format!("yes, {}", self.resources),
            (Some(_), false) => format!("{} of {}", self.accepted, self.resources),
        }
    }
}

/// For people.
pub(super) fn table(lines: &[Line]) -> String {
    let headings = ["POD", "VERSION", "SYNCED", "REJECTED", "CERTIFICATE ENDS", "TOLD BY"];
    let mut table = Table::new(&headings);
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    for line in lines {
        let rejected: String = text(&line.rejected).chars().take(SHORT).collect();
        let ends = text(&line.certificate_ends);
        let (version, replica) = (text(&line.version), text(&line.replica));
        table.row([line.pod.clone(), version, line.state(), rejected, ends, replica]);
    }
    if table.is_empty() { "no pod has a sidecar\n".to_owned() } else { table.to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_streams_of_all_replicas_are_one_table() {
        let stream = |pod: &str, names: &Value| json!({"caller": {"pod": pod}, "version": "0.1.0", "kinds": [{"kind": "cluster", "names": names}]});
        let good = json!([{"name": "a", "sent": "1", "accepted": "1", "rejected": null}]);
        let late = json!([
            {"name": "a", "sent": "2", "accepted": "1", "rejected": null},
            {"name": "b", "sent": "2", "accepted": "1", "rejected": "port: is 0"},
        ]);
        let streams = [
            ("cp-1".to_owned(), json!([stream("shop/web", &good)])),
            ("cp-2".to_owned(), json!([stream("shop/cart", &late)])),
        ];
        let pods = ["shop/cart", "shop/lost", "shop/web"].map(str::to_owned);
        let sidecar = Sidecar { not_after: Some(1_800_000_000), ..Sidecar::default() };
        let lines = merge(&pods, &streams, &[("shop/web".to_owned(), sidecar)].into());
        let synced: Vec<_> = lines.iter().map(Line::synced).collect();
        assert_eq!(synced, [false, false, true]);
        let rows = table(&lines);
        let rows: Vec<_> = rows.lines().collect();
        assert_eq!(
            rows,
            [
                "POD        VERSION  SYNCED     REJECTED       CERTIFICATE ENDS      TOLD BY",
                "shop/cart  0.1.0    0 of 2     b: port: is 0  -                     cp-2",
                "shop/lost  -        no stream  -              -                     -",
                "shop/web   0.1.0    yes, 1     -              2027-01-15T08:00:00Z  cp-1",
            ]
        );
    }
}
