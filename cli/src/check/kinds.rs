//! Gateway API's kinds and ours: whether they are there, and as this version knows them.

use serde_json::Value;

use super::{
    report::Report,
    snapshot::{Snapshot, annotation, name, text},
};
use crate::install;

const GATEWAY: &str = "gateway.networking.k8s.io";
/// The first release whose standard channel has all that we read.
const OLDEST: (u32, u32) = (1, 2);

pub(super) fn check(snapshot: &Snapshot, report: &mut Report) {
    report.area("kinds", "Gateway API's and Tulle's are there");
    if !snapshot.known("kinds") {
        return;
    }
    for wanted in install::gateway_kinds().iter().chain(&install::kinds()) {
        if find(snapshot, name(wanted)).is_none() {
            report.problem(
                "kind-missing",
                format!("CustomResourceDefinition {}", name(wanted)),
                format!(
                    "it is not there: no {} can be written or read",
                    text(wanted, "/spec/names/kind")
                ),
                upgrade(snapshot),
            );
        }
    }
    for wanted in install::kinds() {
        let Some(live) = find(snapshot, name(&wanted)) else { continue };
        if let Some(field) = lacking("", &schema(&wanted), &schema(live)) {
            report.problem(
                "kind-old",
                format!("CustomResourceDefinition {}", name(&wanted)),
                format!("it is not as this version of Tulle has it: {field} differs"),
                upgrade(snapshot),
            );
        }
    }
    gateway(snapshot, report);
}

/// Before an installation: what is missing will be brought, what is there must do.
pub(super) fn before(snapshot: &Snapshot, report: &mut Report) {
    report.area("kinds", "none is in the way");
    gateway(snapshot, report);
}

fn gateway(snapshot: &Snapshot, report: &mut Report) {
    let mut bundles: Vec<(String, String)> = Vec::new();
    for wanted in install::gateway_kinds() {
        let Some(live) = find(snapshot, name(&wanted)) else { continue };
        let version = annotation(live, &format!("{GATEWAY}/bundle-version")).unwrap_or_default();
        let channel = annotation(live, &format!("{GATEWAY}/channel")).unwrap_or_default();
        let bundle = (version.to_owned(), channel.to_owned());
        if parse(version).is_some_and(|version| version < OLDEST) {
            report.problem(
                "kind-old",
                format!("CustomResourceDefinition {}", name(live)),
                format!("it is of Gateway API {version}; Tulle needs v{}.{} or newer", OLDEST.0, OLDEST.1),
                format!("kubectl apply --server-side -f https://github.com/kubernetes-sigs/gateway-api/releases/download/{}/standard-install.yaml", bundle_of(&wanted)),
            );
        } else if !bundles.contains(&bundle) {
            bundles.push(bundle);
        }
    }
    if let [first, second, ..] = bundles.as_slice() {
        report.note(
            "kinds-mixed",
            "Gateway API's CustomResourceDefinitions",
            format!(
                "they are of several releases: {} {} and {} {}",
                first.0, first.1, second.0, second.1
            ),
            "install all of one release",
        );
    }
}

fn bundle_of(definition: &Value) -> &str {
    annotation(definition, &format!("{GATEWAY}/bundle-version")).unwrap_or_default()
}

fn find<'a>(snapshot: &'a Snapshot, wanted: &str) -> Option<&'a Value> {
    snapshot.all("kinds").iter().find(|kind| name(kind) == wanted)
}

/// `v1.6.3` → (1, 6)
fn parse(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.strip_prefix('v')?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn schema(definition: &Value) -> Value {
    definition.pointer("/spec/versions/0/schema/openAPIV3Schema").cloned().unwrap_or_default()
}

/// The first field of `wanted` that `live` has not or has otherwise. What the API server adds does not matter.
pub(super) fn lacking(path: &str, wanted: &Value, live: &Value) -> Option<String> {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => wanted.iter().find_map(|(field, value)| {
            let path = format!("{path}.{field}");
            lacking(&path, value, live.get(field).unwrap_or(&Value::Null))
        }),
        (Value::Array(wanted), Value::Array(live)) if wanted.len() == live.len() => {
            let mut both = wanted.iter().zip(live).enumerate();
            both.find_map(|(at, (wanted, live))| lacking(&format!("{path}[{at}]"), wanted, live))
        }
        // 1 and 1.0 are the same number in two spellings.
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => None,
        _ if wanted == live => None,
        _ => Some(path.trim_start_matches('.').replace("properties.", "")),
    }
}

fn upgrade(snapshot: &Snapshot) -> String {
    super::rights::upgrade(snapshot)
}
