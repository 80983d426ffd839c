//! The proxy's `/debug/config` as tables.

use std::collections::BTreeMap;

use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Section, table::Table};

const SECTIONS: [Section; 5] =
    [Section::Listeners, Section::Routes, Section::Clusters, Section::Endpoints, Section::Certs];

/// One section, or all of them with headings.
pub(super) fn render(dump: &Value, section: Option<Section>) -> String {
    let body = |section| {
        let table = match section {
            Section::Listeners => listeners(dump),
            Section::Routes => routes(dump),
            Section::Clusters => clusters(dump),
            Section::Endpoints => endpoints(dump),
            Section::Certs => certs(dump),
        };
        if table.is_empty() { "(none)\n".to_owned() } else { table.to_string() }
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
        let goes_to = match text(&listener["route"]) {
            route if route.is_empty() => backends(&listener["backends"]),
            route => format!("route {route}"),
        };
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
    let destinations = entries(&dump["destinations"]).map(|(_, d)| &d["route"]);
    // Several addresses (IPv4, IPv6) may share a route.
    let routes: BTreeMap<String, &Value> = destinations
        .filter(|route| !route.is_null())
        .map(|route| (text(&route["name"]), route))
        .collect();
    for (name, route) in routes {
        for (i, rule) in items(&route["rules"]).enumerate() {
            table.row([
                name.clone(),
                i.to_string(),
                matches(&rule["matches"]),
                then(rule),
                duration(&rule["timeouts"]["request"]),
                retry(&rule["retry"]),
                origin(&rule["origin"]),
            ]);
        }
    }
    table
}

fn clusters(dump: &Value) -> Table {
    let headings = ["CLUSTER", "PROTOCOL", "BALANCE", "LIMITS", "EJECTION", "FROM"];
    let mut table = Table::new(&headings);
    for (name, cluster) in all_clusters(dump) {
        let settings = &cluster["cluster"];
        let limits = ["connections", "pending", "requests"]
            .into_iter()
            .filter(|key| !settings["limits"][key].is_null())
            .map(|key| format!("{key} {}", settings["limits"][key]));
        table.row([
            name,
            text(&settings["protocol"]),
            balance(&settings["balance"]),
            limits.collect::<Vec<_>>().join(", "),
            ejection(&settings["ejection"]),
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

fn retry(retry: &Value) -> String {
    if retry.is_null() {
        return String::new();
    }
    let listed = [("statuses", ""), ("grpc_statuses", "grpc-status ")]
        .map(|(key, what)| (list(&retry[key]), what))
        .into_iter()
        .filter(|(list, _)| !list.is_empty())
        .map(|(list, what)| format!("{what}{list}"));
    let said = [("on_connect", "connect"), ("on_reset", "reset")]
        .into_iter()
        .filter(|(key, _)| retry[*key] == true)
        .map(|(_, what)| what.to_owned());
    let on: Vec<String> = listed.chain(said).collect();
    format!("{}x on {}", text(&retry["attempts"]), on.join(", "))
}

fn balance(balance: &Value) -> String {
    match balance["LeastRequest"]["choices"].as_u64() {
        Some(choices) => format!("LeastRequest of {choices}"),
        None => text(balance),
    }
}

fn ejection(ejection: &Value) -> String {
    let causes = [("consecutive_5xx", "5xx"), ("consecutive_local_failures", "local failures")]
        .into_iter()
        .filter(|(key, _)| !ejection[key].is_null())
        .map(|(key, name)| format!("{} {name}", ejection[key]));
    causes.collect::<Vec<_>>().join(" or ")
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
    let at = seconds.as_i64().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_else(|| text(seconds))
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
mod tests {
    use serde_json::json;

    use super::*;

    fn dump() -> Value {
        let origin = json!({"kind": "Service", "namespace": "bookstore", "name": "reviews"});
        let rule = |matches: Value, action: Value| {
            json!({"matches": matches, "filters": [{}], "action": action, "timeouts": {"request": {"secs": 1, "nanos": 500_000_000}},
                "retry": {"attempts": 2, "statuses": [503], "on_reset": true}, "mirrors": [], "origin": {"kind": "HTTPRoute", "namespace": "bookstore", "name": "reviews", "rule": "canary"}})
        };
        json!({
            "generation": 7,
            "workload": {"name": "bookstore/client", "identity": "spiffe://cluster.local/ns/bookstore/sa/client", "trust_domains": ["cluster.local"]},
            "certificate": {"identity": "spiffe://cluster.local/ns/bookstore/sa/client", "pod": "bookstore/client/1", "serial": "0a", "not_before": 0, "not_after": 86400, "roots": [{"subject": "CN=root", "sha256": "ab", "not_after": 86400}]},
            "destinations": {
                "10.96.0.9:80": {"absent": true, "used_at": 3},
                "10.96.0.7:9080": {
                    "listener": {"protocol": "Http", "service": {"namespace": "bookstore", "name": "reviews", "port": 9080},
                        "route": "service/bookstore/reviews/9080", "backends": [], "origin": origin},
                    "route": {"name": "service/bookstore/reviews/9080", "rules": [
                        rule(json!({"path": {"Prefix": "/v2"}, "method": "GET", "headers": [{"name": "x", "value": {"Regex": "a|b"}}], "query": []}),
                            json!({"Forward": [{"cluster": "v1", "weight": 9}, {"cluster": "v2", "weight": 1}]})),
                        rule(json!({"path": {"Prefix": ""}}), json!({"Fail": 500})),
                    ]},
                    "clusters": {"service/bookstore/reviews/9080": {
                        "cluster": {"protocol": "Http", "balance": {"LeastRequest": {"choices": 2}}, "limits": {"connections": null, "requests": 5},
                            "ejection": {"consecutive_5xx": 5, "consecutive_local_failures": null}, "origin": origin},
                        "endpoints": [{"endpoint": {"address": "10.244.0.4:9080", "health": "Ready", "weight": 1, "identity": null, "pod": "bookstore/reviews"}, "active": 1, "eligible": true},
                            {"endpoint": {"address": "10.244.0.5:9080", "health": "Ready", "weight": 1, "identity": null, "pod": "bookstore/reviews-2"}, "active": 0, "eligible": false,
                                "ejected": {"cause": "consecutive_5xx", "times": 1, "seconds_left": 29}}],
                    }},
                },
            },
        })
    }

    #[test]
    fn all_sections() {
        let expected = "\
Listeners
ADDRESS         STANDS FOR                      PROTOCOL  GOES TO                               FROM
10.96.0.7:9080  Service bookstore/reviews:9080  Http      route service/bookstore/reviews/9080  Service bookstore/reviews
10.96.0.9:80    (nothing in the mesh)           -         -                                     -

Routes
ROUTE                           RULE  MATCH                               THEN                            TIMEOUT  RETRY             FROM
service/bookstore/reviews/9080  0     path /v2/…, method GET, header x~a|b  v1 90%, v2 10%, after 1 filter  1.5s     2x on 503, reset  HTTPRoute bookstore/reviews (rule canary)
service/bookstore/reviews/9080  1     everything                          answer 500, after 1 filter      1.5s     2x on 503, reset  HTTPRoute bookstore/reviews (rule canary)

Clusters
CLUSTER                         PROTOCOL  BALANCE            LIMITS      EJECTION  FROM
service/bookstore/reviews/9080  Http      LeastRequest of 2  requests 5  5 5xx     Service bookstore/reviews

Endpoints
CLUSTER                         ADDRESS          POD                HEALTH  USED  IN FLIGHT  WEIGHT  IDENTITY
service/bookstore/reviews/9080  10.244.0.4:9080  bookstore/reviews  Ready   yes   1          1       (no sidecar)
service/bookstore/reviews/9080  10.244.0.5:9080  bookstore/reviews-2  Ready   no (ejected: consecutive_5xx, 29s left)   0          1       (no sidecar)

Certs
WHAT           VALUE
trust domains  cluster.local
identity       spiffe://cluster.local/ns/bookstore/sa/client
pod            bookstore/client/1
serial number  0a
valid from     1970-01-01T00:00:00Z
valid until    1970-01-02T00:00:00Z
root           CN=root, valid until 1970-01-02T00:00:00Z, SHA-256 ab
";
        // Widths are the table's own business; its words are ours.
        let words = |text: &str| -> Vec<Vec<String>> {
            text.lines().map(|l| l.split_whitespace().map(str::to_owned).collect()).collect()
        };
        assert_eq!(words(&render(&dump(), None)), words(expected));
    }

    #[test]
    fn one_section_of_a_proxy_that_knows_nothing() {
        assert_eq!(render(&json!({"destinations": {}}), Some(Section::Routes)), "(none)\n");
    }
}
