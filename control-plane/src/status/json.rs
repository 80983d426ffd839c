//! Statuses as Gateway API has them: `status.parents` of routes, `status.ancestors` of policies, and
//! top-level conditions of our own kinds, so that `kubectl wait` works on all.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{CONTROLLER, Edition, Force, Parent, Standing, Told, Verdict};
use crate::world::objects::ObjectRef;

/// As the CRDs have it.
const MAX_PARENTS: usize = 32;
const MAX_ANCESTORS: usize = 16;
/// Pods that are named in a message.
const MAX_PODS: usize = 5;

/// The status of each object, and since when each condition is what it is.
#[derive(Debug, Default)]
pub(super) struct Documents {
    written: BTreeMap<ObjectRef, Written>,
    previous: Previous,
}

/// Whether a condition holds, and since when: by object, parent and type.
type Previous = BTreeMap<(ObjectRef, usize, &'static str), (bool, String)>;

/// A status, and what it says.
#[derive(Debug)]
struct Written {
    standing: Arc<Standing>,
    told: Told,
    status: Arc<Value>,
}

impl Documents {
    /// The status of each object, in order. Only what differs is made anew.
    pub(super) fn of(
        &mut self,
        standings: &BTreeMap<ObjectRef, Arc<Standing>>,
        tellings: &BTreeMap<ObjectRef, Told>,
        now: &str,
    ) -> Vec<Arc<Value>> {
        let Self { written, previous } = self;
        if written.keys().any(|object| !standings.contains_key(object)) {
            written.retain(|object, _| standings.contains_key(object));
            previous.retain(|(object, ..), _| standings.contains_key(object));
        }
        let none = Told::default();
        let each = standings.iter().map(|(object, standing)| {
            let told = tellings.get(object).unwrap_or(&none);
            let same = written
                .get(object)
                .filter(|written| written.standing == *standing && written.told == *told);
            if let Some(same) = same {
                return Arc::clone(&same.status);
            }
            let edition = standing.edition.as_ref();
            let mut writer = Writer { object, previous, now, edition };
            let status = Arc::new(writer.object(standing, told));
            let (standing, told) = (Arc::clone(standing), told.clone());
            let made = Written { standing, told, status: Arc::clone(&status) };
            written.insert(object.clone(), made);
            status
        });
        each.collect()
    }
}

struct Writer<'a> {
    object: &'a ObjectRef,
    previous: &'a mut Previous,
    now: &'a str,
    edition: Option<&'a Edition>,
}

impl Writer<'_> {
    fn object(&mut self, standing: &Standing, told: &Told) -> Value {
        let force = &told.force;
        let accepted = accepted(standing);
        let mut status = serde_json::Map::new();
        let route = self.object.kind.is_route();
        let (list, reference, most) = if route {
            ("parents", "parentRef", MAX_PARENTS)
        } else {
            ("ancestors", "ancestorRef", MAX_ANCESTORS)
        };
        let parents = standing.parents.iter().take(most).enumerate().map(|(at, parent)| {
            let invalid = accepted.clone().filter(|_| standing.invalid.is_some());
            let own = invalid.unwrap_or_else(|| parent.accepted.clone());
            let mut conditions = vec![self.condition(at, "Accepted", &own)];
            if let Some(resolved) = &parent.resolved {
                conditions.push(self.condition(at, "ResolvedRefs", resolved));
            }
            conditions.push(self.in_force(at, standing, told));
            json!({
                reference: reference_of(parent),
                "controllerName": CONTROLLER,
                "conditions": conditions,
            })
        });
        let parents: Vec<_> = parents.collect();
        let whole = accepted.unwrap_or_else(|| Verdict {
            holds: true,
            reason: "Accepted",
            message: not_by_all(standing, force).unwrap_or_default(),
        });
        if !parents.is_empty() {
            status.insert(list.to_owned(), parents.into());
        }
        if !route {
            let mut conditions = vec![
                self.condition(usize::MAX, "Accepted", &whole),
                self.in_force(usize::MAX, standing, told),
            ];
            let own = standing.own.iter().filter(|(kind, _)| *kind != "Accepted");
            conditions.extend(own.map(|(kind, own)| self.condition(usize::MAX, kind, own)));
            status.insert("conditions".to_owned(), conditions.into());
            // A column of `kubectl get`.
            status.insert("inForce".to_owned(), format!("{}/{}", force.on, force.of).into());
        }
        json!({
            "kind": self.object.kind.as_str(),
            "namespace": &*self.object.name.namespace,
            "name": &*self.object.name.name,
            "accepted": whole.holds,
            "reason": whole.reason,
            "message": whole.message,
            "inForce": force,
            "status": status,
        })
    }

    fn in_force(&mut self, at: usize, standing: &Standing, told: &Told) -> Value {
        let mut condition = self.condition(at, "InForce", &in_force(standing, &told.force));
        observe(&mut condition, told.edition.as_ref());
        condition
    }

    fn condition(&mut self, at: usize, kind: &'static str, verdict: &Verdict) -> Value {
        let fresh = || (verdict.holds, self.now.to_owned());
        let since = self.previous.entry((self.object.clone(), at, kind)).or_insert_with(fresh);
        if since.0 != verdict.holds {
            *since = (verdict.holds, self.now.to_owned());
        }
        let mut condition = json!({
            "type": kind,
            "status": if verdict.holds { "True" } else { "False" },
            "reason": verdict.reason,
            "message": verdict.message,
            "lastTransitionTime": since.1,
        });
        observe(&mut condition, self.edition);
        condition
    }
}

fn observe(condition: &mut Value, edition: Option<&Edition>) {
    if let Some(edition) = edition.filter(|edition| edition.generation > 0) {
        condition["observedGeneration"] = edition.generation.into();
    }
}

/// What is wrong with an object, or with where it is in force; `None`: nothing is.
pub fn problem(standing: &Standing, force: &Force) -> Option<String> {
    let verdict = accepted(standing).or_else(|| Some(in_force(standing, force)));
    verdict.filter(|verdict| !verdict.holds).map(|verdict| verdict.message)
}

/// The verdict on the whole object: the first bad one on any of its parents. `None` is good.
fn accepted(standing: &Standing) -> Option<Verdict> {
    if let Some(message) = &standing.invalid {
        let message = message.clone();
        return Some(Verdict { holds: false, reason: "Invalid", message });
    }
    let parents = standing.parents.iter().flat_map(|parent| {
        [Some(&parent.accepted), parent.resolved.as_ref()].into_iter().flatten()
    });
    let own = standing.own.iter().filter(|(kind, _)| *kind == "Accepted");
    let verdicts = own.map(|(_, own)| own).chain(parents);
    let mut verdicts = verdicts.filter(|verdict| !verdict.holds || !verdict.message.is_empty());
    verdicts.find(|verdict| !verdict.holds).cloned()
}

/// What some of those who use it cannot do.
fn not_by_all(standing: &Standing, force: &Force) -> Option<String> {
    let too_old = force.too_old.iter().map(|(field, proxies)| {
        let proxies = if *proxies == 1 { "1 proxy" } else { &format!("{proxies} proxies") };
        format!("{proxies} too old for {field}")
    });
    let all = not_by_grpc(standing, force).into_iter().chain(too_old);
    let all: Vec<_> = all.chain(unguarded(standing)).chain(bypassed(standing)).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// Whom nobody keeps to it.
fn unguarded(standing: &Standing) -> Option<String> {
    let pods = standing.without_sidecar.iter().map(ToString::to_string);
    pods_that_have("no sidecar, and let everybody in", pods)
}

/// Where nobody keeps those to it who have somebody who could.
fn bypassed(standing: &Standing) -> Option<String> {
    let pods = standing.bypassed.iter().map(|(pod, ports)| {
        let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
        format!("{pod} ({})", ports.join(" "))
    });
    pods_that_have("ports that lead past the sidecar, where it does not hold", pods)
}

fn pods_that_have(what: &str, mut pods: impl ExactSizeIterator<Item = String>) -> Option<String> {
    let has = match pods.len() {
        0 => return None,
        1 => "1 pod that it is about has".to_owned(),
        count => format!("{count} pods that it is about have"),
    };
    let names: Vec<_> = pods.by_ref().take(MAX_PODS).collect();
    let more = if pods.len() > 0 { ", …" } else { "" };
    Some(format!("{has} {what}: {}{more}", names.join(", ")))
}

fn not_by_grpc(standing: &Standing, force: &Force) -> Option<String> {
    let known = !standing.beyond_grpc.is_empty() && force.grpc > 0;
    known.then(|| {
        format!(
            "{} of {} are gRPC without a proxy, which does not do {}",
            force.grpc,
            force.of,
            standing.beyond_grpc.join("; ")
        )
    })
}

fn in_force(standing: &Standing, force: &Force) -> Verdict {
    let Force { on, of, rejections, too_old, unheard, .. } = force;
    let (holds, reason) = match (of, rejections.first()) {
        (of, _) if on == of && !too_old.is_empty() => (false, "ProxiesTooOld"),
        (of, _) if on == of && !unheard.is_empty() => (false, "Pending"),
        (0, _) => (true, "NotInUse"),
        (of, _) if on == of => (true, "InForce"),
        (_, Some(_)) => (false, "Rejected"),
        (_, None) => (false, "Pending"),
    };
    let mut message = match of {
        0 if unheard.is_empty() => "no proxy uses it".to_owned(),
        of => format!("in force on {on} of {of} proxies"),
    };
    if let Some(first) = rejections.first() {
        let first = format!("; {} rejects {}: {}", first.proxy, first.resource, first.reason);
        message.push_str(&first);
    }
    if !force.laggards.is_empty() {
        message.push_str(&format!("; waiting for {}", force.laggards.join(", ")));
        if force.waiting > force.laggards.len() {
            message.push_str(", …");
        }
    }
    if !unheard.is_empty() {
        let replicas = unheard.join(", ");
        message.push_str(&format!("; not told yet what proxies have of it: replica {replicas}"));
    }
    if let Some(limits) = not_by_all(standing, force) {
        message.push_str(&format!("; {limits}"));
    }
    if standing.invalid.is_some() {
        let before =
            if *of == 0 { String::new() } else { format!("; what it said before: {message}") };
        let message = format!("what it says now does not apply{before}");
        return Verdict { holds: false, reason: "Invalid", message };
    }
    Verdict { holds, reason, message }
}

fn reference_of(parent: &Parent) -> Value {
    let mut reference = json!({
        "group": parent.group,
        "kind": parent.kind,
        "name": &*parent.name.name,
    });
    let mut set = |key: &str, value: Value| {
        if !value.is_null() && value != "" {
            reference[key] = value;
        }
    };
    set("namespace", (&*parent.name.namespace).into());
    set("port", parent.port.into());
    set("sectionName", parent.section.clone().into());
    reference
}
