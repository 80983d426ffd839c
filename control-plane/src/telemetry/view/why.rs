//! One sentence of why a record ended as it did, naming the object that made it so.

use super::RecordView;

/// `None`: there is nothing to say.
pub(super) fn why(record: &RecordView) -> Option<String> {
    let parts = [ended(record), ejected(record), audited(record)];
    let said: Vec<_> = parts.into_iter().flatten().collect();
    (!said.is_empty()).then(|| said.join("; "))
}

fn ended(record: &RecordView) -> Option<String> {
    let RecordView { reason, detail, policy, policy_field, .. } = record;
    let by = object(policy);
    let story = if detail.is_empty() { reason } else { detail };
    match reason.as_str() {
        "" if record.failed => Some(answered(record)),
        // Retries, or a limit that did not end it.
        "" => {
            (record.attempts > 1).then(|| format!("{}{}", attempts(record), set(&by, policy_field)))
        }
        _ if policy.is_empty() => Some(story.clone()),
        "denied" | "external_refused" => Some(format!("{by} forbids it: {story}")),
        // One route, without its name in the story a second time.
        "route_not_found" if !story.contains(", ") => {
            Some(format!("no rule of {by} matches {} {}", record.method, record.path))
        }
        "route_not_found" => Some(story.clone()),
        _ => Some(format!("{story}{}", set(&by, policy_field))),
    }
}

/// Of what failed and no sidecar ended.
fn answered(record: &RecordView) -> String {
    let who = match record.workload.namespace.is_empty() {
        true => "the server",
        false => &format!("{}/{}", record.workload.namespace, record.workload.name),
    };
    let what = match (&record.grpc_status, record.status) {
        (grpc, _) if !grpc.is_empty() => grpc.clone(),
        (_, Some(status)) => status.to_string(),
        _ => "so".to_owned(),
    };
    let last = match record.attempts > 1 {
        true => format!(", {}", attempts(record)),
        false => String::new(),
    };
    format!("{who} itself answered {what}{last}")
}

fn attempts(record: &RecordView) -> String {
    format!("the last of {} attempts", record.attempts)
}

fn ejected(record: &RecordView) -> Option<String> {
    let RecordView { ejected, ejected_by, ejected_field, .. } = record;
    (!ejected.is_empty()).then(|| {
        format!("{ejected} is left out for a while now{}", set(&object(ejected_by), ejected_field))
    })
}

fn audited(record: &RecordView) -> Option<String> {
    let audit = object(&record.audit);
    (!audit.is_empty()).then(|| format!("{audit} would refuse it, were it not only audited"))
}

/// Who says so, if that is known.
fn set(object: &str, field: &str) -> String {
    match (object, field) {
        ("", _) => String::new(),
        (object, "") => format!(", set by {object}"),
        (object, field) => format!(", set by {object} {field}"),
    }
}

/// `KIND/NAMESPACE/NAME#RULE` for people.
fn object(text: &str) -> String {
    let (object, rule) = text.split_once('#').unwrap_or((text, ""));
    let object = object.replacen('/', " ", 1);
    if rule.is_empty() { object } else { format!("{object} rule {rule}") }
}
