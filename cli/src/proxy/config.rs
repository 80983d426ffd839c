//! The proxy's `/debug/config` as tables.

mod telemetry;
mod values;

use std::collections::BTreeMap;

use serde_json::Value;
use tulle_xds::model::Knob;

use super::Section;
use crate::{observe::units, table::Table};

const SECTIONS: [Section; 6] = [
    Section::Listeners,
    Section::Routes,
    Section::Clusters,
    Section::Endpoints,
    Section::Settings,
    Section::Certs,
];

/// One section, or all of them with headings.
pub(super) fn render(dump: &Value, section: Option<Section>) -> String {
    let body = |section| {
        let (table, set) = match section {
            Section::Listeners => (listeners(dump), Some(set_in_listeners(dump))),
            Section::Routes => (routes(dump), Some(set_in_routes(dump))),
            Section::Clusters => (clusters(dump), Some(set_in_clusters(dump))),
            Section::Endpoints => (endpoints(dump), None),
            Section::Settings => (settings(dump), None),
            Section::Certs => (certs(dump), None),
        };
        match (table.is_empty(), set.filter(|set| !set.is_empty())) {
            (true, _) => "(none)\n".to_owned(),
            (false, None) => table.to_string(),
            (false, Some(set)) => format!("{table}\n{set}"),
        }
    };
    match section {
        Some(section) => body(section),
        None => SECTIONS.map(|s| format!("{s:?}\n{}", body(s))).join("\n"),
    }
}

fn listeners(dump: &Value) -> Table {
    let mut table = Table::new(&["ADDRESS", "STANDS FOR", "PROTOCOL", "GOES TO", "FROM"]);
    for (address, destination) in entries(&dump["destinations"]) {
        let listener = &destination["listener"];
        if listener.is_null() {
            table.row([
                address.clone(),
                "(nothing in the mesh)".into(),
                "".into(),
                "".into(),
                "".into(),
            ]);
            continue;
        }
        let otherwise = match text(&listener["route"]) {
            route if !route.is_empty() => format!("route {route}"),
            _ if listener["only_named"] == true => "nowhere".to_owned(),
            _ => backends(&listener["backends"]),
        };
        let by_name = items(&listener["by_name"]).map(|by_name| {
            let names: Vec<_> = items(&by_name["names"]).map(text).collect();
            format!("{}: {}", names.join(" "), backends(&by_name["backends"]))
        });
        let goes_to = by_name.chain([otherwise]).collect::<Vec<_>>().join("; ");
        table.row([
            address.clone(),
            service(&listener["service"]),
            text(&listener["protocol"]),
            goes_to,
            origin(&listener["origin"]),
        ]);
    }
    table
}

fn routes(dump: &Value) -> Table {
    let mut table = Table::new(&["ROUTE", "RULE", "MATCH", "THEN", "TIMEOUT", "RETRY", "FROM"]);
    for (name, i, rule) in all_rules(dump) {
        table.row([
            name,
            i.to_string(),
            matches(&rule["matches"]),
            then(rule),
            duration(&rule["timeouts"]["request"]),
            values::retry(&rule["retry"]),
            origin(&rule["origin"]),
        ]);
    }
    table
}

fn set_in_routes(dump: &Value) -> Table {
    let mut table = Table::new(&["ROUTE", "RULE", "VALUE", "SET BY", "FIELD"]);
    for (name, i, rule) in all_rules(dump) {
        for [value, by, field] in values::set(rule) {
            table.row([name.clone(), i.to_string(), value, by, field]);
        }
    }
    table
}

/// What policies and routes set, of resources with these names.
fn set_in(what: &'static str, resources: Vec<(String, &Value)>) -> Table {
    let mut table = Table::new(&[what, "VALUE", "SET BY", "FIELD"]);
    for (name, resource) in resources {
        for [value, by, field] in values::set(resource) {
            table.row([name.clone(), value, by, field]);
        }
    }
    table
}

fn set_in_listeners(dump: &Value) -> Table {
    let listeners = entries(&dump["destinations"]);
    let listeners = listeners.map(|(name, d)| (name.clone(), &d["listener"]));
    set_in("ADDRESS", listeners.collect())
}

fn set_in_clusters(dump: &Value) -> Table {
    let clusters = all_clusters(dump).into_iter();
    set_in("CLUSTER", clusters.map(|(name, cluster)| (name, &cluster["cluster"])).collect())
}

fn clusters(dump: &Value) -> Table {
    let headings = ["CLUSTER", "PROTOCOL", "BALANCE", "LIMITS", "EJECTION", "FROM"];
    let mut table = Table::new(&headings);
    for (name, cluster) in all_clusters(dump) {
        let settings = &cluster["cluster"];
        table.row([
            name,
            text(&settings["protocol"]),
            values::balance(&settings["balance"]),
            values::limits(&settings["limits"]),
            values::ejection(&settings["ejection"]),
            origin(&settings["origin"]),
        ]);
    }
    table
}

fn endpoints(dump: &Value) -> Table {
    let headings =
        ["CLUSTER", "ADDRESS", "POD", "HEALTH", "USED", "IN FLIGHT", "WEIGHT", "IDENTITY"];
    let mut table = Table::new(&headings);
    for (name, cluster) in all_clusters(dump) {
        for state in items(&cluster["endpoints"]) {
            let endpoint = &state["endpoint"];
            let identity = match text(&endpoint["identity"]) {
                none if none.is_empty() => "(no sidecar)".to_owned(),
                identity => identity,
            };
            table.row([
                name.clone(),
                text(&endpoint["address"]),
                text(&endpoint["pod"]),
                text(&endpoint["health"]),
                used(state),
                text(&state["active"]),
                text(&endpoint["weight"]),
                identity,
            ]);
        }
    }
    table
}

fn settings(dump: &Value) -> Table {
    let mut table = Table::new(&["SETTING", "VALUE", "SET BY", "FIELD"]);
    let workload = &dump["workload"];
    for knob in Knob::ALL {
        let Some(value) = workload["knobs"][knob.name()].as_u64() else {
            continue;
        };
        let fields = [format!(".{}", knob.name()), format!("/{}]", knob.annotation())];
        let mut setters = items(&workload["setters"]);
        let setter = setters.find(|setter| {
            let field = text(&setter["field"]);
            fields.iter().any(|end| field.ends_with(end.as_str()))
        });
        let by = setter.map(|setter| origin(&setter["origin"])).unwrap_or_default();
        let field = setter.map(|setter| text(&setter["field"])).unwrap_or_default();
        table.row([knob.name().to_owned(), knob.show(value), by, field]);
    }
    for setter in items(&workload["setters"]).filter(|s| s["origin"]["kind"] == "Telemetry") {
        let field = text(&setter["field"]);
        let value = telemetry::value(workload, &field);
        let name = field.strip_prefix("spec.").unwrap_or(&field).to_owned();
        table.row([name, value, origin(&setter["origin"]), field]);
    }
    table
}

/// Whether requests go to an endpoint, and if not because it fails, how and for how long.
fn used(state: &Value) -> String {
    let ejected = &state["ejected"];
    let used = if state["eligible"] == true { "yes" } else { "no" };
    if ejected.is_null() {
        return used.to_owned();
    }
    let [cause, left] = ["cause", "seconds_left"].map(|key| text(&ejected[key]));
    format!("{used} (ejected: {cause}, {left}s left)")
}

fn certs(dump: &Value) -> Table {
    let mut table = Table::new(&["WHAT", "VALUE"]);
    let workload = &dump["workload"];
    if !workload.is_null() {
        table.row(["trust domains".to_owned(), list(&workload["trust_domains"])]);
    }
    let certificate = &dump["certificate"];
    if certificate.is_null() {
        table.row(["certificate".to_owned(), "(none yet)".to_owned()]);
        return table;
    }
    for (what, key) in [("identity", "identity"), ("pod", "pod"), ("serial number", "serial")] {
        table.row([what.to_owned(), text(&certificate[key])]);
    }
    for (what, key) in [("valid from", "not_before"), ("valid until", "not_after")] {
        table.row([what.to_owned(), instant(&certificate[key])]);
    }
    for root in items(&certificate["roots"]) {
        let [subject, sha256] = ["subject", "sha256"].map(|key| text(&root[key]));
        let until = instant(&root["not_after"]);
        table.row(["root".to_owned(), format!("{subject}, valid until {until}, SHA-256 {sha256}")]);
    }
    table
}

/// Every rule, with the name of its route and its index. Several addresses (IPv4, IPv6) may share a
/// route.
fn all_rules(dump: &Value) -> impl Iterator<Item = (String, usize, &Value)> {
    let destinations = entries(&dump["destinations"]).map(|(_, d)| &d["route"]);
    let routes: BTreeMap<String, &Value> = destinations
        .filter(|route| !route.is_null())
        .map(|route| (text(&route["name"]), route))
        .collect();
    routes.into_iter().flat_map(|(name, route)| {
        items(&route["rules"]).enumerate().map(move |(i, rule)| (name.clone(), i, rule))
    })
}

fn all_clusters(dump: &Value) -> BTreeMap<String, &Value> {
    entries(&dump["destinations"])
        .flat_map(|(_, destination)| entries(&destination["clusters"]))
        .map(|(name, cluster)| (name.clone(), cluster))
        .collect()
}

fn matches(matches: &Value) -> String {
    let mut all = Vec::new();
    if let Some((how, path)) = entries(&matches["path"]).next() {
        match (how.as_str(), text(path)) {
            ("Prefix", path) if path.is_empty() => {}
            ("Prefix", path) => all.push(format!("path {path}/…")),
            ("Regex", path) => all.push(format!("path ~ {path}")),
            (_, path) => all.push(format!("path {path}")),
        }
    }
    if !matches["method"].is_null() {
        all.push(format!("method {}", text(&matches["method"])));
    }
    for (what, key) in [("header", "headers"), ("query", "query")] {
        all.extend(items(&matches[key]).map(|m| {
            let sign = if m["value"]["Regex"].is_null() { "=" } else { "~" };
            let value = entries(&m["value"]).next().map(|(_, v)| text(v)).unwrap_or_default();
            format!("{what} {}{sign}{value}", text(&m["name"]))
        }));
    }
    if all.is_empty() { "everything".to_owned() } else { all.join(", ") }
}

fn then(rule: &Value) -> String {
    let action = &rule["action"];
    let mut then = match entries(action).next().map(|(name, value)| (name.as_str(), value)) {
        Some(("Forward", to)) => backends(to),
        Some(("Fail", status)) => format!("answer {status}"),
        Some(("Redirect", to)) => format!("redirect {}", to["status"]),
        _ => text(action),
    };
    let filters = items(&rule["filters"]).count();
    if filters > 0 {
        then.push_str(&format!(", after {filters} filter{}", if filters == 1 { "" } else { "s" }));
    }
    for mirror in items(&rule["mirrors"]) {
        let percent = mirror["millionths"].as_f64().unwrap_or_default() / 10_000.0;
        then.push_str(&format!(", {percent}% mirrored to {}", text(&mirror["cluster"])));
    }
    then
}

/// `a`, or with shares `a 90%, b 10%`.
fn backends(backends: &Value) -> String {
    let weight = |backend: &Value| backend["weight"].as_u64().unwrap_or_default();
    let sum: u64 = items(backends).map(weight).sum();
    let one = |backend: &Value| {
        let cluster = text(&backend["cluster"]);
        match weight(backend) * 1000 / sum.max(1) {
            1000 => cluster,
            thousandths if thousandths % 10 == 0 => format!("{cluster} {}%", thousandths / 10),
            thousandths => format!("{cluster} {}.{}%", thousandths / 10, thousandths % 10),
        }
    };
    items(backends).map(one).collect::<Vec<_>>().join(", ")
}

/// `HTTPRoute bookstore/reviews (rule canary)`.
fn origin(origin: &Value) -> String {
    let [kind, namespace, name, rule] =
        ["kind", "namespace", "name", "rule"].map(|key| text(&origin[key]));
    let slash = if namespace.is_empty() { "" } else { "/" };
    let rule = if rule.is_empty() { rule } else { format!(" (rule {rule})") };
    format!("{kind} {namespace}{slash}{name}{rule}").trim().to_owned()
}

fn service(service: &Value) -> String {
    if service.is_null() {
        return "a pod".to_owned();
    }
    let [namespace, name, port] = ["namespace", "name", "port"].map(|key| text(&service[key]));
    format!("Service {namespace}/{name}:{port}")
}

/// serde's form of a duration, `{secs, nanos}`.
fn duration(duration: &Value) -> String {
    let part = |key| duration[key].as_u64();
    match (part("secs"), part("nanos")) {
        (Some(secs), Some(nanos)) => {
            format!(
                "{:?}",
                std::time::Duration::from_secs(secs)
                    .saturating_add(std::time::Duration::from_nanos(nanos))
            )
        }
        _ => text(duration),
    }
}

/// Seconds since 1970 as RFC 3339.
fn instant(seconds: &Value) -> String {
    seconds.as_i64().and_then(units::instant).unwrap_or_else(|| text(seconds))
}

fn list(value: &Value) -> String {
    items(value).map(text).collect::<Vec<_>>().join(", ")
}

/// A value without quotes; nothing for null.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

#[cfg(test)]
mod tests;
