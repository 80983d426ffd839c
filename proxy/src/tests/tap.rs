//! What is remembered of requests and connections that have ended, for whoever asks.

use std::time::Duration;

use http::Request;
use tokio::{io::AsyncReadExt, net::TcpStream};
use tulle_proto::telemetry::v1 as proto;
use tulle_xds::model::{
    Ejection, LogFormat, Logs, Match, MtlsMode, Origin, PathMatch, Rule, Setter, Timeouts,
};

use super::{
    ends::{Does, full, http1, plays, text},
    harness::{Pair, Sidecar, Told, forward},
};

fn origin(kind: &str, name: &str) -> Origin {
    let (kind, namespace, name) = (kind.to_owned(), "shop".to_owned(), name.to_owned());
    Origin { kind, namespace, name, rule: String::new() }
}

fn setter(field: &str) -> Vec<Setter> {
    vec![Setter { field: field.to_owned(), origin: origin("TrafficPolicy", "strict") }]
}

async fn get(pair: &Pair, path: &str) -> u16 {
    let request = Request::get(path).header("host", "cart");
    let request = request.header("x-tenant", "blue").header("cookie", "secret");
    let response = http1(pair.outbound).await.send_request(request.body(full("")).unwrap()).await;
    let response = response.unwrap();
    let status = response.status().as_u16();
    text(response).await;
    status
}

/// What a sidecar answers, as soon as it has so many records; they come when the last byte has gone.
async fn told(of: &Sidecar, question: &proto::Question, count: usize) -> Vec<proto::Record> {
    for _ in 0..500 {
        let answer = of.shared.metrics.tap().answer(question);
        if answer.records.len() >= count {
            assert_eq!(answer.records.len(), count, "{answer:#?}");
            return answer.records;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{count} records do not come");
}

fn all() -> proto::Question {
    proto::Question { most: 100, ..proto::Question::default() }
}

async fn pair(told: Told) -> Pair {
    let (application, _) = plays(|head, _| match head.uri.path() {
        "/never" => Does::Nothing,
        path => Does::Answer(path.trim_start_matches('/').parse().unwrap_or(200)),
    })
    .await;
    Pair::new(&[application], told).await
}

#[tokio::test]
async fn both_ends_remember_what_the_log_leaves_out() {
    let pair = pair(Told::default()).await;
    for of in [&pair.client, &pair.server] {
        of.told_otherwise(|workload| {
            workload.telemetry.logs = Logs { format: LogFormat::Off, ..Logs::default() };
        });
    }
    assert_eq!(get(&pair, "/200?card=4111").await, 200);
    assert_eq!(get(&pair, "/503").await, 503);
    for (of, direction) in
        [(&pair.client, proto::Direction::Outbound), (&pair.server, proto::Direction::Inbound)]
    {
        let [good, bad] = &told(of, &all(), 2).await[..] else { panic!() };
        let edge = good.edge.as_ref().unwrap();
        assert_eq!((edge.direction(), edge.security()), (direction, proto::Security::Mtls));
        assert_eq!(
            (good.status, good.path.as_str(), good.failed),
            (200, "/200", false),
            "no query"
        );
        assert_eq!((good.method.as_str(), good.host.as_str()), ("GET", "cart"));
        assert!(
            good.took_ns > 0 && good.time > 1_700_000_000_000_000_000 && !good.peer_id.is_empty()
        );
        assert_eq!((bad.status, bad.failed, bad.reason.as_str()), (503, true, ""));
        assert_eq!(bad.fault, "upstream");
        assert!(good.headers.is_empty());
    }
    let edge = told(&pair.client, &all(), 2).await[0].edge.clone().unwrap();
    assert_eq!(
        (edge.peer.as_str(), edge.host.as_str(), edge.port),
        ("cart", "cart.shop.svc.cluster.local", 80)
    );
    let failed = proto::Filter { failed: true, ..proto::Filter::default() };
    told(&pair.server, &proto::Question { filter: Some(failed), ..all() }, 1).await;
}

#[tokio::test]
async fn header_fields_are_told_from_when_somebody_asks_and_secrets_never() {
    let pair = pair(Told::default()).await;
    get(&pair, "/200").await;
    let headers = ["x-tenant", "cookie", "content-length"].map(str::to_owned).to_vec();
    let asked = proto::Question { headers, ..all() };
    assert!(told(&pair.server, &asked, 1).await[0].headers.is_empty(), "nobody had asked");
    get(&pair, "/201").await;
    let told = told(&pair.server, &asked, 2).await;
    let fields: Vec<_> = told[1]
        .headers
        .iter()
        .map(|field| (field.name.as_str(), field.value.as_str(), field.response))
        .collect();
    assert!(fields.contains(&("x-tenant", "blue", false)), "{fields:?}");
    assert!(fields.contains(&("cookie", "(masked)", false)), "{fields:?}");
    assert!(
        fields.iter().any(|(name, _, response)| *name == "content-length" && *response),
        "{fields:?}"
    );
}

#[tokio::test]
async fn what_ended_a_request_is_named_with_the_object_that_wants_it() {
    let known = Match { path: PathMatch::Prefix("/known".to_owned()), ..Match::default() };
    let never = Match { path: PathMatch::Prefix("/never".to_owned()), ..Match::default() };
    let request = Some(Duration::from_millis(50));
    let rules = vec![
        Rule { matches: known, origin: origin("HTTPRoute", "web"), ..forward() },
        Rule {
            matches: never,
            origin: origin("HTTPRoute", "web"),
            timeouts: Timeouts { request, ..Timeouts::default() },
            setters: setter("spec.timeouts.request"),
            ..forward()
        },
    ];
    let ejection = Ejection {
        consecutive_5xx: None,
        consecutive_local_failures: Some(1),
        base_time: Duration::from_secs(10),
        max_time: Duration::from_secs(10),
        interval: Duration::from_secs(1),
        max_percent: 100,
    };
    let other = super::harness::nobody().await;
    let pair = pair(Told {
        rules,
        ejection: Some(ejection),
        // Never chosen twice: an endpoint beside it lets the one that fails be left out.
        plain: vec![other],
        setters: setter("spec.ejection.consecutiveLocalFailures"),
        mtls: MtlsMode::Strict,
        ..Told::default()
    })
    .await;
    assert_eq!(get(&pair, "/lost").await, 404);
    let lost = &told(&pair.client, &all(), 1).await[0];
    assert_eq!(
        (lost.reason.as_str(), lost.policy.as_str()),
        ("route_not_found", "HTTPRoute/shop/web")
    );
    // Which of the endpoints comes first is not said: one refuses, one never answers, and both are failures of theirs.
    assert_eq!(get(&pair, "/never").await, 504);
    let late = &told(&pair.client, &all(), 2).await[1];
    assert_eq!(
        (late.reason.as_str(), late.policy.as_str()),
        ("timeout", "TrafficPolicy/shop/strict")
    );
    assert_eq!(late.policy_field, "spec.timeouts.request");
    assert!(late.detail.contains("50ms"), "{}", late.detail);
    assert_eq!(
        (late.ejected.as_str(), late.ejected_by.as_str()),
        ("shop/cart-0", "TrafficPolicy/shop/strict")
    );
    assert_eq!(late.ejected_field, "spec.ejection.consecutiveLocalFailures");
}

#[tokio::test]
async fn connections_that_policy_refuses_are_remembered_too() {
    let pair = pair(Told { mtls: MtlsMode::Strict, ..Told::default() }).await;
    let mut stranger = TcpStream::connect(pair.inbound[0]).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stranger, b"GET / HTTP/1.1\r\nhost: cart\r\n\r\n")
        .await
        .unwrap();
    let mut said = Vec::new();
    let _reset = stranger.read_to_end(&mut said).await;
    let denied = proto::Filter { reason: "denied".to_owned(), ..proto::Filter::default() };
    let denied = told(&pair.server, &proto::Question { filter: Some(denied), ..all() }, 1).await;
    assert_eq!((denied[0].policy.as_str(), denied[0].fault.as_str()), ("MeshTLS", "policy"));
    let edge = denied[0].edge.as_ref().unwrap();
    assert_eq!((edge.security(), edge.peer.as_str()), (proto::Security::Plaintext, "internet"));
}
