//! Tells as Events what an operator must know of an object: that it is not accepted, or that proxies reject it; and when
//! that is over. `kubectl describe` and `kubectl events` show them.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde_json::Value;

use super::{MANAGER, book::Page};
use crate::{status::CONTROLLER, world::objects::ObjectRef};

/// Longest note, in bytes: Kubernetes refuses more than 1024.
const LONGEST: usize = 1000;

/// Tells Events. Clones share.
#[derive(Clone)]
pub(super) struct Events(Recorder);

impl Events {
    /// Those that this replica tells.
    pub(super) fn new(client: Client, replica: String) -> Self {
        let reporter = Reporter { controller: MANAGER.to_owned(), instance: Some(replica) };
        Self(Recorder::new(client, reporter))
    }

    /// Tells what `status` says that the one on the `page` did not. That an Event cannot be written is no reason to do
    /// anything else otherwise.
    pub(super) async fn tell(&self, object: &ObjectRef, page: &Page, status: &Value) {
        let namespace = &*object.name.namespace;
        let regarding = ObjectReference {
            api_version: Some(page.api_version.clone()),
            kind: Some(object.kind.as_str().to_owned()),
            namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
            name: Some(object.name.name.to_string()),
            uid: Some(page.uid.clone()),
            ..ObjectReference::default()
        };
        for event in news(&page.status, status) {
            if let Err(error) = self.0.publish(&event, &regarding).await {
                tracing::debug!(%object, %error, "an Event could not be written");
            }
        }
    }
}

/// What is bad and was not for that reason, and what is not any more.
fn news(before: &Value, now: &Value) -> Vec<Event> {
    let before = conditions(before);
    let each = conditions(now).into_iter().filter_map(|(place, condition)| {
        let earlier = before.iter().find(|(other, earlier)| {
            *other == place && earlier.get("type") == condition.get("type")
        });
        let earlier = earlier.map(|(_, earlier)| *earlier).filter(|earlier| is_bad(earlier));
        let type_ = match (is_bad(condition), earlier) {
            (true, Some(earlier)) if earlier.get("reason") == condition.get("reason") => None,
            (true, _) => Some(EventType::Warning),
            (false, Some(_)) if condition["status"] == "True" => Some(EventType::Normal),
            (false, _) => None,
        }?;
        let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
        let mut note = text("message");
        note.truncate(note.floor_char_boundary(LONGEST));
        let note = (!note.is_empty()).then_some(note);
        Some(Event { type_, reason: text("reason"), note, action: text("type"), secondary: None })
    });
    each.collect()
}

/// Our conditions, with what each is about: a route's parent, or nothing but the object itself.
fn conditions(status: &Value) -> Vec<(Option<&Value>, &Value)> {
    let own = list(&status["conditions"]).map(|condition| (None, condition));
    let parents = list(&status["parents"]).filter(|parent| parent["controllerName"] == CONTROLLER);
    let of_parents = parents.flat_map(|parent| {
        list(&parent["conditions"]).map(|condition| (parent.get("parentRef"), condition))
    });
    own.chain(of_parents).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Whether somebody has to do something. What is on its way comes through by itself; that what does not apply is not in force
/// either goes without saying.
fn is_bad(condition: &Value) -> bool {
    let quiet = |word: &&str| condition["type"] == "InForce" && condition["reason"] == *word;
    condition["status"] == "False" && !["Pending", "Invalid"].iter().any(quiet)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn condition(kind: &str, status: &str, reason: &str) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": format!("{reason}!")})
    }

    fn told(before: &Value, now: &Value) -> Vec<String> {
        let text = |event: Event| {
            format!("{:?} {} {}: {}", event.type_, event.action, event.reason, event.note.unwrap())
        };
        news(before, now).into_iter().map(text).collect()
    }

    #[test]
    fn what_becomes_bad_is_told_once_and_so_is_its_end() {
        let status = |accepted: (&str, &str), in_force: (&str, &str)| {
            json!({"conditions": [
                condition("Accepted", accepted.0, accepted.1),
                condition("InForce", in_force.0, in_force.1),
            ]})
        };
        let good = status(("True", "Accepted"), ("True", "InForce"));
        let pending = status(("True", "Accepted"), ("False", "Pending"));
        let rejected = status(("True", "Accepted"), ("False", "Rejected"));
        let lost = status(("False", "TargetNotFound"), ("True", "NotInUse"));
        let nothing = Value::Null;
        for (before, now, expected) in [
            (&nothing, &good, &[][..]),
            (&good, &pending, &[]),
            (&pending, &good, &[]),
            (&pending, &rejected, &["Warning InForce Rejected: Rejected!"]),
            (&rejected, &rejected, &[]),
            (&rejected, &pending, &[]),
            (&rejected, &good, &["Normal InForce InForce: InForce!"]),
            (&nothing, &lost, &["Warning Accepted TargetNotFound: TargetNotFound!"]),
            (
                &rejected,
                &lost,
                &[
                    "Warning Accepted TargetNotFound: TargetNotFound!",
                    "Normal InForce NotInUse: NotInUse!",
                ],
            ),
        ] {
            assert_eq!(told(before, now), expected, "{before} {now}");
        }
    }

    #[test]
    fn parents_are_told_apart_and_others_are_not_ours_to_tell() {
        let parent = |name: &str, controller: &str, status: &str| {
            let conditions = [condition("Accepted", status, "NoMatchingParent")];
            json!({"parentRef": {"name": name}, "controllerName": controller, "conditions": conditions})
        };
        let before =
            json!({"parents": [parent("a", CONTROLLER, "False"), parent("b", CONTROLLER, "True")]});
        let now = json!({"parents": [
            parent("a", CONTROLLER, "False"),
            parent("b", CONTROLLER, "False"),
            parent("c", "example.org/other", "False"),
        ]});
        assert_eq!(told(&before, &now), ["Warning Accepted NoMatchingParent: NoMatchingParent!"]);
        assert_eq!(told(&now, &now), [""; 0]);
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        let mut long = condition("Accepted", "False", "Invalid");
        long["message"] = "é".repeat(600).into();
        let events = news(&Value::Null, &json!({"conditions": [long]}));
        assert_eq!(events[0].note.as_ref().unwrap().len(), 1000);
    }
}
