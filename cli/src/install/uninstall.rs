//! `tulle uninstall`: everything of the installation goes, in an order in which nothing is left to
//! refuse pods or to write what was just removed.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams},
    core::DynamicObject,
    runtime::{conditions::is_deleted, wait::await_condition},
};
use serde_json::{Value, json};
use tulle_control_plane::inject::INJECTED;

use super::{
    Error, MANAGER, block_on, control_plane, namespace,
    objects::{self, INJECTOR, NAME, title},
    refuse_others, refused,
};
use crate::cluster::{Reach, found, objects_like};

/// Remove Tulle from a cluster.
///
/// Refuses while pods have sidecars. With --force it removes the control plane all the same: sidecars
/// serve on with what they know until their certificates end, and speak to no pod that starts later.
/// Namespaces of yours are not edited: their labels `tulle.dev/inject` stay, and do nothing. Gateway
/// API's kinds and routes stay.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
    tulle uninstall\n  \
    tulle uninstall --force --crds     also while pods have sidecars, and with every policy\n\n\
    Exit codes: 0 nothing is left, 1 something is (the reason is on stderr).")]
pub(crate) struct Args {
    /// Remove it even if pods have sidecars.
    #[arg(long)]
    force: bool,
    /// Remove the kinds of tulle.dev too, and with them every policy of these kinds.
    #[arg(long)]
    crds: bool,
    /// Namespace of the control plane.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "tulle-system")]
    namespace: String,
    #[command(flatten)]
    reach: Reach,
}

/// How many pods are named.
const NAMED: usize = 20;
/// How long a workload's certificate is valid where the installation does not say it.
const LIFETIME: &str = "24h";
/// What the control plane puts on what it makes.
const MADE_BY_US: (&str, &str) = ("app.kubernetes.io/managed-by", NAME);
const CA: &str = "tulle-ca";

/// Uninstalls.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    block_on(async {
        let client = args.reach.client().await?;
        let mut out = io::stdout();
        refuse_others(&client, &args.namespace, "uninstall").await?;
        let sidecars = sidecars(&client).await?;
        let lifetime = lifetime(&client, &args.namespace).await?;
        if !sidecars.is_empty() {
            let said = told(&sidecars, &lifetime);
            if !args.force {
                return Err(Error::Sidecars(format!(
                    "{said}\nRestart them without the label tulle.dev/inject first, or use --force."
                )));
            }
            writeln!(out, "{said}")?;
        }
        Box::pin(remove(&client, args)).await?;
        writeln!(out, "Tulle is removed")?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Pods that have a sidecar: `namespace/name`.
async fn sidecars(client: &Client) -> Result<Vec<String>, Error> {
    let pods: Api<Pod> = Api::all(client.clone());
    let pods = pods.list_metadata(&ListParams::default()).await.map_err(refused("all pods"))?;
    let injected = pods
        .items
        .into_iter()
        .filter(|pod| pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(INJECTED)));
    let name = |pod: kube::core::PartialObjectMeta<Pod>| {
        let metadata = pod.metadata;
        format!("{}/{}", metadata.namespace.unwrap_or_default(), metadata.name.unwrap_or_default())
    };
    Ok(injected.map(name).collect())
}

/// How long certificates are valid, as the control plane was told.
async fn lifetime(client: &Client, namespace: &str) -> Result<String, Error> {
    let live = control_plane(client, namespace).await?;
    let args = live.and_then(|live| {
        live.data
            .pointer("/spec/template/spec/containers/0/args")
            .and_then(Value::as_array)
            .cloned()
    });
    let found = args.into_iter().flatten().find_map(|argument| {
        argument.as_str()?.strip_prefix("--certificate-lifetime=").map(str::to_owned)
    });
    Ok(found.unwrap_or_else(|| LIFETIME.to_owned()))
}

fn told(sidecars: &[String], lifetime: &str) -> String {
    let mut lines = vec![format!("{} pods have a sidecar:", sidecars.len())];
    lines.extend(sidecars.iter().take(NAMED).map(|pod| format!("  {pod}")));
    if sidecars.len() > NAMED {
        lines.push(format!("  and {} more", sidecars.len() - NAMED));
    }
    lines.push(format!(
        "Without a control plane their certificates end {lifetime} from now at the latest; until then \
         they serve on with what they know."
    ));
    lines.join("\n")
}

async fn remove(client: &Client, args: &Args) -> Result<(), Error> {
    let name = args.namespace.as_str();
    let inside = |api: &str, kind: &str, name: &str| {
        json!({
            "apiVersion": api, "kind": kind,
            "metadata": {"name": name, "namespace": args.namespace},
        })
    };
    // First nobody is asked any more about pods, then nobody writes any more.
    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": INJECTOR},
    });
    delete(client, &webhook).await?;
    delete(client, &inside("apps/v1", "Deployment", NAME)).await?;
    Box::pin(until_no_pod(client, name)).await?;
    let mut rest = objects::whatever(name);
    rest.retain(|object| args.crds || object["kind"] != "CustomResourceDefinition");
    rest.reverse();
    for object in &rest {
        delete(client, object).await?;
    }
    delete(client, &inside("coordination.k8s.io/v1", "Lease", NAME)).await?;
    remove_roots(client).await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), name);
    let ca = found(secrets.get(CA).await).map_err(refused(format!("Secret {name}/{CA}")))?;
    let ours = |labels: Option<BTreeMap<String, String>>, by: &str| {
        labels.is_some_and(|labels| labels.get(MADE_BY_US.0).is_some_and(|found| found == by))
    };
    match ca {
        Some(ca) if !ours(ca.metadata.labels.clone(), MADE_BY_US.1) => {
            writeln!(
                io::stdout(),
                "Secret {name}/{CA} and its namespace stay: the certificate authority is yours"
            )?;
            return Ok(());
        }
        Some(_) => delete(client, &inside("v1", "Secret", CA)).await?,
        None => {}
    }
    let ours_to_remove = namespace(name);
    let live = found(objects_like(client, &ours_to_remove).get(name).await);
    let live = live.map_err(refused(title(&ours_to_remove)))?;
    if live.is_some_and(|live| ours(live.metadata.labels, MANAGER)) {
        delete(client, &ours_to_remove).await?;
    }
    Ok(())
}

/// The mesh's roots in the users' namespaces: each is known by its label.
async fn remove_roots(client: &Client) -> Result<(), Error> {
    let all: Api<ConfigMap> = Api::all(client.clone());
    let ours = ListParams::default().labels(&format!("{}={}", MADE_BY_US.0, MADE_BY_US.1));
    let roots = all.list_metadata(&ours).await.map_err(refused("ConfigMaps with roots"))?;
    for root in roots.items {
        let metadata = root.metadata;
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": metadata.name, "namespace": metadata.namespace},
        });
        delete(client, &object).await?;
    }
    Ok(())
}

/// Deletes and waits until it is gone.
async fn delete(client: &Client, object: &Value) -> Result<(), Error> {
    let api = objects_like(client, object);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let deleted = found(api.delete(name, &DeleteParams::foreground()).await);
    let Some(answer) = deleted.map_err(refused(title(object)))? else { return Ok(()) };
    writeln!(io::stdout(), "  delete  {}", title(object))?;
    // An answer with the object says that it goes; one with a status, that it is gone.
    let uid = answer.left().and_then(|object: DynamicObject| object.metadata.uid);
    if let Some(uid) = uid {
        let gone = Box::pin(await_condition(api, name, is_deleted(&uid))).await;
        gone.map_err(|error| Error::Waiting(format!("{}: {error}", title(object))))?;
    }
    Ok(())
}

/// Until the last pod of the control plane has ended.
async fn until_no_pod(client: &Client, namespace: &str) -> Result<(), Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/name={NAME}"));
    for pod in pods.list(&ours).await.map_err(refused("the control plane's pods"))? {
        if let (Some(name), Some(uid)) = (pod.metadata.name, pod.metadata.uid) {
            let gone = Box::pin(await_condition(pods.clone(), &name, is_deleted(&uid))).await;
            gone.map_err(|error| Error::Waiting(format!("pod {name}: {error}")))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_named_and_counted() {
        let pods: Vec<String> = (0..25).map(|i| format!("shop/pod-{i}")).collect();
        let said = told(&pods, "12h");
        assert!(said.starts_with("25 pods have a sidecar:\n  shop/pod-0\n"), "{said}");
        assert!(said.contains("\n  and 5 more\n"), "{said}");
        assert!(said.contains("certificates end 12h from now at the latest"), "{said}");
        assert!(!told(&pods[..20], "12h").contains("more\n"));
    }
}
