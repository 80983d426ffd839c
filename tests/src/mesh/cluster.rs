//! The same on Kubernetes, in the cluster of `KUBECONFIG`, in which Tulle is installed: by kubectl, as a person would.
//! The sample's images are those that `tests/cluster/scenes.sh` makes.

use std::{fs, path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::process::Command;

use super::{Mesh, Pod, Status, output_of};
use crate::scene::{Failure, prove, until};

/// Namespaces whose pods are not a mesh's.
const NOT_OURS: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "tulle-system"];
/// The file of namespaces, which what is in them needs.
const NAMESPACES: &str = "namespaces.yaml";
/// The control plane's Deployment, and the label of its pods.
const CONTROL_PLANE: [&str; 3] = ["-n", "tulle-system", "deployment/tulle-control-plane"];
const ITS_PODS: &str = "app.kubernetes.io/name=tulle-control-plane";
/// How long it may take until a control plane has ended.
const PATIENCE: Duration = Duration::from_secs(40);

pub(super) fn kubectl(words: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command.args(words).stdin(Stdio::null());
    command
}

/// Puts a mesh's files into the cluster.
pub(super) async fn up(directory: &Path) -> Result<(), Failure> {
    let namespaces = directory.join(NAMESPACES);
    if namespaces.exists() {
        apply(&namespaces)?;
    }
    output_of(kubectl(&["apply", "-f", &directory.display().to_string()])).await.map(drop)
}

/// Removes the namespaces that its files make, with all that is in them.
pub(super) async fn down(directory: &Path) -> Result<(), Failure> {
    let namespaces = directory.join(NAMESPACES).display().to_string();
    output_of(kubectl(&["delete", "--ignore-not-found", "-f", &namespaces])).await.map(drop)
}

/// Puts a file into it. Blocks: who edits waits for the editor.
pub(super) fn apply(file: &Path) -> Result<(), Failure> {
    edit(&["apply", "-f"], file)
}

/// Removes what a file has made.
pub(super) fn delete(file: &Path) -> Result<(), Failure> {
    edit(&["delete", "--ignore-not-found", "--wait=false", "-f"], file)
}

fn edit(words: &[&str], file: &Path) -> Result<(), Failure> {
    // A control may have left nothing in it.
    if fs::read_to_string(file)?.trim().is_empty() {
        return Ok(());
    }
    let done = std::process::Command::new("kubectl").args(words).arg(file).output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(Failure(format!("kubectl {} {}: {said}", words.join(" "), file.display())))
}

/// A control plane that was taken away, with the number of its replicas.
#[derive(Debug)]
#[must_use = "it has to come back"]
pub struct Away(String);

impl Mesh {
    /// Asks the cluster; what kubectl says.
    pub async fn kubectl(&self, words: &[&str]) -> Result<String, Failure> {
        output_of(kubectl(words)).await
    }

    /// Ends all replicas of the control plane at once, as `kill -9` would, and lets none start. `stranger` is a pod
    /// outside of the mesh, which sees that none answers any more.
    pub async fn take_control_plane(&self, stranger: &Pod) -> Result<Away, Failure> {
        let [n, system, deployment] = CONTROL_PLANE;
        let asked = [n, system, "get", deployment, "-o", "jsonpath={.spec.replicas}"];
        let away = Away(self.kubectl(&asked).await?);
        let asked =
            [n, system, "get", "pod", "-l", ITS_PODS, "-o", "jsonpath={.items[*].status.podIP}"];
        let addresses = self.kubectl(&asked).await?;
        prove(!addresses.is_empty(), || "the control plane was not there to be killed".into())?;
        self.kubectl(&[n, system, "scale", deployment, "--replicas=0"]).await?;
        let now = ["--grace-period=0", "--force", "--ignore-not-found"];
        self.kubectl(&[&[n, system, "delete", "pod", "-l", ITS_PODS][..], &now].concat()).await?;
        for address in addresses.split_whitespace() {
            let url = format!("http://{address}:15014/ready");
            let asked = ["curl", "-s", "-o", "/dev/null", "-m", "1", url.as_str()];
            let ended = async || Ok(self.exec(stranger, &stranger.name, &asked).await.is_err());
            until("the control plane has ended", PATIENCE, ended).await?;
        }
        Ok(away)
    }

    /// Lets it start again.
    pub async fn give_control_plane(&self, Away(replicas): Away) -> Result<(), Failure> {
        let [n, system, deployment] = CONTROL_PLANE;
        let replicas = format!("--replicas={replicas}");
        self.kubectl(&[n, system, "scale", deployment, &replicas]).await.map(drop)
    }
}

/// A container's log so far.
pub(super) async fn logs(pod: &Pod, container: &str) -> Result<String, Failure> {
    let said =
        output_of(kubectl(&["-n", &pod.namespace, "logs", &pod.name, "-c", container])).await;
    said.map_err(|Failure(why)| match why.contains("is not valid for pod") {
        true => Failure(format!("{} has no container `{container}`", pod.name)),
        false => Failure(why),
    })
}

/// Its pods; what else a status has is asked elsewhere.
pub(super) async fn status() -> Result<Status, Failure> {
    let text = output_of(kubectl(&["get", "pods", "-A", "-o", "json"])).await?;
    let list: Value = serde_json::from_str(&text)
        .map_err(|error| Failure(format!("kubectl get pods: {error}\n{text}")))?;
    let pods = list["items"].as_array().into_iter().flatten().map(pod);
    let pods = pods.filter(|pod| !NOT_OURS.contains(&pod.namespace.as_str())).collect();
    Ok(Status { pods, problems: Vec::new(), objects: Vec::new() })
}

fn pod(object: &Value) -> Pod {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (metadata, status) = (&object["metadata"], &object["status"]);
    let containers = ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .flat_map(|list| status[list].as_array().into_iter().flatten());
    let waiting = containers
        .filter_map(|container| {
            let reason = container["state"]["waiting"]["reason"].as_str()?;
            Some(format!("{}: {reason}", text(&container["name"])))
        })
        .collect();
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let is_ready = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
    Pod {
        namespace: text(&metadata["namespace"]),
        name: text(&metadata["name"]),
        ip: status["podIP"].as_str().map(ToOwned::to_owned),
        ready: metadata["deletionTimestamp"].is_null() && conditions.clone().any(is_ready),
        waiting,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_pod_is() {
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let with =
            |metadata: Value, status: Value| pod(&json!({"metadata": metadata, "status": status}));
        let well = with(
            json!({"namespace": "shop", "name": "a"}),
            json!({"conditions": ready, "podIP": "10.0.0.1"}),
        );
        assert_eq!((well.ready, well.ip.as_deref()), (true, Some("10.0.0.1")));
        let going = with(json!({"deletionTimestamp": "now"}), json!({"conditions": ready}));
        assert!(!going.ready, "{going:?}");
        let state = json!({"waiting": {"reason": "ErrImageNeverPull"}});
        let late = with(json!({}), json!({"containerStatuses": [{"name": "a", "state": state}]}));
        assert_eq!((late.ready, late.waiting), (false, vec!["a: ErrImageNeverPull".to_owned()]));
    }
}
