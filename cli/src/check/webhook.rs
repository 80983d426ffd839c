//! Injection: whether new pods get their sidecar.

use serde_json::Value;
use tulle_control_plane::{inject::FailurePolicy, k8s};

use super::{
    control_plane::DOWN,
    report::Report,
    rights::upgrade,
    snapshot::{Admission, Snapshot, list, text, texts},
};
use crate::install::{INJECTION, INJECTOR, NAME};

/// What explains that the API server gets no answer, or no right one.
const EXPLAINED: [&str; 11] = [
    "webhook-missing",
    "webhook-empty",
    "webhook-ca",
    "webhook-wrong",
    "service-missing",
    "service-wrong",
    "no-endpoints",
    "port-blocked",
    "injection-broken",
    "injection-missing",
    "not-installed",
];

/// What a quota says of a pod that does not say all that it counts.
const UNSAID: &str = "must specify ";
const RESOURCES: [&str; 2] = ["cpu", "memory"];
const REQUEST: &str = "request";
const LIMIT: &str = "limit";

pub(super) fn check(snapshot: &Snapshot, report: &mut Report) {
    let enabled = snapshot.enabled().count();
    let good = match report.has(&DOWN) {
        true => "it is set up, and waits for a control plane".to_owned(),
        false => format!("pods of {enabled} namespaces get their sidecar"),
    };
    report.area("injection", good);
    let object = format!("MutatingWebhookConfiguration {INJECTOR}");
    let again = format!(
        "kubectl -n {} rollout restart deployment {NAME}; it is written anew then",
        snapshot.namespace
    );
    if snapshot.known("injector") {
        match snapshot.one("injector") {
            None => {
                let problem = "it is not there: no pod gets a sidecar";
                report.problem("webhook-missing", object, problem, upgrade(snapshot));
            }
            Some(live) => configuration(snapshot, live, &again, report),
        }
    }
    if !report.has(&DOWN) {
        admissions(snapshot, report);
    }
}

/// The configuration as it is, beside what the control plane writes.
fn configuration(snapshot: &Snapshot, live: &Value, again: &str, report: &mut Report) {
    let object = format!("MutatingWebhookConfiguration {INJECTOR}");
    let map = format!("ConfigMap {}/{}", snapshot.namespace, INJECTION.0);
    let settings = match snapshot.injection() {
        Some(Ok(injection)) => injection.webhook,
        Some(Err(reason)) => {
            let problem = format!("{reason}: the control plane does not start with it");
            report.problem("injection-broken", map, problem, upgrade(snapshot));
            return;
        }
        None if snapshot.known("injection") => {
            let problem = "it is not there: the control plane does not start without it";
            report.problem("injection-missing", map, problem, upgrade(snapshot));
            return;
        }
        None => return,
    };
    if list(live, "/webhooks").is_empty() {
        if !report.has(&DOWN) {
            let problem = "the control plane has not filled it in: no pod gets a sidecar";
            report.problem("webhook-empty", object, problem, again);
        }
        return;
    }
    if settings.failure_policy == FailurePolicy::Ignore {
        let problem =
            "failurePolicy is Ignore: while no control plane answers, pods start without a sidecar";
        let remedy = format!(
            "if that is not wanted: {} --set injection.webhook.failurePolicy=Fail",
            upgrade(snapshot)
        );
        report.note("webhook-ignore", object.clone(), problem, remedy);
    }
    let Some(Ok(root)) = snapshot.root() else { return };
    let wanted = k8s::webhook_configuration(&snapshot.namespace, &root, &settings);
    for webhook in list(&wanted, "/webhooks") {
        let named = |live: &&Value| live["name"] == webhook["name"];
        let Some(live) = list(live, "/webhooks").iter().find(named) else {
            let problem = format!("the webhook {} is not in it", text(webhook, "/name"));
            report.problem("webhook-wrong", object.clone(), problem, again);
            continue;
        };
        if live["clientConfig"]["caBundle"] != webhook["clientConfig"]["caBundle"] {
            let problem = "its caBundle is not the mesh's root: the API server does not believe the control plane, and pods are refused";
            report.problem("webhook-ca", object.clone(), problem, again);
        }
        let mut rest = webhook.clone();
        rest["clientConfig"]["caBundle"] = live["clientConfig"]["caBundle"].clone();
        if let Some(field) = super::kinds::lacking("", &rest, live) {
            let problem = format!("{field} is not as the control plane writes it");
            report.problem("webhook-wrong", object.clone(), problem, again);
        }
    }
}

/// What became of new pods.
fn admissions(snapshot: &Snapshot, report: &mut Report) {
    for (namespace, admission) in &snapshot.admissions {
        let asked = snapshot.enabled().any(|other| super::snapshot::name(other) == namespace);
        let object = format!("Namespace {namespace}");
        match admission {
            Admission::Injected => {}
            Admission::Untried(why) => report.unchecked(object, why.as_str()),
            Admission::Bare if report.has(&EXPLAINED) || !asked => {}
            Admission::Bare => {
                let problem = "a new pod gets no sidecar there";
                let remedy =
                    format!("kubectl -n {} logs deploy/{NAME} | grep webhook", snapshot.namespace);
                report.problem("not-injected", object, problem, remedy);
            }
            Admission::Refused { why, .. } if why.contains("failed calling webhook") => {
                if report.has(&EXPLAINED) || report.has(&["networkpolicy"]) {
                    continue;
                }
                let object = format!("MutatingWebhookConfiguration {INJECTOR}");
                let remedy = format!("kubectl -n {} logs deploy/{NAME}", snapshot.namespace);
                report.problem("webhook-fails", object, why.as_str(), remedy);
            }
            Admission::Refused { also_without: true, .. } => {}
            Admission::Refused { .. } if !asked => {}
            // The pod that was tried says nothing; those that are there know how to.
            Admission::Refused { why, .. } if why.contains(UNSAID) && say(snapshot, namespace) => {}
            Admission::Refused { why, .. } => {
                let problem =
                    format!("a pod with a sidecar is refused there, and one without is not: {why}");
                report.problem("sidecar-refused", object, problem, remedy(namespace, why));
            }
        }
    }
}

/// What allows a sidecar, by what forbids it.
fn remedy(namespace: &str, why: &str) -> String {
    if why.contains("PodSecurity") {
        return format!(
            "kubectl label namespace {namespace} pod-security.kubernetes.io/enforce=privileged --overwrite: the init container that redirects traffic needs NET_ADMIN and NET_RAW; or let tulle-cni redirect it (install with --set cni.enabled=true)"
        );
    }
    if let Some((_, lacking)) = why.split_once(UNSAID) {
        let amounts: Vec<_> = lacking.split([' ', ',', ';']).filter_map(annotation).collect();
        return format!(
            "a quota there counts what a sidecar does not say: annotate the pods with {}, or give the namespace a LimitRange with defaults, \
             or the mesh a value (docs/injection.md, quotas)",
            amounts.join(", ")
        );
    }
    if why.contains("quota") {
        return format!(
            "kubectl -n {namespace} edit resourcequota: leave room for a sidecar in each pod (docs/install.md, injection.proxyResources)"
        );
    }
    if why.contains("usage per") {
        return format!(
            "kubectl -n {namespace} edit limitrange: a sidecar must fit in (docs/install.md, injection.proxyResources)"
        );
    }
    format!("let pods with a sidecar in: kubectl -n {namespace} get events")
}

/// Whether a pod there says by annotation what its sidecar asks for, or may use.
fn say(snapshot: &Snapshot, namespace: &str) -> bool {
    let mut pods = snapshot.injected().filter(|pod| text(pod, "/metadata/namespace") == namespace);
    pods.any(|pod| {
        let annotations = texts(pod, "annotations");
        RESOURCES.iter().any(|resource| {
            [REQUEST, LIMIT].iter().any(|of| annotations.contains_key(&named(resource, of)))
        })
    })
}

/// The annotation that says what a quota calls `limits.cpu`, if that is such a thing.
fn annotation(of_quota: &str) -> Option<String> {
    let (what, resource) = match of_quota.split_once('.') {
        Some(both) => both,
        None => ("requests", of_quota),
    };
    let of = [REQUEST, LIMIT].into_iter().find(|of| what.strip_suffix('s') == Some(of))?;
    RESOURCES.contains(&resource).then(|| named(resource, of))
}

fn named(resource: &str, of: &str) -> String {
    format!("tulle.dev/proxy-{resource}-{of}")
}
