//! Spans of traffic that was really carried.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use http::{Request, Response, request::Parts};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::{net::TcpListener, time::sleep};
use tulle_xds::model::{Mirror, Origin, Protocol, Rule, Setter, Telemetry};

use super::{
    collector::{Collector, Exports, Seen, exports, texts},
    ends::{Does, echo, full, http1, plays, text},
    harness::{Pair, Sidecar, Told, forward},
    resilience::twice,
    telemetry::values,
};

pub(super) const ALL: u32 = 1_000_000;
pub(super) const CALLER: &str = "00-12345678901234567890123456789012-1234567890123456-01";

/// What holds while telemetry leaves a sidecar.
pub(super) struct Traced {
    pub(super) pair: Pair,
    _exports: Vec<Exports>,
}

/// Both sidecars of a pair tell this, under the names of these workloads.
pub(super) async fn traced(
    applications: &[SocketAddr],
    told: Told,
    names: [&str; 2],
    telemetry: &Telemetry,
) -> Traced {
    let pair = Pair::new(applications, told).await;
    let mut exporting = Vec::new();
    for (sidecar, name) in [(&pair.client, names[0]), (&pair.server, names[1])] {
        tells(sidecar, name, telemetry);
        exporting.push(exports(sidecar));
    }
    Traced { pair, _exports: exporting }
}

pub(super) fn tells(sidecar: &Sidecar, name: &str, telemetry: &Telemetry) {
    sidecar.told_otherwise(|workload| {
        workload.owner_name = name.to_owned();
        *workload.telemetry = telemetry.clone();
    });
}

pub(super) async fn get(to: SocketAddr, headers: &[(&str, &str)]) -> u16 {
    let mut request = Request::get("/path?secret=1").header("host", "cart");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let sent = http1(to).await.send_request(request.body(full("")).unwrap()).await.unwrap();
    let status = sent.status().as_u16();
    text(sent).await;
    status
}

/// An application that calls `next` for each request that it gets, with these of its headers.
pub(super) async fn calls(next: SocketAddr, forwards: &'static [&'static str]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(move |request| call(next, forwards, request));
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

async fn call(
    next: SocketAddr,
    forwards: &[&str],
    request: Request<Incoming>,
) -> hyper::Result<Response<Incoming>> {
    let mut onward = Request::get("/next").header("host", "cart");
    for name in forwards {
        for value in request.headers().get_all(*name) {
            onward = onward.header(*name, value);
        }
    }
    http1(next).await.send_request(onward.body(full("")).unwrap()).await
}

pub(super) fn of<'a>(spans: &'a [Seen], service: &str) -> &'a Seen {
    let mut all = spans.iter().filter(|span| span.service == service);
    let found = all.next().unwrap_or_else(|| panic!("none of {service}: {spans:#?}"));
    assert!(all.next().is_none(), "several of {service}: {spans:#?}");
    found
}

#[tokio::test]
async fn an_application_that_passes_the_header_on_is_in_one_trace() {
    let collector = Collector::new().await;
    let telemetry = collector.telemetry(ALL);
    let (last, saw) = echo().await;
    let second = traced(&[last], Told::default(), ["b-out", "c-in"], &telemetry).await;
    let middle = calls(second.pair.outbound, &["traceparent", "tracestate"]).await;
    let first = traced(&[middle], Told::default(), ["a-out", "b-in"], &telemetry).await;
    assert_eq!(get(first.pair.outbound, &[]).await, 200);
    let spans = collector.spans(4).await;
    let order = ["a-out", "b-in", "b-out", "c-in"].map(|service| of(&spans, service));
    assert_eq!(order[0].parent, "", "the root");
    for pair in order.windows(2) {
        assert_eq!((&pair[1].parent, &pair[1].trace), (&pair[0].id, &pair[0].trace), "{spans:#?}");
    }
    let kinds = [SpanKind::Client, SpanKind::Server, SpanKind::Client, SpanKind::Server];
    assert_eq!(order.map(|span| span.kind), kinds.map(i32::from));
    assert!(order.iter().all(|span| span.span.trace_state == "ot=th:0"));
    let head = saw.lock()[0].headers.clone();
    let sent = format!("00-{}-{}-03", order[3].trace, order[3].id);
    assert_eq!(head["traceparent"].to_str().unwrap(), sent, "what the last application is below");
    assert!(collector.scopes().iter().all(|scope| scope == "dev.tulle.proxy"));
}

#[tokio::test]
async fn an_application_that_does_not_is_in_two() {
    let collector = Collector::new().await;
    let telemetry = collector.telemetry(ALL);
    let (last, _) = echo().await;
    let second = traced(&[last], Told::default(), ["b-out", "c-in"], &telemetry).await;
    let middle = calls(second.pair.outbound, &[]).await;
    let first = traced(&[middle], Told::default(), ["a-out", "b-in"], &telemetry).await;
    let brought = [("traceparent", CALLER), ("tracestate", "foo=1")];
    assert_eq!(get(first.pair.outbound, &brought).await, 200);
    let spans = collector.spans(4).await;
    let [a, b, onward, c] = ["a-out", "b-in", "b-out", "c-in"].map(|service| of(&spans, service));
    assert_eq!((&*a.parent, &b.parent, &*a.span.trace_state), ("1234567890123456", &a.id, "foo=1"));
    assert_eq!((&*a.trace, &b.trace), ("12345678901234567890123456789012", &a.trace));
    assert_eq!((&*onward.parent, &c.parent, &c.trace), ("", &onward.id, &onward.trace));
    assert_ne!(onward.trace, a.trace);
}

#[tokio::test]
async fn spans_say_what_the_conventions_want_and_no_query() {
    let collector = Collector::new().await;
    let (application, _) = plays(|_, _| Does::Answer(404)).await;
    let rules = vec![Rule { origin: origin("HTTPRoute", "web"), ..forward() }];
    let told = Told { rules, ..Told::default() };
    let traced = traced(&[application], told, ["a", "b"], &collector.telemetry(ALL)).await;
    assert_eq!(get(traced.pair.outbound, &[]).await, 404);
    let spans = collector.spans(2).await;
    let (client, server) = (of(&spans, "a"), of(&spans, "b"));
    let expect = |span: &Seen, expected: &[(&str, &str)]| {
        for (key, value) in expected {
            assert_eq!(
                span.attributes.get(*key).map(String::as_str),
                Some(*value),
                "{key}: {span:#?}"
            );
        }
    };
    let both = [
        ("http.request.method", "GET"),
        ("url.path", "/path"),
        ("url.scheme", "http"),
        ("http.response.status_code", "404"),
        ("network.protocol.version", "1.1"),
    ];
    expect(client, &both);
    expect(server, &both);
    expect(
        client,
        &[
            ("url.full", "http://cart/path"),
            ("server.address", "cart.shop.svc.cluster.local"),
            ("server.port", "80"),
            ("error.type", "404"),
            ("tulle.route", "HTTPRoute/shop/web"),
            ("tulle.peer.workload", "cart"),
            ("network.peer.address", "127.0.0.1"),
        ],
    );
    expect(
        server,
        &[
            ("server.address", "cart"),
            ("tulle.peer.workload", "web"),
            ("client.address", "127.0.0.1"),
        ],
    );
    assert!(
        !server.attributes.contains_key("error.type")
            && !server.attributes.contains_key("http.route")
    );
    assert_eq!([&client.span.name, &server.span.name], ["GET", "GET"]);
    let status = |span: &Seen| span.span.status.as_ref().map_or(0, |status| status.code);
    assert_eq!((status(client), status(server)), (2, 0), "an error for the client alone");
    assert!(client.span.start_time_unix_nano <= server.span.start_time_unix_nano);
    assert!(client.span.end_time_unix_nano >= client.span.start_time_unix_nano);
    assert!(!format!("{spans:?}").contains("secret"));
}

fn origin(kind: &str, name: &str) -> Origin {
    Origin { kind: kind.into(), namespace: "shop".into(), name: name.into(), rule: String::new() }
}

#[tokio::test]
async fn each_attempt_has_a_span_which_is_what_its_server_is_below() {
    let collector = Collector::new().await;
    let (application, _) = plays(|_, nth| Does::Answer(if nth < 2 { 503 } else { 200 })).await;
    let setters =
        vec![Setter { field: "spec.retries".into(), origin: origin("TrafficPolicy", "patient") }];
    let rules = vec![Rule { retry: Some(twice()), setters, ..forward() }];
    let told = Told { rules, protocol: Protocol::Http, ..Told::default() };
    let traced = traced(&[application], told, ["a", "b"], &collector.telemetry(ALL)).await;
    assert_eq!(get(traced.pair.outbound, &[("traceparent", CALLER)]).await, 200);
    let spans = collector.spans(7).await;
    let clients: Vec<_> = spans.iter().filter(|span| span.service == "a").collect();
    let request = clients.iter().find(|span| span.parent == "1234567890123456").unwrap();
    let mut attempts: Vec<_> = clients.iter().filter(|span| span.parent == request.id).collect();
    attempts.sort_by_key(|span| span.span.start_time_unix_nano);
    let of_attempts = |key: &str| -> Vec<Option<String>> {
        attempts.iter().map(|span| span.attributes.get(key).cloned()).collect()
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(of_attempts("http.request.resend_count"), [None, some("1"), some("2")]);
    assert_eq!(of_attempts("http.response.status_code"), ["503", "503", "200"].map(some));
    assert_eq!(of_attempts("error.type"), [some("503"), some("503"), None]);
    for attempt in &attempts {
        let below = spans.iter().filter(|span| span.service == "b" && span.parent == attempt.id);
        assert_eq!(below.count(), 1, "{spans:#?}");
        assert!(attempt.span.end_time_unix_nano <= request.span.end_time_unix_nano);
    }
    assert_eq!(request.attributes["http.response.status_code"], "200");
    let events = &request.span.events;
    assert_eq!(events.iter().map(|event| &*event.name).collect::<Vec<_>>(), ["tulle.retried"; 2]);
    let second = texts(&events[1].attributes);
    assert_eq!(
        (&*second["tulle.policy"], &*second["error.type"]),
        ("TrafficPolicy/shop/patient", "503")
    );
}

#[tokio::test]
async fn a_copy_is_below_its_original_and_both_say_so() {
    let collector = Collector::new().await;
    let (application, _) = echo().await;
    let (mirror, copies) = echo().await;
    const TO: &str = "service/shop/mirror/80";
    let mirrors = vec![Mirror { cluster: TO.into(), millionths: ALL }];
    let rules = vec![Rule { mirrors, ..forward() }];
    let told =
        Told { rules, others: vec![(TO, mirror)], protocol: Protocol::Http, ..Told::default() };
    let traced = traced(&[application], told, ["a", "b"], &collector.telemetry(ALL)).await;
    assert_eq!(get(traced.pair.outbound, &[]).await, 200);
    let spans = collector.spans(3).await;
    let is_copy = |span: &&Seen| span.attributes.contains_key("tulle.mirror");
    let copy = spans.iter().find(is_copy).unwrap();
    let original = spans.iter().find(|span| span.service == "a" && !is_copy(span)).unwrap();
    assert_eq!((&copy.parent, &copy.trace), (&original.id, &original.trace));
    assert_eq!(original.span.events[0].name, "tulle.mirrored");
    let sent = copies.lock()[0].headers["traceparent"].to_str().unwrap().to_owned();
    assert!(sent.contains(&copy.id), "{sent}");
}

#[tokio::test]
async fn a_request_in_each_view_by_what_came_of_it() {
    let collector = Collector::new().await;
    let script = |head: &Parts, _| match head.uri.path() {
        "/bad" => Does::Answer(500),
        "/reset" => Does::Reset,
        _ => Does::Answer(200),
    };
    let (application, _) = plays(script).await;
    let mut traced =
        traced(&[application], Told::default(), ["a", "b"], &collector.telemetry(ALL)).await;
    let many = [("/", 5), ("/bad", 3), ("/reset", 2)];
    for (path, times) in many {
        for _ in 0..times {
            let request = Request::get(path).header("host", "cart").body(full("")).unwrap();
            text(http1(traced.pair.outbound).await.send_request(request).await.unwrap()).await;
        }
    }
    let sum: usize = many.iter().map(|(_, times)| times).sum();
    let spans = collector.spans(2 * sum).await;
    for (service, sidecar, metric) in [
        ("a", &mut traced.pair.client, "http_client_request_duration_seconds_count"),
        ("b", &mut traced.pair.server, "http_server_request_duration_seconds_count"),
    ] {
        let outcome =
            |status: &str, error: Option<&str>| format!("{status} {}", error.unwrap_or("-"));
        let mut lines: HashMap<String, u64> = HashMap::new();
        let mut by_spans = lines.clone();
        for _ in 0..sum {
            let line = sidecar.record().await;
            let reason = line["reason"].as_str().map(str::to_owned);
            let status = line["status"].as_u64().unwrap();
            let error = reason.or_else(|| (status >= 500).then(|| status.to_string()));
            *lines.entry(outcome(&status.to_string(), error.as_deref())).or_default() += 1;
            let id = line["span_id"].as_str().unwrap();
            let span = spans.iter().find(|span| span.id == id).unwrap();
            assert_eq!((&*span.service, line["trace_id"].as_str()), (service, Some(&*span.trace)));
            assert_eq!(line["trace_sampled"], true);
        }
        for span in spans.iter().filter(|span| span.service == service) {
            let error = span.attributes.get("error.type").map(String::as_str);
            let outcome = outcome(&span.attributes["http.response.status_code"], error);
            *by_spans.entry(outcome).or_default() += 1;
        }
        assert_eq!(by_spans, lines, "{service}");
        assert_eq!(lines.len(), 3, "{lines:?}");
        for (outcome, times) in &lines {
            let (status, error) = outcome.split_once(' ').unwrap();
            let status = format!("http_response_status_code=\"{status}\"");
            let error = format!("error_type=\"{error}\"");
            let labels =
                if error.contains("\"-\"") { vec![&*status] } else { vec![&*status, &*error] };
            let counted = values(sidecar, metric, &labels);
            assert_eq!(counted.iter().sum::<f64>(), *times as f64, "{outcome}");
        }
    }
    // And sent as they are scraped.
    let expected = [("200", 5), ("500", 3), ("503", 2)].map(|(status, n)| (status.to_owned(), n));
    let mut sent = Vec::new();
    for _ in 0..2000 {
        sent = by_status(&collector, "http.client.request.duration");
        if sent == expected {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("{sent:?} are not {expected:?}");
}

/// How often each status was sent last.
fn by_status(collector: &Collector, metric: &str) -> Vec<(String, u64)> {
    let points = collector.points(metric);
    let mut all: Vec<_> = points
        .into_iter()
        .map(|point| (point.attributes["http.response.status_code"].clone(), point.count))
        .collect();
    all.sort_unstable();
    all
}

#[tokio::test]
async fn what_policy_refuses_has_a_span_that_says_which() {
    let collector = Collector::new().await;
    let (application, _) = echo().await;
    let mut traced =
        traced(&[application], Told::default(), ["a", "b"], &collector.telemetry(ALL)).await;
    traced.pair.server.lets_in(&["spiffe://cluster.local/ns/bank/sa/vault"]);
    assert_eq!(get(traced.pair.outbound, &[("traceparent", CALLER)]).await, 403);
    let spans = collector.spans(2).await;
    let server = of(&spans, "b");
    let event = &server.span.events[0];
    let said = texts(&event.attributes);
    let policy = "AccessPolicy/shop/callers";
    assert_eq!(
        (&*event.name, &*said["tulle.policy"], &*said["tulle.reason"]),
        ("tulle.denied", policy, "denied")
    );
    assert_eq!(
        (&*server.attributes["tulle.policy"], &*server.attributes["error.type"]),
        (policy, "denied")
    );
    assert_eq!(server.parent, of(&spans, "a").id);
    traced.pair.server.record().await;
}

#[tokio::test]
async fn what_a_policy_s_time_ends_has_a_span_that_says_which() {
    let collector = Collector::new().await;
    let (application, _) = plays(|_, _| Does::Nothing).await;
    let setters = vec![Setter {
        field: "spec.timeouts.request".into(),
        origin: origin("TrafficPolicy", "hurried"),
    }];
    let mut rule = Rule { setters, ..forward() };
    rule.timeouts.request = Some(Duration::from_millis(50));
    let told = Told { rules: vec![rule], protocol: Protocol::Http, ..Told::default() };
    let traced = traced(&[application], told, ["a", "b"], &collector.telemetry(ALL)).await;
    assert_eq!(get(traced.pair.outbound, &[]).await, 504);
    let spans = collector.spans(2).await;
    let event = &of(&spans, "a").span.events[0];
    let said = texts(&event.attributes);
    assert_eq!(
        (&*event.name, &*said["tulle.policy"]),
        ("tulle.timed_out", "TrafficPolicy/shop/hurried")
    );
    assert_eq!(of(&spans, "b").attributes["error.type"], "canceled", "its caller went away");
}

#[tokio::test]
async fn without_traces_headers_are_those_of_the_client() {
    let (application, saw) = echo().await;
    let mut pair = Pair::new(&[application], Told::default()).await;
    let brought =
        [("traceparent", "what"), ("tracestate", "=,"), ("b3", "0"), ("grpc-trace-bin", "AAAA")];
    assert_eq!(get(pair.outbound, &brought).await, 200);
    assert_eq!(get(pair.outbound, &[]).await, 200);
    let heads = saw.lock().clone();
    for (name, value) in brought {
        assert_eq!(heads[0].headers[name], value);
        assert!(!heads[1].headers.contains_key(name), "{name}");
    }
    let record = pair.client.record().await;
    assert!(record.get("trace_id").is_none() && record.get("trace_sampled").is_none(), "{record}");
}
