//! Single values, and who set each.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{duration, entries, items, list, origin, text};

/// What of a resource policies and routes set: the value, who set it, in which field.
pub(super) fn set(resource: &Value) -> impl Iterator<Item = [String; 3]> {
    // Several policies may say the same of one pod's address.
    let mut by: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for setter in items(&resource["setters"]) {
        by.entry(text(&setter["field"])).or_default().push(origin(&setter["origin"]));
    }
    by.into_iter().map(|(field, by)| [value(resource, &field), by.join(", "), field])
}

/// The value in force of a policy's or route's field. Zero switches off what less specific policies
/// say: then there is none.
fn value(of: &Value, field: &str) -> String {
    let time = |value: &Value| match value {
        Value::Null => "none".to_owned(),
        value => duration(value),
    };
    let or = |value: &Value, none: &str| match value {
        Value::Null => none.to_owned(),
        value => text(value),
    };
    let (timeouts, retry, ejection) = (&of["timeouts"], &of["retry"], &of["ejection"]);
    let (limits, budget) = (&of["limits"], &of["limits"]["retry_budget"]);
    // A route's own fields are below its rule: `spec.rules[0].timeouts.request`.
    let last = field.rsplit_once("].").map_or(field, |(_, last)| last);
    match last.strip_prefix("spec.").unwrap_or(last) {
        "timeouts.request" => time(&timeouts["request"]),
        "timeouts.backendRequest" | "retries.perTryTimeout" => time(&timeouts["per_try"]),
        // Of opaque connections the listener has it.
        "timeouts.idle" => time(timeouts.get("idle").unwrap_or_else(|| &of["idle"])),
        "retries" => if retry.is_null() { "off" } else { "on" }.to_owned(),
        "retries.attempts" => or(&retry["attempts"], "0"),
        "retries.when" => retried(retry),
        "retries.backoff.base" => time(&retry["base_backoff"]),
        "retries.backoff.max" => time(&retry["max_backoff"]),
        "retries.budget.percent" => format!("{}%", text(&budget["percent"])),
        "retries.budget.minConcurrency" => text(&budget["min_concurrency"]),
        "limits.connections" => or(&limits["connections"], "none"),
        "limits.pending" => or(&limits["pending"], "none"),
        "limits.requests" => or(&limits["requests"], "none"),
        "ejection" => if ejection.is_null() { "off" } else { "on" }.to_owned(),
        "ejection.consecutive5xx" => or(&ejection["consecutive_5xx"], "never"),
        "ejection.consecutiveLocalFailures" => or(&ejection["consecutive_local_failures"], "never"),
        "ejection.baseTime" => time(&ejection["base_time"]),
        "ejection.maxTime" => time(&ejection["max_time"]),
        "ejection.interval" => time(&ejection["interval"]),
        "ejection.maxPercent" => format!("{}%", text(&ejection["max_percent"])),
        "loadBalancing" => balance(&of["balance"]),
        _ => String::new(),
    }
}

/// Tries and their causes.
pub(super) fn retry(retry: &Value) -> String {
    if retry.is_null() {
        return String::new();
    }
    format!("{}x on {}", text(&retry["attempts"]), retried(retry))
}

fn retried(retry: &Value) -> String {
    let listed =
        [(statuses(&retry["statuses"]), ""), (list(&retry["grpc_statuses"]), "grpc-status ")];
    let listed = listed.into_iter().filter(|(list, _)| !list.is_empty());
    let listed = listed.map(|(list, what)| format!("{what}{list}"));
    let said = [("on_connect", "connect"), ("on_reset", "reset")]
        .into_iter()
        .filter(|(key, _)| retry[*key] == true)
        .map(|(_, what)| what.to_owned());
    listed.chain(said).collect::<Vec<_>>().join(", ")
}

/// A hundred codes in a row are one range.
fn statuses(list: &Value) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for status in items(list).filter_map(Value::as_u64) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == status => *last = status,
            _ => ranges.push((status, status)),
        }
    }
    let range = |(first, last): (u64, u64)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first}-{last}"),
    };
    ranges.into_iter().map(range).collect::<Vec<_>>().join(", ")
}

/// How an endpoint is chosen.
pub(super) fn balance(balance: &Value) -> String {
    match balance["LeastRequest"]["choices"].as_u64() {
        Some(choices) => format!("LeastRequest of {choices}"),
        None => text(balance),
    }
}

/// What ejects an endpoint.
pub(super) fn ejection(ejection: &Value) -> String {
    let causes = [("consecutive_5xx", "5xx"), ("consecutive_local_failures", "local failures")]
        .into_iter()
        .filter(|(key, _)| !ejection[key].is_null())
        .map(|(key, name)| format!("{} {name}", ejection[key]));
    causes.collect::<Vec<_>>().join(" or ")
}

/// The limits that there are.
pub(super) fn limits(limits: &Value) -> String {
    let said = entries(limits).filter(|(_, value)| value.is_number());
    said.map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(", ")
}
