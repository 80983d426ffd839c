//! NetworkPolicies that keep from each other who must meet.
//!
//! By their text: what a policy of an address range means is not known, and taken to allow.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    gather::title,
    report::Report,
    snapshot::{Snapshot, list, name, place, text, texts},
};

/// A port of the control plane: its name and number.
type Port = (&'static str, i64);

const XDS: Port = ("grpc", 15010);
const WEBHOOK: Port = ("https-webhook", 15017);

/// Policies, and the pods that they keep in.
type Fenced<'a> = (Vec<&'a Value>, Vec<String>);

/// One end of a connection that is a pod.
struct End<'a> {
    namespace: &'a str,
    namespace_labels: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Ingress,
    Egress,
}

pub(super) fn check(snapshot: &Snapshot, report: &mut Report) {
    report.area("network", "no NetworkPolicy keeps pods or the API server from the control plane");
    let Some(deployment) = snapshot.one("deployment") else { return };
    let template = &deployment["spec"]["template"];
    let control_plane = end(snapshot, &snapshot.namespace, texts(template, "labels"));
    let guards = selecting(snapshot, &control_plane, Way::Ingress);
    let pods: Vec<&Value> = snapshot.injected().collect();
    let cut = |pod: &&Value| {
        let from = end(snapshot, text(pod, "/metadata/namespace"), texts(pod, "labels"));
        !allowed(&guards, Way::Ingress, Some(&from), XDS)
    };
    let lost: Vec<String> = pods.iter().copied().filter(cut).map(place).collect();
    let mut kept = Vec::new();
    if !allowed(&guards, Way::Ingress, None, WEBHOOK) {
        kept.push("the API server, which is no pod, from the webhook".to_owned());
    }
    if !lost.is_empty() {
        kept.push(format!("{} from the control plane", some(&lost)));
    }
    if !kept.is_empty() {
        let problem = format!("it keeps {}", kept.join(", and "));
        let what = "let TCP 15017 in from everywhere, and 15010 from every namespace with sidecars";
        let remedy = remedy(&guards, &snapshot.namespace, what);
        report.problem("networkpolicy", titles(&guards), problem, remedy);
    }
    let mut fenced: BTreeMap<String, Fenced<'_>> = BTreeMap::new();
    for pod in pods {
        let from = end(snapshot, text(pod, "/metadata/namespace"), texts(pod, "labels"));
        let fences = selecting(snapshot, &from, Way::Egress);
        if !allowed(&fences, Way::Egress, Some(&control_plane), XDS) {
            let entry = fenced.entry(titles(&fences)).or_insert_with(|| (fences, Vec::new()));
            entry.1.push(place(pod));
        }
    }
    for (title, (fences, lost)) in fenced {
        let namespace = fences.first().map_or("", |policy| text(policy, "/metadata/namespace"));
        report.problem(
            "networkpolicy",
            title,
            format!("it keeps {} from the control plane", some(&lost)),
            remedy(
                &fences,
                namespace,
                &format!("let TCP 15010 out to namespace {}", snapshot.namespace),
            ),
        );
    }
}

fn remedy(policies: &[&Value], namespace: &str, what: &str) -> String {
    let names: Vec<_> = policies.iter().map(|policy| name(policy)).collect();
    format!("{what}: kubectl -n {namespace} edit networkpolicy {}", names.join(" "))
}

fn titles(policies: &[&Value]) -> String {
    let titles: Vec<_> = policies.iter().map(|policy| title("NetworkPolicy", policy)).collect();
    titles.join(", ")
}

/// The first few of many.
pub(super) fn some(places: &[String]) -> String {
    match places {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [first, second] => format!("{first} and {second}"),
        [first, second, rest @ ..] => format!("{first}, {second} and {} more", rest.len()),
    }
}

fn end<'a>(snapshot: &Snapshot, namespace: &'a str, labels: BTreeMap<String, String>) -> End<'a> {
    let namespace_labels =
        snapshot.namespace(namespace).map(|n| texts(n, "labels")).unwrap_or_default();
    End { namespace, namespace_labels, labels }
}

/// The policies that decide about an end of a connection.
fn selecting<'a>(snapshot: &'a Snapshot, end: &End<'_>, way: Way) -> Vec<&'a Value> {
    let word = if way == Way::Ingress { "Ingress" } else { "Egress" };
    let decides = |policy: &Value| {
        let types = list(policy, "/spec/policyTypes");
        // As the API server fills them in; of old ones without, as it would.
        types.iter().any(|t| t == word) || (types.is_empty() && way == Way::Ingress)
    };
    let all = snapshot.all("networkpolicies").iter();
    all.filter(|policy| {
        text(policy, "/metadata/namespace") == end.namespace
            && decides(policy)
            && selects(&policy["spec"]["podSelector"], &end.labels)
    })
    .collect()
}

/// Whether these policies together let a connection through; `other` is its other end, `None` somebody who is no pod.
fn allowed(policies: &[&Value], way: Way, other: Option<&End<'_>>, port: Port) -> bool {
    let (rules, peers) = match way {
        Way::Ingress => ("/spec/ingress", "/from"),
        Way::Egress => ("/spec/egress", "/to"),
    };
    policies.is_empty()
        || policies.iter().any(|policy| {
            let own = text(policy, "/metadata/namespace");
            list(policy, rules).iter().any(|rule| {
                let peers = list(rule, peers);
                let ports = list(rule, "/ports");
                (ports.is_empty() || ports.iter().any(|p| is_port(p, port)))
                    && (peers.is_empty() || peers.iter().any(|p| is_peer(p, own, other)))
            })
        })
}

fn is_port(allowed: &Value, (called, number): Port) -> bool {
    let tcp = ["", "TCP"].contains(&text(allowed, "/protocol"));
    let fits = match &allowed["port"] {
        Value::Null => true,
        Value::String(name) => name == called,
        first => {
            let first = first.as_i64().unwrap_or(-1);
            (first..=allowed["endPort"].as_i64().unwrap_or(first)).contains(&number)
        }
    };
    tcp && fits
}

fn is_peer(peer: &Value, own: &str, other: Option<&End<'_>>) -> bool {
    if peer.get("ipBlock").is_some() {
        return true;
    }
    let Some(other) = other else { return false };
    let namespace = match peer.get("namespaceSelector") {
        Some(selector) => selects(selector, &other.namespace_labels),
        None => other.namespace == own,
    };
    namespace && peer.get("podSelector").is_none_or(|selector| selects(selector, &other.labels))
}

/// A label selector; an empty one selects everything.
pub(super) fn selects(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str());
    let expressions = list(selector, "/matchExpressions").iter().all(|expression| {
        let value = labels.get(text(expression, "/key"));
        let listed = value.is_some_and(|value| {
            list(expression, "/values").iter().any(|listed| listed.as_str() == Some(value))
        });
        match text(expression, "/operator") {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            _ => value.is_none(),
        }
    });
    equal && expressions
}
