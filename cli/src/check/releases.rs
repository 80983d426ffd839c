//! Releases: whether what they are about can be released as they say. What the control plane sees is in their statuses; what it
//! does not watch is looked at here.

mod others;
mod rollout;
mod traffic;

use std::sync::Arc;

use serde_json::{Value, json};
use tulle_control_plane::{
    convert::convert,
    inject::LABEL,
    world::objects::{Object, Release, Target},
};

use super::{
    gather::title,
    network,
    pods::owner,
    policy,
    report::Report,
    snapshot::{Snapshot, ending, label, list, name, text, texts},
};

pub(super) fn check(snapshot: &Snapshot, report: &mut Report) {
    let releases = snapshot.all("Release");
    if releases.is_empty() {
        return;
    }
    let good = match releases.len() {
        1 => "what is to be released can be".to_owned(),
        count => format!("what {count} of them are about can be released"),
    };
    report.area("releases", good);
    for object in releases.iter().filter(|object| !ending(object)) {
        let Some(release) = read(object) else {
            // Its status says why.
            policy::one(snapshot, "Release", object, report);
            continue;
        };
        let look = Look { snapshot, object, release: &release };
        if look.is_refused(report) || others::check(&look, report) {
            continue;
        }
        traffic::check(&look, report);
        match &release.target {
            Target::Deployment(deployment) => rollout::check(&look, deployment, report),
            Target::Two { .. } => look.two(report),
        }
    }
}

/// As the control plane reads it, if it can.
fn read(object: &Value) -> Option<Arc<Release>> {
    match convert(object).object {
        Some(Object::Release(release)) => Some(release),
        _ => None,
    }
}

/// A release, and the cluster that it is in.
struct Look<'a> {
    snapshot: &'a Snapshot,
    object: &'a Value,
    release: &'a Release,
}

impl Look<'_> {
    fn namespace(&self) -> &str {
        &self.release.name.namespace
    }

    /// `Release shop/reviews`.
    fn title(&self) -> String {
        self.release.reference().to_string()
    }

    /// Objects of its namespace.
    fn here(&self, kind: &str) -> impl Iterator<Item = &Value> {
        let all = self.snapshot.all(kind).iter();
        all.filter(|object| text(object, "/metadata/namespace") == self.namespace())
    }

    /// Says what its status does; whether that is that it does nothing.
    fn is_refused(&self, report: &mut Report) -> bool {
        let conditions = list(self.object, "/status/conditions").iter();
        let mut refused =
            conditions.filter(|one| one["type"] == "Accepted" && one["status"] == "False");
        let Some(refused) = refused.next() else {
            policy::one(self.snapshot, "Release", self.object, report);
            return false;
        };
        let (namespace, name) = (self.namespace(), &self.release.name.name);
        match text(refused, "/reason") {
            "Conflicted" => {
                let remedy =
                    format!("keep one of the two: kubectl -n {namespace} delete release {name}");
                report.problem("release-conflict", self.title(), text(refused, "/message"), remedy);
            }
            "NoSidecar" => self.bare(text(refused, "/message"), report),
            _ => policy::one(self.snapshot, "Release", self.object, report),
        }
        true
    }

    /// There are no sidecars, which may have been said of its pods.
    fn bare(&self, said: &str, report: &mut Report) {
        let namespace = self.namespace();
        let workloads =
            self.release.workloads().map(|one| format!("{} {namespace}/{}", one.kind, one.name));
        let workloads: Vec<_> = workloads.collect();
        let known = |code: &str, object: &str| {
            let is_of =
                |title: &String| title == object || format!("Namespace {namespace}") == object;
            ["no-sidecar", "not-injected"].contains(&code) && workloads.iter().any(is_of)
        };
        if report.findings().any(|finding| known(finding.code, &finding.object)) {
            return;
        }
        let enabled = self.snapshot.namespace(namespace).and_then(|one| label(one, LABEL));
        let first = match enabled {
            Some("enabled") => String::new(),
            _ => format!("kubectl label namespace {namespace} {LABEL}=enabled; "),
        };
        let restart = self.release.workloads().map(|one| {
            format!(
                "kubectl -n {namespace} rollout restart {} {}",
                one.kind.to_lowercase(),
                one.name
            )
        });
        let restart: Vec<_> = restart.collect();
        report.problem("release-bare", self.title(), said, first + &restart.join("; "));
    }

    /// Two workloads: a Service that selects one of them alone has nothing that could be divided.
    fn two(&self, report: &mut Report) {
        let namespace = self.namespace();
        let of = |(kind, name): (String, String)| {
            let title = format!("{kind} {namespace}/{name}");
            let pods = self.snapshot.living().filter(|pod| owner(pod).0 == title);
            (name, pods.collect::<Vec<_>>())
        };
        let both: Vec<_> = self.release.workloads().map(|one| of((one.kind, one.name))).collect();
        if both.iter().any(|(_, pods)| pods.is_empty()) {
            return;
        }
        for service in self.here("Service") {
            let told = &service["spec"]["selector"];
            let selector = json!({"matchLabels": told});
            let has = |pod: &&Value| network::selects(&selector, &texts(pod, "labels"));
            let selected = both.iter().filter(|(_, pods)| told.is_object() && pods.iter().any(has));
            let selected: Vec<_> = selected.map(|(name, _)| name.as_str()).collect();
            let ([only], Some(by)) = (selected.as_slice(), self.leads_to(service)) else {
                continue;
            };
            report.note(
                "release-undivided",
                title("Service", service),
                format!("{by}, and it has pods of {only} alone: {} divides nothing of what goes there", self.title()),
                "name a Service that selects both workloads, and let the Release say what goes to which",
            );
        }
    }

    /// Who says that requests shall go to a Service, so that somebody may expect them to be divided.
    fn leads_to(&self, service: &Value) -> Option<String> {
        let wanted = name(service);
        if self.release.services.iter().any(|named| named == wanted) {
            return Some("the release names it".to_owned());
        }
        let leads = |route: &&Value| {
            let rules = list(route, "/spec/rules").iter();
            let mut backends = rules.flat_map(|rule| list(rule, "/backendRefs"));
            policy::of_the_mesh(route) && backends.any(|backend| backend["name"] == wanted)
        };
        ["HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute"].into_iter().find_map(|kind| {
            let route = self.here(kind).find(leads)?;
            Some(format!("{} sends requests to it", title(kind, route)))
        })
    }
}
