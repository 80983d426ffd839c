//! What Telemetry says of the access log, while connections are open.

use http::{HeaderMap, Request};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tulle_xds::model::{Knob, LogFormat, Logs, Protocol, Tag};

use super::{
    ends::{Does, echo, full, http1, plays, text},
    harness::{Pair, Sidecar, Told},
};

fn says(of: &Sidecar, logs: Logs) {
    of.told_otherwise(|workload| workload.telemetry.logs = logs);
}

fn filter(filter: &str) -> Logs {
    Logs { filter: filter.to_owned(), ..Logs::default() }
}

/// A mesh of which the application answers `/NUMBER` with that status.
pub(super) async fn pair() -> Pair {
    let (application, _) = plays(|head, _| {
        Does::Answer(head.uri.path().trim_start_matches('/').parse().unwrap_or(200))
    })
    .await;
    Pair::new(&[application], Told::default()).await
}

pub(super) async fn get(pair: &Pair, path: &str, headers: &[(&str, &str)]) -> HeaderMap {
    let mut request = Request::get(path).header("host", "cart");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = http1(pair.outbound).await.send_request(request.body(full("")).unwrap()).await;
    let response = response.unwrap();
    let head = response.headers().clone();
    text(response).await;
    head
}

#[tokio::test]
async fn a_filter_says_which_lines_there_are_from_the_next_request_on() {
    let mut pair = pair().await;
    get(&pair, "/200", &[]).await;
    assert_eq!(pair.client.record().await["status"], 200, "without one all, here");
    says(&pair.client, filter("response.code >= 400 && request.path != '/404'"));
    for path in ["/200", "/404", "/418", "/503"] {
        get(&pair, path, &[]).await;
    }
    assert_eq!(pair.client.record().await["status"], 418);
    let failed = pair.client.record().await;
    assert_eq!((&failed["status"], &failed["fault"]), (&json!(503), &json!("upstream")));
    says(&pair.client, Logs::default());
    get(&pair, "/202", &[]).await;
    assert_eq!(pair.client.record().await["path"], "/202");
}

#[tokio::test]
async fn a_filter_can_ask_for_the_sample_and_what_it_cannot_tell_is_written() {
    let mut pair = pair().await;
    pair.client.told_otherwise(|workload| {
        workload.knobs = [(Knob::AccessLogSample, 0)].into();
        workload.telemetry.logs = filter("sampled || response.code == 404");
    });
    get(&pair, "/200", &[]).await;
    get(&pair, "/404", &[]).await;
    assert_eq!(pair.client.record().await["status"], 404, "no sample");
    pair.client.told_otherwise(|workload| {
        workload.knobs = [(Knob::AccessLogSample, 2)].into();
    });
    let mut sampled = Value::Null;
    while sampled.is_null() {
        get(&pair, "/200", &[]).await;
        get(&pair, "/404", &[]).await;
        let line = pair.client.record().await;
        match line["status"].as_u64() {
            Some(404) => assert_eq!(line["sampled"], Value::Null, "it stands for itself"),
            _ => sampled = line["sampled"].clone(),
        }
    }
    assert_eq!(sampled, true);

    let failures = "tulle_telemetry_expression_failures_total";
    assert!(pair.server.metrics().contains(&format!("{failures} 0")));
    says(&pair.server, filter("1 / (response.code - 202) > 5"));
    get(&pair, "/202", &[]).await;
    while pair.server.record().await["status"] != 202 {}
    assert!(pair.server.metrics().contains(&format!("{failures} 1")), "{}", pair.server.metrics());
}

#[tokio::test]
async fn a_line_has_the_fields_that_are_asked_for() {
    let mut pair = pair().await;
    let field = |(name, expression): (&str, &str)| Tag {
        name: name.to_owned(),
        expression: expression.to_owned(),
        max_values: 0,
    };
    let fields = [
        ("tenant", "request.headers['X-Tenant']"),
        ("type", "response.headers['content-length']"),
        ("good", "response.code < 400"),
        ("class", "response.code / 100"),
        ("from", "source.namespace + '/' + source.workload"),
        ("to", "destination.workload"),
        ("who", "destination.principal"),
        ("mtls", "connection.mtls"),
        ("absent", "request.headers['x-absent']"),
        ("impossible", "1 / (response.code - 200)"),
        ("quick", "duration < duration('10s') && has(response.code)"),
    ];
    let fields = fields.map(field).to_vec();
    for of in [&pair.client, &pair.server] {
        says(of, Logs { fields: fields.clone(), ..Logs::default() });
    }
    get(&pair, "/200", &[("x-tenant", "blue\u{e4}\"\u{9b}"), ("cookie", "secret")]).await;
    let of_client = pair.client.record().await;
    for (name, value) in [
        ("tenant", json!("blue\u{e4}\"\u{fffd}")),
        ("good", json!(true)),
        ("class", json!(2)),
        ("from", json!("shop/pod-0")),
        ("to", json!("cart")),
        ("who", json!("spiffe://cluster.local/ns/shop/sa/cart")),
        ("mtls", json!(true)),
        ("absent", Value::Null),
        ("impossible", Value::Null),
        ("quick", json!(true)),
        ("status", json!(200)),
    ] {
        assert_eq!(of_client[name], value, "{name} of {of_client}");
    }
    assert!(of_client["type"].is_string(), "{of_client}");
    assert!(!of_client.to_string().contains("secret"));
    let of_server = pair.server.record().await;
    assert_eq!((&of_server["from"], &of_server["to"]), (&json!("shop/web"), &json!("pod-0")));
    // Every name that a line can have is one that nobody else may take.
    for (name, _) in [of_client, of_server].iter().flat_map(|line| line.as_object().unwrap()) {
        let extra = fields.iter().any(|field| field.name == *name)
            || tulle_expression::taken::TRACE_FIELDS.contains(&name.as_str());
        assert!(extra || tulle_expression::taken::FIELDS.contains(&name.as_str()), "{name}");
    }
}

#[tokio::test]
async fn envoys_format_is_what_its_readers_expect_and_none_is_silent() {
    let mut pair = pair().await;
    says(&pair.client, Logs { format: LogFormat::Envoy, ..Logs::default() });
    let headers = [
        ("user-agent", "curl/8 \"x\" \u{9b}"),
        ("x-request-id", "cc21d9b0"),
        ("x-forwarded-for", "10.0.35.28"),
    ];
    get(&pair, "/200?secret", &headers).await;
    let line = pair.client.record().await;
    let line = line.as_str().expect("a text").to_owned();
    let pattern = concat!(
        r"^\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] ",
        "\"GET /200 HTTP/1.1\" 200 - 0 \\d+ \\d+ \\d+ ",
        "\"10.0.35.28\" \"curl/8 %22x%22 \u{fffd}\" \"cc21d9b0\" \"cart\" ",
        r#""127\.0\.0\.1:\d+"$"#
    );
    assert!(regex::Regex::new(pattern).unwrap().is_match(&line), "{line}");
    says(&pair.client, Logs { format: LogFormat::Off, ..Logs::default() });
    get(&pair, "/501", &[]).await;
    says(&pair.client, Logs { format: LogFormat::Envoy, ..filter("failed") });
    get(&pair, "/200", &[]).await;
    get(&pair, "/503", &[]).await;
    let line = pair.client.record().await;
    let rest = line.as_str().unwrap().split_once("] ").unwrap().1.to_owned();
    assert!(rest.starts_with("\"GET /503 HTTP/1.1\" 503 - 0 "), "{rest}");
    assert!(rest.contains(" \"-\" \"-\" \"-\" \"cart\" "), "{rest}");
}

#[tokio::test]
async fn an_opaque_connection_is_a_line_in_envoys_format_too() {
    let (application, _) = echo().await;
    let told = Told { protocol: Protocol::Tcp, ..Told::default() };
    let mut pair = Pair::new(&[application], told).await;
    says(&pair.server, Logs { format: LogFormat::Envoy, ..filter("protocol == 'tcp'") });
    let mut client = TcpStream::connect(pair.outbound).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    let line = pair.server.record().await;
    let rest = line.as_str().unwrap().split_once("] ").unwrap().1.to_owned();
    let pattern = r#"^"- - -" 0 - 27 \d+ \d+ - "-" "-" "-" "-" "127\.0\.0\.1:\d+"$"#;
    assert!(regex::Regex::new(pattern).unwrap().is_match(&rest), "{rest}");
}
