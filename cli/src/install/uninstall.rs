//! `tulle uninstall`: everything of the installation goes, in an order in which nothing is left to
//! refuse pods or to write what was just removed.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration as Span,
};

use clap::Parser;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams},
    core::DynamicObject,
    runtime::{conditions::is_deleted, wait::await_condition},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use tulle_api::Duration;
use tulle_control_plane::inject::INJECTED;

use super::{
    Error, MANAGER, block_on, control_plane, monitors, namespace,
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
    /// How long to wait for an object to be gone, before it goes on with the next.
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    timeout: Duration,
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
        let (namespace, patience) = (args.namespace.as_str(), args.timeout.get());
        let mut removal = Removal { client: &client, namespace, patience, stays: Vec::new() };
        Box::pin(removal.run(args.crds)).await?;
        if !removal.stays.is_empty() {
            return Err(Error::Stays { what: removal.stays.join("\n  "), after: args.timeout });
        }
        writeln!(out, "Tulle is removed")?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Pods that have a sidecar: `namespace/name`. One that has ended (a Job's that is kept) needs no control plane any more.
async fn sidecars(client: &Client) -> Result<Vec<String>, Error> {
    let pods: Api<Pod> = Api::all(client.clone());
    let live = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    let pods = pods.list_metadata(&live).await.map_err(refused("all pods"))?;
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

/// What is removed. What is asked to go and is not gone in time holds up nothing else: where a node does not answer, its pods
/// stay for as long, and what waits for them.
struct Removal<'a> {
    client: &'a Client,
    namespace: &'a str,
    /// For one object to be gone.
    patience: Span,
    /// What was not.
    stays: Vec<String>,
}

impl Removal<'_> {
    async fn run(&mut self, crds: bool) -> Result<(), Error> {
        let (client, name) = (self.client, self.namespace);
        let inside = |api: &str, kind: &str, own: &str| {
            json!({
                "apiVersion": api, "kind": kind,
                "metadata": {"name": own, "namespace": name},
            })
        };
        // First nobody is asked any more about pods, then nobody writes any more.
        let webhook = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": INJECTOR},
        });
        self.delete(&webhook).await?;
        self.delete(&inside("apps/v1", "Deployment", NAME)).await?;
        Box::pin(self.until_no_pod()).await?;
        let mut rest = objects::whatever(name);
        rest.retain(|object| crds || object["kind"] != "CustomResourceDefinition");
        let monitors = monitors::known(client).await.map_err(refused("the kind PodMonitor"))?;
        rest.retain(|object| monitors || object["kind"] != monitors::KIND);
        rest.reverse();
        for object in &rest {
            self.delete(object).await?;
        }
        self.delete(&inside("coordination.k8s.io/v1", "Lease", NAME)).await?;
        self.remove_roots().await?;
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
            Some(_) => self.delete(&inside("v1", "Secret", CA)).await?,
            None => {}
        }
        let ours_to_remove = namespace(name);
        let live = found(objects_like(client, &ours_to_remove).get(name).await);
        let live = live.map_err(refused(title(&ours_to_remove)))?;
        if live.is_some_and(|live| ours(live.metadata.labels, MANAGER)) {
            self.delete(&ours_to_remove).await?;
        }
        Ok(())
    }

    /// The mesh's roots in the users' namespaces: each is known by its label.
    async fn remove_roots(&mut self) -> Result<(), Error> {
        let all: Api<ConfigMap> = Api::all(self.client.clone());
        let ours = ListParams::default().labels(&format!("{}={}", MADE_BY_US.0, MADE_BY_US.1));
        let roots = all.list_metadata(&ours).await.map_err(refused("ConfigMaps with roots"))?;
        for root in roots.items {
            let metadata = root.metadata;
            let object = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": metadata.name, "namespace": metadata.namespace},
            });
            self.delete(&object).await?;
        }
        Ok(())
    }

    /// Deletes and waits until it is gone.
    async fn delete(&mut self, object: &Value) -> Result<(), Error> {
        let api = objects_like(self.client, object);
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let deleted = found(api.delete(name, &DeleteParams::foreground()).await);
        let Some(answer) = deleted.map_err(refused(title(object)))? else { return Ok(()) };
        writeln!(io::stdout(), "  delete  {}", title(object))?;
        // An answer with the object says that it goes; one with a status, that it is gone.
        let uid = answer.left().and_then(|object: DynamicObject| object.metadata.uid);
        match uid {
            Some(uid) => self.gone(api, (name, &uid), title(object), self.end()).await,
            None => Ok(()),
        }
    }

    /// Until the last pod of the control plane has ended.
    async fn until_no_pod(&mut self) -> Result<(), Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), self.namespace);
        let ours = ListParams::default().labels(&format!("app.kubernetes.io/name={NAME}"));
        let end = self.end();
        for pod in pods.list(&ours).await.map_err(refused("the control plane's pods"))? {
            if let (Some(name), Some(uid)) = (pod.metadata.name, pod.metadata.uid) {
                let title = format!("Pod {}/{name}", self.namespace);
                self.gone(pods.clone(), (&name, &uid), title, end).await?;
            }
        }
        Ok(())
    }

    fn end(&self) -> Instant {
        Instant::now() + self.patience
    }

    /// Waits until an object is gone, or notes that it was not.
    async fn gone<K>(
        &mut self,
        api: Api<K>,
        (name, uid): (&str, &str),
        title: String,
        end: Instant,
    ) -> Result<(), Error>
    where
        K: Resource + Clone + fmt::Debug + Send + DeserializeOwned + 'static,
    {
        let gone = Box::pin(await_condition(api, name, is_deleted(uid)));
        match timeout_at(end, gone).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(Error::Waiting(format!("{title}: {error}"))),
            Err(_elapsed) => {
                writeln!(io::stdout(), "  stays   {title}")?;
                self.stays.push(title);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Method, Request, Response};
    use kube::client::Body;

    use super::*;

    /// A cluster that answers like this; what it says nothing to, it never answers.
    fn cluster(answer: impl Fn(&Method, &str) -> Option<Value> + Send + 'static) -> Client {
        let service = tower::service_fn(move |request: Request<Body>| {
            let target = request.uri().path_and_query().map(ToString::to_string);
            let answer = answer(request.method(), &target.unwrap_or_default());
            async move {
                match answer {
                    Some(value) => Ok::<_, Infallible>(Response::new(Body::from(
                        value.to_string().into_bytes(),
                    ))),
                    None => std::future::pending().await,
                }
            }
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn pods_that_have_ended_are_nobodys_reason_to_stay() {
        let client = cluster(|_, target| {
            let pod = |name: &str| {
                let annotations = json!({INJECTED: "0"});
                json!({"metadata": {"namespace": "shop", "name": name, "annotations": annotations}})
            };
            // `!=` and `,`, as they are written in a URL.
            let live = target.contains("status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed");
            let pods = if live { vec![pod("web")] } else { vec![pod("web"), pod("once")] };
            Some(json!({
                "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
                "metadata": {}, "items": pods,
            }))
        });
        assert_eq!(sidecars(&client).await.unwrap(), ["shop/web"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_go_is_named_and_holds_up_nothing() {
        // It takes every object to be deleted, and none is ever seen to be gone.
        let client = cluster(|method, target| {
            let name = target.split('?').next()?.rsplit('/').next()?.to_owned();
            let object = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "uid": "u"},
            });
            (method == Method::DELETE).then_some(object)
        });
        let patience = Span::from_secs(60);
        let stays = Vec::new();
        let mut removal = Removal { client: &client, namespace: "m", patience, stays };
        let started = Instant::now();
        for name in ["a", "b"] {
            let metadata = json!({"name": name, "namespace": "m"});
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
            removal.delete(&object).await.unwrap();
        }
        assert_eq!(removal.stays, ["ConfigMap m/a", "ConfigMap m/b"]);
        assert_eq!(started.elapsed().as_secs(), 120);
    }

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
