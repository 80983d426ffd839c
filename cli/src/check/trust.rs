//! The mesh's root, and whether everybody has it.

use time::{Duration, OffsetDateTime};
use tulle_control_plane::inject::INJECTED;

use super::{
    gather::title,
    report::Report,
    snapshot::{Snapshot, annotation, name, text},
};
use crate::install::NAME;

/// Who signs must be replaced by then: time enough for somebody to see it.
const SOON: Duration = Duration::days(7);

pub(super) fn check(snapshot: &Snapshot, report: &mut Report) {
    report.area("trust", "who signs is valid, and every namespace has the roots");
    if !snapshot.known("secret") {
        return;
    }
    let namespace = &snapshot.namespace;
    let object = format!("Secret {namespace}/tulle-ca");
    let serves = snapshot
        .one("deployment")
        .is_some_and(|d| d["status"]["availableReplicas"].as_i64() > Some(0));
    match snapshot.root() {
        None if serves => {
            let problem = "it is not there: the mesh's root is lost when the last replica ends, and no sidecar will know the next one";
            let remedy = format!(
                "put it back from a backup; without one: kubectl -n {namespace} rollout restart deployment {NAME}, then restart every pod that has a sidecar"
            );
            report.problem("ca-missing", object, problem, remedy);
        }
        None => {}
        Some(Err(reason)) => {
            let problem = format!(
                "{reason}; what was in force before stays, until the control plane starts anew"
            );
            let remedy = "put a signing certificate, its key and its roots there (tls.crt, tls.key, ca.crt): docs/identity.md";
            report.problem("ca-broken", object, problem, remedy);
        }
        Some(Ok(root)) => {
            let now = OffsetDateTime::from_unix_timestamp(snapshot.now);
            let left = now.map_or(SOON * 2, |now| root.not_after() - now);
            if left < SOON {
                let problem = format!(
                    "who signs is valid for {} h more: certificates end with it, and then the mesh stands still",
                    left.whole_hours()
                );
                let remedy = "renew it (cert-manager: cmctl renew, or see its Certificate's events): docs/identity.md";
                report.problem("ca-ending", object, problem, remedy);
            }
            let bundle = bundle(snapshot, &root.trusted_pem());
            roots(snapshot, &bundle, report);
        }
    }
}

/// What every namespace has: the control plane's own says it, if all of the Secret's roots, `pem`, are in it. While one root
/// takes over from another there are more.
fn bundle(snapshot: &Snapshot, pem: &str) -> String {
    const END: &str = "-----END CERTIFICATE-----\n";
    let mut maps = snapshot.all("roots").iter();
    let own = maps.find(|map| text(map, "/metadata/namespace") == snapshot.namespace);
    let own = own.map(|map| text(map, "/data/roots.pem")).unwrap_or_default();
    match pem.split_inclusive(END).all(|root| own.contains(root)) {
        true => own.to_owned(),
        false => pem.to_owned(),
    }
}

/// Each namespace with sidecars has the roots in a ConfigMap.
fn roots(snapshot: &Snapshot, pem: &str, report: &mut Report) {
    if !snapshot.known("roots") || !snapshot.known("pods") {
        return;
    }
    let remedy = format!(
        "kubectl -n {} rollout restart deployment {NAME}; it is written at once then",
        snapshot.namespace
    );
    let needs = |namespace: &str| {
        snapshot.living().any(|pod| {
            text(pod, "/metadata/namespace") == namespace && annotation(pod, INJECTED).is_some()
        })
    };
    for namespace in snapshot.all("namespaces").iter().filter(|namespace| needs(name(namespace))) {
        let mut maps = snapshot.all("roots").iter();
        let map = maps.find(|map| text(map, "/metadata/namespace") == name(namespace));
        let object = format!("ConfigMap {}/tulle-roots", name(namespace));
        match map {
            None => {
                let problem = "it is not there: pods that start wait for it";
                report.problem("roots-missing", object, problem, remedy.clone());
            }
            Some(map) if map["data"]["roots.pem"] != pem => {
                let problem = "it does not hold the mesh's roots: sidecars that start do not know the control plane";
                report.problem("roots-wrong", title("ConfigMap", map), problem, remedy.clone());
            }
            Some(_) => {}
        }
    }
}
