use std::time::Duration;

use serde_json::json;
use tulle_xds::model::{
    Action, Balance, Cluster, Ejection, Limits, Match, Origin, Protocol, Retry, RetryBudget, Rule,
    Setter, Timeouts, UpstreamProtocol,
};

use super::*;

fn dump() -> Value {
    let origin = json!({"kind": "Service", "namespace": "bookstore", "name": "reviews"});
    let rule = |matches: Value, action: Value| {
        json!({"matches": matches, "filters": [{}], "action": action, "timeouts": {"request": {"secs": 1, "nanos": 500_000_000}},
            "retry": {"attempts": 2, "statuses": [503], "on_reset": true}, "mirrors": [], "origin": {"kind": "HTTPRoute", "namespace": "bookstore", "name": "reviews", "rule": "canary"}})
    };
    json!({
        "generation": 7,
        "workload": {"name": "bookstore/client", "identity": "spiffe://cluster.local/ns/bookstore/sa/client", "trust_domains": ["cluster.local"],
            "knobs": {"headTimeout": 1500}, "setters": [{"field": "metadata.annotations[tulle.dev/head-timeout]",
                "origin": {"kind": "Pod", "namespace": "bookstore", "name": "client"}}]},
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

/// Widths are the table's own business; its words are ours.
fn words(text: &str) -> Vec<Vec<String>> {
    text.lines().map(|l| l.split_whitespace().map(str::to_owned).collect()).collect()
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

Settings
SETTING      VALUE  SET BY                FIELD
headTimeout  1.5s   Pod bookstore/client  metadata.annotations[tulle.dev/head-timeout]

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
    assert_eq!(words(&render(&dump(), None)), words(expected));
}

#[test]
fn one_section_of_a_proxy_that_knows_nothing() {
    assert_eq!(render(&json!({"destinations": {}}), Some(Section::Routes)), "(none)\n");
}

fn policy(name: &str) -> Origin {
    Origin {
        kind: "TrafficPolicy".to_owned(),
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        rule: String::new(),
    }
}

fn setter(field: &str, origin: Origin) -> Setter {
    Setter { field: field.to_owned(), origin }
}

fn by_policy(fields: &[&str]) -> Vec<Setter> {
    fields.iter().map(|field| setter(&format!("spec.{field}"), policy("p"))).collect()
}

fn lines(resource: Value) -> String {
    values::set(&resource).map(|line| line.join(" | ") + "\n").collect()
}

/// By its real types, so that the names of their fields are the right ones.
#[test]
fn each_value_of_a_rule_is_shown_with_who_set_it() {
    let seconds = |n| Some(Duration::from_secs(n));
    let retries = ["", ".attempts", ".when", ".backoff.base", ".backoff.max"];
    let mut setters = by_policy(&retries.map(|of| format!("retries{of}")).each_ref().map(|s| &**s));
    setters.extend(by_policy(&["timeouts.idle"]));
    let route = Origin { kind: "HTTPRoute".to_owned(), ..policy("r") };
    let own = ["request", "backendRequest"].map(|of| format!("spec.rules[0].timeouts.{of}"));
    setters.extend(own.map(|field| setter(&field, route.clone())));
    let rule = Rule {
        matches: Match::default(),
        filters: Vec::new(),
        action: Action::Forward(Vec::new()),
        timeouts: Timeouts { request: seconds(3), per_try: seconds(1), idle: seconds(60) },
        retry: Some(Retry {
            attempts: 2,
            statuses: [502, 503, 504, 599].map(|n| n.try_into().unwrap()).into(),
            grpc_statuses: vec![14],
            on_connect: true,
            on_reset: false,
            base_backoff: Duration::from_millis(25),
            max_backoff: Duration::from_millis(250),
        }),
        stick: None,
        mirrors: Vec::new(),
        origin: route,
        setters,
    };
    let expected = "\
on | TrafficPolicy shop/p | spec.retries
2 | TrafficPolicy shop/p | spec.retries.attempts
25ms | TrafficPolicy shop/p | spec.retries.backoff.base
250ms | TrafficPolicy shop/p | spec.retries.backoff.max
502-504, 599, grpc-status 14, connect | TrafficPolicy shop/p | spec.retries.when
1s | HTTPRoute shop/r | spec.rules[0].timeouts.backendRequest
3s | HTTPRoute shop/r | spec.rules[0].timeouts.request
60s | TrafficPolicy shop/p | spec.timeouts.idle
";
    assert_eq!(lines(json!(rule)), expected);
    let listener =
        json!({"idle": {"secs": 5, "nanos": 0}, "setters": by_policy(&["timeouts.idle"])});
    assert_eq!(lines(listener), "5s | TrafficPolicy shop/p | spec.timeouts.idle\n");
}

#[test]
fn each_value_of_a_cluster_is_shown_with_who_set_it() {
    let limits = ["connections", "pending", "requests"].map(|of| format!("limits.{of}"));
    let mut setters = by_policy(&limits.each_ref().map(|field| &**field));
    setters.push(setter("spec.limits.requests", policy("q")));
    setters.extend(by_policy(&[
        "loadBalancing",
        "retries.budget.percent",
        "retries.budget.minConcurrency",
        "ejection",
        "ejection.consecutive5xx",
        "ejection.consecutiveLocalFailures",
        "ejection.baseTime",
        "ejection.maxTime",
        "ejection.interval",
        "ejection.maxPercent",
    ]));
    let cluster = Cluster {
        name: "c".to_owned(),
        service: None,
        protocol: Protocol::Http,
        upstream_protocol: UpstreamProtocol::Same,
        balance: Balance::Random,
        limits: Limits {
            connections: Some(4),
            pending: Some(5),
            requests: Some(6),
            retry_budget: RetryBudget { percent: 50.0, min_concurrency: 7 },
        },
        ejection: Some(Ejection {
            consecutive_5xx: Some(8),
            consecutive_local_failures: None,
            base_time: Duration::from_secs(9),
            max_time: Duration::from_secs(10),
            interval: Duration::from_secs(11),
            max_percent: 12,
        }),
        connect_timeout: Duration::from_secs(5),
        origin: policy("none"),
        setters,
        released: Default::default(),
    };
    let expected = "\
on | TrafficPolicy shop/p | spec.ejection
9s | TrafficPolicy shop/p | spec.ejection.baseTime
8 | TrafficPolicy shop/p | spec.ejection.consecutive5xx
never | TrafficPolicy shop/p | spec.ejection.consecutiveLocalFailures
11s | TrafficPolicy shop/p | spec.ejection.interval
12% | TrafficPolicy shop/p | spec.ejection.maxPercent
10s | TrafficPolicy shop/p | spec.ejection.maxTime
4 | TrafficPolicy shop/p | spec.limits.connections
5 | TrafficPolicy shop/p | spec.limits.pending
6 | TrafficPolicy shop/p, TrafficPolicy shop/q | spec.limits.requests
Random | TrafficPolicy shop/p | spec.loadBalancing
7 | TrafficPolicy shop/p | spec.retries.budget.minConcurrency
50.0% | TrafficPolicy shop/p | spec.retries.budget.percent
";
    assert_eq!(lines(json!(cluster)), expected);
}

#[test]
fn what_is_set_stands_below_its_table() {
    let mut dump = dump();
    let setter = json!([{"field": "spec.limits.requests",
        "origin": {"kind": "TrafficPolicy", "namespace": "bookstore", "name": "few"}}]);
    let name = "service/bookstore/reviews/9080";
    dump["destinations"]["10.96.0.7:9080"]["clusters"][name]["cluster"]["setters"] = setter;
    let text = render(&dump, Some(Section::Clusters));
    let expected = "
CLUSTER                         VALUE  SET BY                       FIELD
service/bookstore/reviews/9080  5      TrafficPolicy bookstore/few  spec.limits.requests
";
    assert!(text.ends_with(expected), "{text}");
}
