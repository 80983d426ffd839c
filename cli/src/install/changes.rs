//! What an installation would change in a cluster, asked of the API server by a dry run.

use std::fmt;

use kube::{
    Client,
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::Value;

use super::{MANAGER, objects::title};
use crate::cluster::{found, objects_like};

/// What becomes of one object.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    /// It is not there yet.
    Create,
    /// These fields change: where, what they are, what they will be.
    Update(Vec<(String, Value, Value)>),
    /// It is as it shall be.
    Same,
    /// It is there, and the new values want none.
    Delete,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create => f.write_str("create"),
            Self::Update(_) => f.write_str("change"),
            Self::Same => f.write_str("same"),
            Self::Delete => f.write_str("delete"),
        }
    }
}

/// What applying `object` would do.
pub(super) async fn of(
    client: &Client,
    object: &Value,
    params: &PatchParams,
) -> Result<Change, kube::Error> {
    let api = objects_like(client, object);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let Some(live) = found(api.get(name).await)? else { return Ok(Change::Create) };
    let params = params.clone().dry_run();
    let after = api.patch(name, &params, &Patch::Apply(object)).await?;
    let mut fields = Vec::new();
    differences("", &stable(live), &stable(after), &mut fields);
    Ok(if fields.is_empty() { Change::Same } else { Change::Update(fields) })
}

/// Whether `object` is there and was put there by us.
pub(super) async fn is_ours(client: &Client, object: &Value) -> Result<bool, kube::Error> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let live = found(objects_like(client, object).get(name).await)?;
    let managers = live.into_iter().flat_map(|o| o.metadata.managed_fields.unwrap_or_default());
    Ok(managers.filter_map(|m| m.manager).any(|manager| manager == MANAGER))
}

/// Without what changes by itself.
fn stable(object: DynamicObject) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(metadata) = value["metadata"].as_object_mut() {
        for field in ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp"]
        {
            metadata.remove(field);
        }
    }
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    value
}

fn differences(path: &str, a: &Value, b: &Value, found: &mut Vec<(String, Value, Value)>) {
    match (a, b) {
        (Value::Object(before), Value::Object(after)) => {
            let names: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                differences(&path, &a[name], &b[name], found);
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (index, (a, b)) in before.iter().zip(after).enumerate() {
                differences(&format!("{path}[{index}]"), a, b, found);
            }
        }
        _ if a == b => {}
        _ => found.push((path.to_owned(), a.clone(), b.clone())),
    }
}

/// Lines for a person: each object that changes, with its fields, and how many do not.
pub(super) fn lines(changes: &[(Value, Change)]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut same = 0;
    for (object, change) in changes {
        if *change == Change::Same {
            same += 1;
            continue;
        }
        lines.push(format!("  {change}  {}", title(object)));
        let Change::Update(fields) = change else { continue };
        lines.extend(fields.iter().map(|(path, before, after)| {
            format!("            {path}: {} → {}", short(before), short(after))
        }));
    }
    if same > 0 {
        lines.push(format!("  {same} objects stay as they are"));
    }
    lines
}

/// A value on a line: schemas and whole lists are long.
fn short(value: &Value) -> String {
    let text = if value.is_null() { "nothing".to_owned() } else { value.to_string() };
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_found_and_said() {
        let mut found = Vec::new();
        let before = json!({"spec": {"replicas": 2, "args": ["a", "b"], "old": 1, "list": [1]}});
        let after = json!({"spec": {"replicas": 3, "args": ["a", "c"], "new": {}, "list": [1, 2]}});
        differences("", &before, &after, &mut found);
        let paths: Vec<_> = found.iter().map(|(path, ..)| path.as_str()).collect();
        assert_eq!(paths, ["spec.args[1]", "spec.list", "spec.new", "spec.old", "spec.replicas"]);
        let object = json!({"kind": "Deployment", "metadata": {"name": "a", "namespace": "b"}});
        let said = lines(&[
            (object.clone(), Change::Update(vec![found.pop().expect("replicas")])),
            (object.clone(), Change::Same),
            (object, Change::Delete),
        ]);
        assert_eq!(
            said,
            [
                "  change  Deployment b/a",
                "            spec.replicas: 2 → 3",
                "  delete  Deployment b/a",
                "  1 objects stay as they are",
            ]
        );
    }
}
