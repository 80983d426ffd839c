//! Writes statuses to the API server: what differs, and nothing twice.
//!
//! What others wrote beside ours stays: a route may have other controllers. A write against an object that has changed in
//! the meantime is refused by the server; the watch then says what is there, and that is tried again.

use std::collections::HashMap;

use futures_util::{StreamExt, stream};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::watch;

use super::{
    MANAGER, Pause,
    book::{Book, Page},
    conflict,
    events::Events,
    kinds, not_found,
    raw::Raw,
};
use crate::{
    output::Report,
    status::{CONTROLLER, Standing},
    world::objects::{Kind, ObjectRef},
};

/// Writes at once, to a server that serves others too.
const AT_ONCE: usize = 8;

/// What was written last of each object, and what the server made of it: a server that drops a field of ours shall not be
/// asked for ever.
type Written = HashMap<ObjectRef, (Value, Value)>;

/// Writes every report, or the latest of several, while `leads`, until the sender is gone.
pub(super) async fn write(
    (client, events): (Client, Events),
    mut reports: watch::Receiver<Report>,
    book: Book,
    mut leads: watch::Receiver<bool>,
) {
    let (mut written, mut pause) = (Written::new(), Pause::default());
    while reports.wait_for(|report| report.complete).await.is_ok() {
        if leads.wait_for(|leads| *leads).await.is_err() {
            return;
        }
        let report = reports.borrow_and_update().clone();
        let failed = round((&client, &events), &report, &book, &mut written).await;
        if !failed {
            pause.reset();
        }
        tokio::select! {
            changed = reports.changed() => if changed.is_err() { return },
            () = book.changed() => {}
            () = pause.wait(), if failed => {}
        }
    }
}

/// Writes what differs; whether something has to be tried again.
async fn round(
    (client, events): (&Client, &Events),
    report: &Report,
    book: &Book,
    written: &mut Written,
) -> bool {
    written.retain(|object, _| report.standings.contains_key(object));
    let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
    let each = report.standings.iter().zip(&report.statuses);
    let due: Vec<_> = each
        .filter_map(|((object, standing), told)| {
            let page = book.get(object)?;
            if is_another(standing, &page) {
                return None;
            }
            let mut wanted = merged(&page.status, &ours(told, &page, &now)?);
            if object.kind == Kind::Release {
                keep_course(&page.status, &mut wanted);
            }
            if is_open(told) {
                keep_force(&page.status, &mut wanted);
            }
            // A route whose parents are none of ours: the list is not optional there, and not ours to begin.
            let nothing = wanted.as_object().is_none_or(Map::is_empty);
            let same = nothing
                || page.status == wanted
                || written
                    .get(object)
                    .is_some_and(|(asked, became)| *asked == wanted && *became == page.status);
            (!same).then(|| (object.clone(), page, wanted))
        })
        .collect();
    let put = |(object, page, wanted)| {
        let (client, events) = (client.clone(), events.clone());
        async move {
            let answer = put(&client, &object, &page, &wanted).await;
            if answer.is_ok() {
                events.tell(&object, &page, &wanted).await;
            }
            (object, wanted, answer)
        }
    };
    let mut writes = stream::iter(due.into_iter().map(put)).buffer_unordered(AT_ONCE);
    let mut failed = false;
    while let Some((object, wanted, answer)) = writes.next().await {
        match answer {
            Ok(became) => {
                written.insert(object.clone(), (wanted, became.status.clone()));
                book.set(&object, Some(became));
            }
            // The watch says what is there, and wakes us.
            Err(error) if conflict(&error) || not_found(&error) => {}
            Err(error) => {
                tracing::warn!(%object, %error, "its status cannot be written; trying again");
                failed = true;
            }
        }
    }
    failed
}

async fn put(
    client: &Client,
    object: &ObjectRef,
    page: &Page,
    wanted: &Value,
) -> kube::Result<Page> {
    let mut status = wanted.clone();
    // A merge patch leaves what it does not name.
    if let (Some(status), Some(before)) = (status.as_object_mut(), page.status.as_object()) {
        for key in before.keys().filter(|key| wanted.get(key).is_none()) {
            status.insert(key.clone(), Value::Null);
        }
    }
    patch(client, object, page, status).await
}

/// Writes this much of a status, by a merge patch, if the object is still what was seen of it; what it became.
pub(super) async fn patch(
    client: &Client,
    object: &ObjectRef,
    page: &Page,
    status: Value,
) -> kube::Result<Page> {
    let Some(mut resource) = kinds::newest(object.kind) else {
        return Ok(page.clone());
    };
    // In the version that is served here.
    if let Some((_, version)) = page.api_version.split_once('/') {
        version.clone_into(&mut resource.version);
        page.api_version.clone_into(&mut resource.api_version);
    }
    let (namespace, name) = (&*object.name.namespace, &*object.name.name);
    let api: Api<Raw> = match namespace {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    let patch = json!({
        "metadata": {"resourceVersion": page.resource_version, "uid": page.uid},
        "status": status,
    });
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let became = api.patch_status(name, &params, &Patch::Merge(&patch)).await?;
    Ok(Page::of(&became.value))
}

/// Whether the API server has another object of that name by now than the report is about, which is to know it soon.
fn is_another(standing: &Standing, page: &Page) -> bool {
    standing.edition.as_ref().is_some_and(|edition| edition.uid != page.uid)
}

/// What we say of an object. One that never applied is nothing in the world, and so attached to nothing; a route has its
/// conditions by parent, so that of such a one they are said of the parents that it names.
fn ours(told: &Value, page: &Page, now: &str) -> Option<Value> {
    let mut status = told.get("status")?.clone();
    if told["accepted"] == false && status.as_object().is_some_and(Map::is_empty) {
        let refused = json!({
            "type": "Accepted",
            "status": "False",
            "reason": told["reason"],
            "message": told["message"],
            "lastTransitionTime": now,
            "observedGeneration": page.generation,
        });
        let parents = page.parents.iter().map(|parent| {
            json!({"parentRef": parent, "controllerName": CONTROLLER, "conditions": [refused]})
        });
        let parents: Vec<Value> = parents.collect();
        if !parents.is_empty() {
            status["parents"] = parents.into();
        }
    }
    Some(status)
}

/// The status that an object should have: ours, with what other controllers wrote; the times of conditions that say the
/// same as before stay.
fn merged(before: &Value, ours: &Value) -> Value {
    let mut status = ours.as_object().cloned().unwrap_or_default();
    for list in ["parents", "ancestors"] {
        let earlier = before.get(list).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let (mine, others): (Vec<_>, Vec<_>) =
            earlier.iter().partition(|entry| entry["controllerName"] == CONTROLLER);
        let mut entries: Vec<Value> = others.into_iter().cloned().collect();
        let now = status.remove(list);
        for mut entry in now.and_then(|now| now.as_array().cloned()).unwrap_or_default() {
            let same = mine.iter().find(|earlier| is_same(earlier, &entry));
            keep_times(same.copied(), &mut entry);
            entries.push(entry);
        }
        // Gateway API's routes must have the list, even empty; ours need not.
        if !entries.is_empty() || before.get(list).is_some() {
            status.insert(list.to_owned(), entries.into());
        }
    }
    let mut status = Value::Object(status);
    keep_times(Some(before), &mut status);
    status
}

/// What a release's status says besides: where it is, which [`super::releases`] writes.
fn keep_course(before: &Value, wanted: &mut Value) {
    let Some(wanted) = wanted.as_object_mut() else { return };
    for (field, value) in before.as_object().into_iter().flatten() {
        wanted.entry(field).or_insert_with(|| value.clone());
    }
}

/// Whether two entries are of one controller, about one parent.
fn is_same(one: &Value, other: &Value) -> bool {
    let equal = |key: &str| one.get(key) == other.get(key);
    equal("controllerName") && equal("parentRef") && equal("ancestorRef")
}

/// Whether nothing is wanting but the word of other replicas.
fn is_open(told: &Value) -> bool {
    let force = &told["inForce"];
    !force["unheard"].is_null() && force["on"] == force["of"] && force["too_old"].is_null()
}

/// What an object says was in force, and as far as we know still is: that a replica comes or goes, or that another one writes,
/// is no reason to say anything else.
fn keep_force(before: &Value, now: &mut Value) {
    if keep_in_force(before, now) {
        now["inForce"] = before["inForce"].clone();
    }
    for list in ["parents", "ancestors"] {
        let earlier = before.get(list).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let entries = now.get_mut(list).and_then(Value::as_array_mut);
        for entry in entries.into_iter().flatten() {
            if let Some(same) = earlier.iter().find(|earlier| is_same(earlier, entry)) {
                keep_in_force(same, entry);
            }
        }
    }
}

/// Keeps the condition `InForce`, if it was true of the same generation; whether it did.
fn keep_in_force(before: &Value, now: &mut Value) -> bool {
    let earlier = before.get("conditions").and_then(Value::as_array).into_iter().flatten();
    let mut earlier = earlier.filter(|c| c["type"] == "InForce" && c["status"] == "True");
    let conditions = now.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten();
    let mut pending = conditions.filter(|c| c["type"] == "InForce" && c["reason"] == "Pending");
    match (earlier.next(), pending.next()) {
        (Some(earlier), Some(now))
            if earlier["observedGeneration"] == now["observedGeneration"] =>
        {
            now.clone_from(earlier);
            true
        }
        _ => false,
    }
}

fn keep_times(before: Option<&Value>, now: &mut Value) {
    let conditions = |of: &Value| of.get("conditions").and_then(Value::as_array).cloned();
    let before = before.and_then(conditions).unwrap_or_default();
    let Some(now) = now.get_mut("conditions").and_then(Value::as_array_mut) else {
        return;
    };
    for condition in now.iter_mut().filter_map(Value::as_object_mut) {
        let same = |earlier: &&Value| {
            let equal = |key: &str| earlier.get(key) == condition.get(key);
            equal("type") && equal("status")
        };
        if let Some(time) = before.iter().find(same).and_then(|c| c.get("lastTransitionTime")) {
            set(condition, time.clone());
        }
    }
}

fn set(condition: &mut Map<String, Value>, time: Value) {
    condition.insert("lastTransitionTime".to_owned(), time);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Edition;

    fn parent(controller: &str, name: &str, status: &str, time: &str) -> Value {
        json!({
            "parentRef": {"name": name},
            "controllerName": controller,
            "conditions": [
                {"type": "Accepted", "status": status, "lastTransitionTime": time},
            ],
        })
    }

    #[test]
    fn others_stay_and_times_with_them() {
        let before = json!({"parents": [
            parent("example.org/other", "a", "True", "1"),
            parent(CONTROLLER, "a", "True", "1"),
            parent(CONTROLLER, "b", "True", "1"),
            parent(CONTROLLER, "gone", "True", "1"),
        ]});
        let ours = json!({"parents": [
            parent(CONTROLLER, "a", "True", "2"),
            parent(CONTROLLER, "b", "False", "2"),
            parent(CONTROLLER, "c", "True", "2"),
        ]});
        let expected = json!({"parents": [
            parent("example.org/other", "a", "True", "1"),
            parent(CONTROLLER, "a", "True", "1"),
            parent(CONTROLLER, "b", "False", "2"),
            parent(CONTROLLER, "c", "True", "2"),
        ]});
        assert_eq!(merged(&before, &ours), expected);
        assert_eq!(merged(&expected, &ours), expected);
        // The last parent has gone: the list stays, as its schema wants it.
        let none = merged(&json!({"parents": [parent(CONTROLLER, "a", "True", "1")]}), &json!({}));
        assert_eq!(none, json!({"parents": []}));
        assert_eq!(merged(&Value::Null, &json!({})), json!({}));
    }

    #[test]
    fn a_route_that_never_applied_has_a_status_by_the_parents_that_it_names() {
        let named = json!({"group": "", "kind": "Service", "name": "web"});
        let gateway = json!({"name": "gate"});
        let route = json!({
            "metadata": {"generation": 3}, "spec": {"parentRefs": [gateway, named]}
        });
        let told = json!({"accepted": false, "reason": "Invalid", "message": "no", "status": {}});
        let status = ours(&told, &Page::of(&route), "1").unwrap();
        let expected = json!({"parents": [{
            "parentRef": named,
            "controllerName": CONTROLLER,
            "conditions": [{
                "type": "Accepted", "status": "False", "reason": "Invalid", "message": "no",
                "lastTransitionTime": "1", "observedGeneration": 3,
            }],
        }]});
        assert_eq!(status, expected);
        // It stays as it is: no other time.
        let later = ours(&told, &Page::of(&route), "2").unwrap();
        assert_eq!(merged(&expected, &later), expected);
        // Somebody else's route: nothing to say, and nothing is written.
        let theirs = Page::of(&json!({"spec": {"parentRefs": [gateway]}}));
        let well = json!({"accepted": true, "reason": "Accepted", "message": "", "status": {}});
        for told in [told, well] {
            let status = ours(&told, &theirs, "1").unwrap();
            assert_eq!(merged(&Value::Null, &status), json!({}));
        }
    }

    #[test]
    fn nothing_is_written_of_what_was_there_under_the_name_before() {
        let page = Page::of(&json!({"metadata": {"uid": "b", "generation": 1}}));
        let of = |uid: Option<&str>| {
            let edition = uid.map(|uid| Edition { uid: uid.to_owned(), generation: 1, turn: 0 });
            is_another(&Standing { edition, ..Standing::default() }, &page)
        };
        assert_eq!([of(Some("a")), of(Some("b")), of(None)], [true, false, false]);
    }

    #[test]
    fn what_was_in_force_stays_until_all_replicas_have_said() {
        let status = |in_force: &str, status: &str, reason: &str, generation: i64| {
            let conditions = json!([
                {"type": "Accepted", "status": "True", "observedGeneration": generation},
                {"type": "InForce", "status": status, "reason": reason, "observedGeneration": generation},
            ]);
            let of_target = json!([
                {"ancestorRef": {"name": "a"}, "controllerName": CONTROLLER, "conditions": conditions},
            ]);
            json!({"inForce": in_force, "conditions": conditions, "ancestors": of_target})
        };
        let kept = |before: &Value, now: &Value| {
            let mut wanted = now.clone();
            keep_force(before, &mut wanted);
            wanted
        };
        let good = status("12/12", "True", "InForce", 3);
        assert_eq!(kept(&good, &status("6/6", "False", "Pending", 3)), good);
        for (before, now) in [
            (&good, status("6/6", "False", "Pending", 4)),
            (&good, status("6/6", "False", "Invalid", 3)),
            (&status("5/6", "False", "Pending", 3), status("6/6", "False", "Pending", 3)),
            (&Value::Null, status("6/6", "False", "Pending", 3)),
        ] {
            assert_eq!(kept(before, &now), now);
        }
        for (force, open) in [
            (json!({"on": 6, "of": 6, "unheard": ["m/b"]}), true),
            (json!({"on": 6, "of": 6}), false),
            (json!({"on": 5, "of": 6, "unheard": ["m/b"]}), false),
            (json!({"on": 6, "of": 6, "unheard": ["m/b"], "too_old": {"spec.x": 1}}), false),
        ] {
            assert_eq!(is_open(&json!({"inForce": force})), open, "{force}");
        }
    }

    #[test]
    fn top_level_conditions_keep_their_times() {
        let condition = |status: &str, time: &str| {
            json!({"conditions": [
                {"type": "InForce", "status": status, "message": time, "lastTransitionTime": time}
            ]})
        };
        let mut expected = condition("True", "2");
        expected["conditions"][0]["lastTransitionTime"] = "1".into();
        assert_eq!(merged(&condition("True", "1"), &condition("True", "2")), expected);
        assert_eq!(
            merged(&condition("True", "1"), &condition("False", "2")),
            condition("False", "2")
        );
    }
}
