use serde_json::Value;
use tulle_xds::model::{Filter, PathRewrite};

use super::*;
use crate::{
    convert::{Outcome, convert},
    world::objects::MirrorRef,
};

fn told(kind: &str, spec: &str) -> Outcome {
    let text = format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: {kind}, \
         metadata: {{name: r, namespace: shop}}, spec: {spec}}}"
    );
    let value: Value = serde_yaml_ng::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    convert(&value)
}

fn in_parent(rule: &str) -> String {
    format!("{{parentRefs: [{{group: '', kind: Service, name: s}}], rules: [{rule}]}}")
}

fn good(kind: &str, rule: &str) -> RouteRule {
    let outcome = told(kind, &in_parent(rule));
    assert_eq!(outcome.faults, [], "{rule}");
    match outcome.object {
        Some(Object::HttpRoute(route) | Object::GrpcRoute(route)) => route.rules[0].clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn everything_that_a_rule_can_say_is_taken_in() {
    let rule = good(
        "HTTPRoute",
        "{name: n, matches: [{path: {type: PathPrefix, value: /a/}, method: POST, \
          headers: [{name: X-A, value: '1'}, {name: x-a, value: '2'}], \
          queryParams: [{name: q, type: RegularExpression, value: '[0-9]+'}]}], \
          filters: [{type: URLRewrite, urlRewrite: {hostname: h, path: {type: ReplacePrefixMatch, replacePrefixMatch: /b/}}}, \
            {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [x-gone]}}, \
            {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-S, value: v}], add: [{name: x-t, value: w}]}}], \
          timeouts: {request: 2s, backendRequest: 500ms}, \
          backendRefs: [{name: v1, port: 80, weight: 90}, {name: v2, port: 81, weight: 10, \
            filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [cookie]}}]}]}",
    );
    let matches = &rule.matches[0];
    assert_eq!(matches.path, PathMatch::Prefix("/a".to_owned()));
    assert_eq!(matches.method, Some(http::Method::POST));
    assert_eq!((matches.headers.len(), matches.query.len()), (1, 1), "the first of a name counts");
    let [Filter::RequestHeaders(_), Filter::ResponseHeaders(_), Filter::Rewrite { host, path }] =
        &rule.filters[..]
    else {
        panic!("{rule:?}")
    };
    assert_eq!(host.as_deref(), Some("h"));
    assert_eq!(path, &Some(PathRewrite::Prefix("/b".to_owned())));
    assert_eq!(rule.timeouts.per_try, Some(Duration::from_millis(500)));
    let RuleAction::Forward(backends) = &rule.action else { panic!("{rule:?}") };
    assert_eq!(backends[1].to, Some((Name::new("shop", "v2"), 81)));
    assert_eq!((backends[1].weight, backends[1].filters.len()), (10, 1));

    let redirect = good(
        "HTTPRoute",
        "{filters: [{type: RequestRedirect, requestRedirect: {scheme: https, port: 8443, statusCode: 301}}]}",
    );
    let RuleAction::Redirect(redirect) = redirect.action else { panic!("{redirect:?}") };
    assert_eq!((redirect.status.as_u16(), redirect.port), (301, Some(8443)));
}

#[test]
fn a_mirror_gets_its_share() {
    let mirror = |said: &str| {
        format!(
            "{{filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: m, port: 80}}{said}}}}}, \
             {{type: RequestMirror, requestMirror: {{backendRef: {{name: n, port: 81}}}}}}], \
             backendRefs: [{{name: s, port: 80}}]}}"
        )
    };
    for (said, millionths) in [
        ("", 1_000_000),
        (", percent: 0", 0),
        (", percent: 42", 420_000),
        (", fraction: {numerator: 5}", 50_000),
        (", fraction: {numerator: 1, denominator: 3}", 333_333),
        (", fraction: {numerator: 3, denominator: 3}", 1_000_000),
    ] {
        for kind in ["HTTPRoute", "GRPCRoute"] {
            let rule = good(kind, &mirror(said));
            let to = |name, port| Some((Name::new("shop", name), port));
            let expected = [
                MirrorRef { at: 0, to: to("m", 80), millionths },
                MirrorRef { at: 1, to: to("n", 81), millionths: 1_000_000 },
            ];
            assert_eq!(rule.mirrors, expected, "{said}");
        }
    }
    for said in [
        ", percent: 101",
        ", percent: -1",
        ", percent: 1, fraction: {numerator: 1}",
        ", fraction: {numerator: 2, denominator: 1}",
        ", fraction: {numerator: 0, denominator: 0}",
    ] {
        let outcome = told("HTTPRoute", &in_parent(&mirror(said)));
        assert_eq!(outcome.object, None, "{said}");
        let fault = &outcome.faults[0];
        assert_eq!(fault.field.to_string(), "spec.rules[0].filters[0].requestMirror", "{said}");
    }
}

#[test]
fn a_grpc_call_is_a_path() {
    for (method, path) in [
        ("{service: a.B, method: C}", "Exact(\"/a.B/C\")"),
        ("{service: a.B}", "Prefix(\"/a.B\")"),
        ("{method: C}", "Regex(\"/[^/]+/C\")"),
        ("{type: RegularExpression, service: 'a|b'}", "Regex(\"/(?:a|b)/(?:[^/]+)\")"),
    ] {
        let backend = "backendRefs: [{name: s, port: 80}]";
        let rule = good("GRPCRoute", &format!("{{matches: [{{method: {method}}}], {backend}}}"));
        assert_eq!(format!("{:?}", rule.matches[0].path), path, "{method}");
    }
}

#[test]
fn each_fault_is_named_and_refuses_the_object() {
    let cases = [
        ("{matches: [{path: {value: a}}]}", "spec.rules[0].matches[0].path.value", "begin with /"),
        ("{matches: [{path: {value: /a//b}}]}", "spec.rules[0].matches[0].path.value", "\"//\""),
        (
            "{matches: [{path: {type: RegularExpression, value: '/('}}]}",
            "spec.rules[0].matches[0].path.value",
            "unclosed group",
        ),
        (
            "{matches: [{headers: [{name: a, type: RegularExpression, value: '[a-z&&[^b]]'}]}]}",
            "spec.rules[0].matches[0].headers[0].value",
            "for RE2: classes have no operators",
        ),
        (
            "{matches: [{headers: [{name: 'a b', value: x}]}]}",
            "spec.rules[0].matches[0].headers[0].name",
            "no header name",
        ),
        (
            "{backendRefs: [{name: a, port: 80, weight: 1000001}]}",
            "spec.rules[0].backendRefs[0].weight",
            "between 0 and 1000000",
        ),
        (
            "{backendRefs: [{name: a, port: 80, weight: 99999999999}]}",
            "spec.rules[0].backendRefs[0].weight",
            "99999999999",
        ),
        ("{backendRefs: [{name: a}]}", "spec.rules[0].backendRefs[0].port", "is missing"),
        ("{backendRefs: [{name: a, port: 0}]}", "spec.rules[0].backendRefs[0].port", "no port"),
        ("{backendRef: [{name: a}]}", "spec.rules[0].backendRef", "unknown field"),
        ("{timeouts: {request: 10}}", "spec.rules[0].timeouts.request", "string"),
        ("{timeouts: {request: 1.5s}}", "spec.rules[0].timeouts.request", "no fraction"),
        (
            "{timeouts: {request: 1s, backendRequest: 2s}}",
            "spec.rules[0].timeouts.backendRequest",
            "longer",
        ),
        ("{filters: [{type: URLRewrite}]}", "spec.rules[0].filters[0]", "says nothing"),
        (
            "{matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, \
              urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]}",
            "spec.rules[0].filters[0]",
            "needs exactly one match",
        ),
        (
            "{filters: [{type: RequestRedirect, requestRedirect: {}}], backendRefs: [{name: a, port: 1}]}",
            "spec.rules[0].backendRefs",
            "sends nothing",
        ),
        ("{name: a}, {name: a}", "spec.rules[1].name", "another rule"),
    ];
    for (rule, field, reason) in cases {
        let outcome = told("HTTPRoute", &in_parent(rule));
        assert_eq!(outcome.object, None, "{rule}");
        let found = outcome
            .faults
            .iter()
            .any(|fault| fault.field.to_string() == field && fault.reason.contains(reason));
        assert!(found, "{rule}: {:?}", outcome.faults);
    }
}

#[test]
fn what_cannot_be_done_is_named_and_fails_only_what_it_is_about() {
    let cases = [
        (
            "{filters: [{type: ExtensionRef, extensionRef: {group: g, kind: K, name: n}}]}",
            "filters[0].type",
        ),
        ("{backendRefs: [{kind: Bucket, group: g, name: n}]}", "backendRefs[0].kind"),
        (
            "{backendRefs: [{name: a, port: 80, filters: [{type: RequestRedirect, requestRedirect: {}}]}]}",
            "backendRefs[0].filters",
        ),
    ];
    for (rule, field) in cases {
        let outcome = told("HTTPRoute", &in_parent(rule));
        let Some(Object::HttpRoute(route)) = outcome.object else { panic!("{:?}", outcome.faults) };
        let fault = &outcome.faults[0];
        assert_eq!(fault.field.to_string(), format!("spec.rules[0].{field}"));
        assert!(fault.reason.contains("not in force") && fault.reason.contains("500"), "{fault:?}");
        match &route.rules[0].action {
            RuleAction::Fail => {}
            RuleAction::Forward(backends) => assert_eq!(backends[0].to, None),
            RuleAction::Redirect(_) => panic!("{rule}"),
        }
    }
    let gateway = told("HTTPRoute", "{hostnames: [a.b], parentRefs: [{name: g}]}");
    let fields: Vec<_> = gateway.faults.iter().map(|fault| fault.field.to_string()).collect();
    assert_eq!(fields, ["spec.hostnames", "spec.parentRefs[0]"]);
}
