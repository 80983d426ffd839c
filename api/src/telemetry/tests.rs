use super::*;
use crate::Validate as _;

fn problems(spec: &str) -> Vec<String> {
    let spec = serde_yaml_ng::from_str(spec).expect("a spec");
    Telemetry::new("x", spec).problems().iter().map(ToString::to_string).collect()
}

#[test]
fn a_good_one() {
    let spec = "
selector: {matchLabels: {app: reviews}}
traces:
  sampling: 0.1%
  propagation: [W3C, B3]
  destinations:
  - {endpoint: 'http://collector.observability:4317'}
  - {endpoint: 'https://[fd00::1]:4318', protocol: HTTP, headers: [{name: x-scope-orgid, value: shop}]}
  tags: [{name: tenant.id, value: \"request.headers['x-tenant']\"}]
logs:
  format: Envoy
  filter: failed || duration > duration('1s')
  fields: [{name: tenant, value: \"request.headers['x-tenant']\"}]
  destinations: []
metrics:
  disabled: false
  interval: 15s
  tags:
  - {name: shop.tenant, value: \"request.headers['x-tenant']\", maxValues: 100}
  - {name: path, value: request.path}";
    assert_eq!(problems(spec), [""; 0]);
    for spec in ["{}", "{traces: {disabled: true}}", "{logs: {format: None, filter: ''}}"] {
        assert_eq!(problems(spec), [""; 0], "{spec}");
    }
}

#[test]
fn each_problem_is_named() {
    let spec = "
selector: {matchLabels: {}}
traces:
  destinations:
  - {endpoint: collector:4317}
  - {endpoint: 'http://collector'}
  - {endpoint: 'http://collector:0'}
  - {endpoint: 'http://collector:4317/v1'}
  - {endpoint: 'http://user@collector:4317'}
  tags: [{name: url.full, value: route}, {name: tulle.x, value: route}, {name: a b, value: route}]
logs:
  filter: response.code
  fields:
  - {name: status, value: response.code}
  - {name: a, value: nonsense}
  - {name: a, value: \"request.headers['cookie']\"}
  destinations:
  - endpoint: http://a:1
    headers:
    - {name: X, value: a}
    - {name: content-type, value: a}
    - {name: grpc-timeout, value: a}
    - {name: a, value: ä}
    - {name: a, value: ''}
  - {endpoint: 'http://a:1'}
metrics:
  interval: 500ms
  tags:
  - {name: error.type, value: route}
  - {name: a.b, value: route}
  - {name: a_b, value: route, maxValues: 101}
  - {name: __x, value: response.cod}
  - {name: outcome, value: route}
  - {name: pod, value: route}
  - {name: b, value: 'sampled || failed'}";
    let found = problems(spec);
    let fields: Vec<&str> = found.iter().filter_map(|p| Some(p.split_once(": ")?.0)).collect();
    assert_eq!(
        fields,
        [
            "spec.selector.matchLabels",
            "spec.traces.destinations",
            "spec.traces.destinations[0].endpoint",
            "spec.traces.destinations[1].endpoint",
            "spec.traces.destinations[2].endpoint",
            "spec.traces.destinations[3].endpoint",
            "spec.traces.destinations[4].endpoint",
            "spec.traces.tags[0].name",
            "spec.traces.tags[1].name",
            "spec.traces.tags[2].name",
            "spec.logs.filter",
            "spec.logs.destinations[0].headers[0].name",
            "spec.logs.destinations[0].headers[1].name",
            "spec.logs.destinations[0].headers[2].name",
            "spec.logs.destinations[0].headers[3].value",
            "spec.logs.destinations[0].headers[4].name",
            "spec.logs.destinations[1]",
            "spec.logs.fields[0].name",
            "spec.logs.fields[1].value",
            "spec.logs.fields[2].name",
            "spec.logs.fields[2].value",
            "spec.metrics.interval",
            "spec.metrics.tags[0].name",
            "spec.metrics.tags[2].name",
            "spec.metrics.tags[2].maxValues",
            "spec.metrics.tags[3].name",
            "spec.metrics.tags[3].value",
            "spec.metrics.tags[4].name",
            "spec.metrics.tags[5].name",
            "spec.metrics.tags[6].value",
        ]
    );
}

#[test]
fn credentials_are_shown_to_nobody() {
    let header = Header { name: "x-token".to_owned(), value: "hidden".to_owned() };
    assert_eq!(format!("{header:?}"), "Header { name: \"x-token\", .. }");
}
