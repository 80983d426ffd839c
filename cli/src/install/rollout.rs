//! Waits until the control plane serves, and says why it does not.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ContainerStatus, Pod},
};
use kube::{
    Api, Client,
    api::ListParams,
    runtime::wait::{Condition, await_condition, conditions::is_deleted},
};
use tulle_api::Duration;

use super::{Error, objects::NAME, refused};

/// Until all replicas are of the newest template and available.
pub(super) async fn wait(client: &Client, namespace: &str, limit: Duration) -> Result<(), Error> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let served = Box::pin(await_condition(api, NAME, rolled_out()));
    match tokio::time::timeout(limit.get(), served).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Error::Waiting(error.to_string())),
        Err(_elapsed) => {
            let reasons = reasons(client, namespace).await?;
            Err(Error::NotServing { after: limit, reasons })
        }
    }
}

fn rolled_out() -> impl Condition<Deployment> {
    |deployment: Option<&Deployment>| deployment.is_some_and(is_rolled_out)
}

fn is_rolled_out(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation >= deployment.metadata.generation
            && status.updated_replicas.unwrap_or(0) == wanted
            && status.available_replicas.unwrap_or(0) == wanted
            && status.replicas.unwrap_or(0) == wanted
    })
}

/// Until no pod that a rollout took away is there any more: one may still answer the API server, as it was told before.
/// Returns those that stay for longer than `limit`, on a node that is lost for instance.
pub(super) async fn ended(
    client: &Client,
    namespace: &str,
    limit: Duration,
) -> Result<Vec<String>, Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let ending = pods(client, namespace).await?.into_iter().map(|pod| pod.metadata);
    let ending = ending.filter(|metadata| metadata.deletion_timestamp.is_some());
    let ending: Vec<_> = ending.filter_map(|metadata| metadata.name.zip(metadata.uid)).collect();
    let gone = async {
        for (name, uid) in &ending {
            Box::pin(await_condition(api.clone(), name, is_deleted(uid))).await?;
        }
        Ok::<_, kube::runtime::wait::Error>(())
    };
    match tokio::time::timeout(limit.get(), gone).await {
        Ok(Ok(())) => Ok(Vec::new()),
        Ok(Err(error)) => Err(Error::Waiting(error.to_string())),
        Err(_elapsed) => {
            let there = pods(client, namespace).await?.into_iter().filter_map(|p| p.metadata.uid);
            let there: Vec<_> = there.collect();
            let left = ending.into_iter().filter(|(_, uid)| there.contains(uid));
            Ok(left.map(|(name, _)| name).collect())
        }
    }
}

/// The control plane's pods, also those that are ending.
async fn pods(client: &Client, namespace: &str) -> Result<Vec<Pod>, Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/name={NAME}"));
    Ok(pods.list(&ours).await.map_err(refused("the control plane's pods"))?.items)
}

/// What Kubernetes says of the control plane's pods, a line for each reason.
async fn reasons(client: &Client, namespace: &str) -> Result<String, Error> {
    let pods = pods(client, namespace).await?;
    let of = |pod: &Pod| {
        let name = pod.metadata.name.clone().unwrap_or_default();
        of_pod(pod).into_iter().map(move |reason| format!("  pod {name}: {reason}"))
    };
    let mut lines: Vec<String> = pods.iter().flat_map(of).collect();
    if pods.is_empty() {
        lines.push(format!(
            "  it has no pod: kubectl -n {namespace} describe replicaset -l app.kubernetes.io/name={NAME}"
        ));
    }
    lines.push(format!("  its log: kubectl -n {namespace} logs deploy/{NAME}"));
    Ok(lines.join("\n"))
}

/// Why a pod does not run, or is not ready.
pub(crate) fn of_pod(pod: &Pod) -> Vec<String> {
    let status = pod.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default().into_iter();
    let unscheduled = conditions
        .filter(|c| c.type_ == "PodScheduled" && c.status == "False")
        .filter_map(|c| c.message);
    let containers = status.container_statuses.unwrap_or_default();
    let stuck = containers.iter().filter_map(of_container);
    unscheduled.chain(stuck).collect()
}

fn of_container(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref().and_then(|state| state.waiting.clone());
    let ended = container.last_state.as_ref().and_then(|state| state.terminated.clone());
    match (waiting, ended) {
        (_, Some(ended)) => Some(format!(
            "ended with code {} {}",
            ended.exit_code,
            ended.message.or(ended.reason).unwrap_or_default().trim()
        )),
        (Some(waiting), None) => Some(format!(
            "{}: {}",
            waiting.reason.unwrap_or_default(),
            waiting.message.unwrap_or_default()
        )),
        (None, None) if !container.ready => Some("it runs, but is not ready".to_owned()),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rollout_is_over_when_nothing_old_is_left() {
        let done = json!({
            "metadata": {"generation": 3}, "spec": {"replicas": 2, "selector": {}, "template": {}},
            "status": {"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2},
        });
        let over = |value: &serde_json::Value| {
            is_rolled_out(&serde_json::from_value(value.clone()).expect("a deployment"))
        };
        assert!(over(&done));
        for (field, value) in [
            ("observedGeneration", 2),
            ("replicas", 3),
            ("updatedReplicas", 1),
            ("availableReplicas", 1),
        ] {
            let mut not = done.clone();
            not["status"][field] = json!(value);
            assert!(!over(&not), "{field}");
        }
    }

    #[test]
    fn reasons_are_named() {
        let pod = |status| {
            of_pod(
                &serde_json::from_value(json!({"metadata": {"name": "a"}, "status": status}))
                    .expect("a pod"),
            )
        };
        let container = |more: serde_json::Value| {
            let mut container =
                json!({"name": "c", "ready": false, "image": "", "imageID": "", "restartCount": 0});
            super::super::objects::merge(&mut container, &more);
            json!({"containerStatuses": [container]})
        };
        let pull =
            json!({"state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}});
        assert_eq!(pod(container(pull)), ["ErrImagePull: not found"]);
        let ended =
            json!({"lastState": {"terminated": {"exitCode": 1, "message": "no such flag\n"}}});
        assert_eq!(pod(container(ended)), ["ended with code 1 no such flag"]);
        assert_eq!(pod(container(json!({}))), ["it runs, but is not ready"]);
        let full = json!({"conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"},
        ]});
        assert_eq!(pod(full), ["0/1 nodes are available"]);
    }
}
