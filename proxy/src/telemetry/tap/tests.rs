use std::time::Duration;

use http::{Method, StatusCode};
use proptest::prelude::*;

use super::{past::Text, ring::MOST, *};
use crate::{
    error::Reason,
    telemetry::{Direction, edge::Security, fault::Fault},
};

/// What the tests tell records apart by.
#[derive(Debug, Clone, Copy)]
struct Said<'a> {
    path: &'a str,
    status: u16,
    took: u64,
    peer: (&'a str, &'a str),
    direction: Direction,
    reason: Option<Reason>,
}

const OK: Said<'_> = Said {
    path: "/",
    status: 200,
    took: 1,
    peer: ("shop", "web"),
    direction: Direction::Inbound,
    reason: None,
};

/// A record of this kind.
fn past(mut texts: Texts, ended: Instant, said: Said<'_>, fields: Vec<Field>) -> Past {
    let (namespace, peer) = said.peer;
    let service =
        if said.direction == Direction::Outbound { "pay.shop.svc.cluster.local" } else { "" };
    let mut all: [&[&str]; Text::EjectedField as usize + 1] =
        [&[]; Text::EjectedField as usize + 1];
    let (namespace, peer, path, service) = ([namespace], [peer], [said.path], [service]);
    all[Text::PeerNamespace as usize] = &namespace;
    all[Text::Peer as usize] = &peer;
    all[Text::Path as usize] = &path;
    all[Text::Service as usize] = &service;
    texts.say(all);
    let status = StatusCode::from_u16(said.status).ok();
    Past {
        ended,
        took: Duration::from_millis(said.took),
        first_byte: None,
        direction: said.direction,
        protocol: "http/2",
        method: Some(Method::GET),
        status,
        grpc: (said.path == "/grpc").then_some("UNAVAILABLE"),
        reason: said.reason,
        fault: said.reason.map(|reason| Fault::of(reason, said.direction, status)),
        failed: said.reason.is_some() || said.status >= 500,
        mirror: false,
        attempts: 1,
        received: 1,
        sent: 2,
        security: Some(Security::Mtls),
        served: match said.direction {
            Direction::Inbound => Served::Unknown,
            Direction::Outbound => Served::Port(80),
        },
        caller: None,
        endpoint: None,
        client: "10.0.0.1:4000".parse().unwrap(),
        destination: "10.0.0.2:80".parse().unwrap(),
        position: None,
        texts,
        fields,
    }
}

fn put(own: &Own, said: Said<'_>) {
    own.lock().push(|texts| past(texts, Instant::now(), said, Vec::new()));
}

fn question(filter: proto::Filter) -> proto::Question {
    let (namespace, workload) = ("shop".to_owned(), "cart".to_owned());
    proto::Question {
        most: 1000,
        filter: Some(filter),
        namespace,
        workload,
        ..proto::Question::default()
    }
}

fn paths(answer: &proto::Records) -> Vec<&str> {
    answer.records.iter().map(|record| record.path.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn each_filter_lets_through_what_it_is_for() {
    let tap = Tap::default();
    let own = tap.ring();
    own.lock().push(|texts| {
        let fields = vec![Field {
            side: Side::Request,
            name: "x-tenant".parse().unwrap(),
            value: "blue".to_owned(),
        }];
        past(texts, Instant::now(), Said { path: "/old", ..OK }, fields)
    });
    tokio::time::advance(Duration::from_secs(60)).await;
    let outbound = Said { direction: Direction::Outbound, peer: ("shop", "pay-v1"), ..OK };
    for said in [
        Said { path: "/slow", status: 404, took: 500, ..OK },
        Said { path: "/out", ..outbound },
        Said { path: "/late", status: 504, reason: Some(Reason::Timeout), ..outbound },
        Said {
            path: "/none",
            status: 503,
            reason: Some(Reason::Overflow),
            peer: ("", "unknown"),
            ..outbound
        },
        Said { path: "/grpc", status: 1, peer: ("bank", "vault"), ..OK },
    ] {
        put(&own, said);
    }
    let nothing = proto::Filter::default;
    let text = str::to_owned;
    let statuses = |first, last| vec![proto::Statuses { first, last }];
    let headers =
        |value| vec![proto::Header { name: text("x-tenant"), value: text(value), response: false }];
    let caller = |namespace, name| proto::Filter {
        from_namespace: text(namespace),
        from: text(name),
        ..nothing()
    };
    let called = |namespace, name| proto::Filter {
        to_namespace: text(namespace),
        to: text(name),
        ..nothing()
    };
    let all = ["/old", "/slow", "/out", "/late", "/none", "/grpc"];
    for (filter, expected) in [
        (nothing(), &all[..]),
        (proto::Filter { direction: 1, ..nothing() }, &["/old", "/slow", "/grpc"]),
        (proto::Filter { direction: 2, ..nothing() }, &["/out", "/late", "/none"]),
        (proto::Filter { statuses: statuses(500, 599), ..nothing() }, &["/late", "/none"]),
        (
            proto::Filter {
                statuses: [statuses(404, 404), statuses(503, 503)].concat(),
                ..nothing()
            },
            &["/slow", "/none"],
        ),
        (proto::Filter { grpc: text("UNAVAILABLE"), ..nothing() }, &["/grpc"]),
        (proto::Filter { slower_us: 500_000, ..nothing() }, &["/slow"]),
        (proto::Filter { slower_us: 500_001, ..nothing() }, &[]),
        (proto::Filter { reason: text("overflow"), ..nothing() }, &["/none"]),
        (proto::Filter { failed: true, ..nothing() }, &["/late", "/none"]),
        (caller("shop", "web"), &["/old", "/slow"]),
        (caller("", "vault"), &["/grpc"]),
        (caller("bank", "web"), &[]),
        // It calls itself.
        (caller("shop", "cart"), &["/out", "/late", "/none"]),
        (called("shop", "cart"), &["/old", "/slow", "/grpc"]),
        (called("shop", "pay-v1"), &["/out", "/late"]),
        // The Service, also where nobody was reached.
        (called("shop", "pay"), &["/out", "/late", "/none"]),
        (called("bank", "pay"), &[]),
        (proto::Filter { method: text("get"), ..nothing() }, &all),
        (proto::Filter { method: text("POST"), ..nothing() }, &[]),
        (proto::Filter { path_prefix: text("/o"), ..nothing() }, &["/old", "/out"]),
        (proto::Filter { headers: headers(""), ..nothing() }, &["/old"]),
        (proto::Filter { headers: headers("blue"), ..nothing() }, &["/old"]),
        (proto::Filter { headers: headers("red"), ..nothing() }, &[]),
        (proto::Filter { within_ms: 59_999, ..nothing() }, &all[1..]),
        (proto::Filter { within_ms: 60_000, ..nothing() }, &all),
        // Longer than there is time.
        (proto::Filter { within_ms: u64::MAX, ..nothing() }, &all),
    ] {
        assert_eq!(paths(&tap.answer(&question(filter.clone()))), expected, "{filter:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_the_latest_of_all_workers_and_bounded() {
    let tap = Tap::default();
    let workers = [tap.ring(), tap.ring()];
    for number in 0..20 {
        put(&workers[number % 2], Said { path: &format!("/{number}"), ..OK });
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    let answer = tap.answer(&proto::Question { most: 3, ..question(proto::Filter::default()) });
    assert_eq!((paths(&answer), answer.matched), (vec!["/17", "/18", "/19"], 20));
    let times: Vec<_> = answer.records.iter().map(|record| record.time).collect();
    assert_eq!(times[2] - times[1], 1_000_000, "by the clock on the wall");

    let long = format!("/{}", "x".repeat(2000));
    for _ in 0..MOST {
        put(&workers[0], Said { path: &long, ..OK });
    }
    let answer = tap.answer(&question(proto::Filter::default()));
    let bytes = prost::Message::encoded_len(&answer);
    assert!(bytes < LARGEST && bytes > LARGEST / 4, "{bytes}");
    assert_eq!(answer.matched, MOST as u64 + 10);
    assert_eq!(answer.records.last().unwrap().path.len(), 1024);
}

#[tokio::test]
async fn a_ring_is_bounded_in_bytes() {
    let tap = Tap::default();
    let own = tap.ring();
    let field =
        |_| Field { side: Side::Request, name: "x-long".parse().unwrap(), value: "x".repeat(512) };
    for _ in 0..MOST {
        let fields = (0..16).map(field).collect();
        own.lock().push(|texts| past(texts, Instant::now(), OK, fields));
    }
    let ring = own.lock();
    let kept: Vec<_> = ring.since(0).map(Past::bytes).collect();
    assert!(kept.len() > 50 && kept.len() < MOST, "{}", kept.len());
    assert!(kept.iter().sum::<usize>() <= ring::BYTES);
    assert_eq!(ring.missed(0), (MOST - kept.len()) as u64);
}

proptest! {
    /// Whoever polls hears of each record once, or that it was missed.
    #[test]
    fn a_cursor_leaves_out_nothing_and_repeats_nothing(
        bursts in prop::collection::vec((0..2_usize, 0..400_usize, any::<bool>()), 1..12),
    ) {
        let tap = Tap::default();
        let workers = [tap.ring(), tap.ring()];
        let (mut put_there, mut told, mut missed, mut cursor) = (0, Vec::new(), 0, None);
        let mut ask = |told: &mut Vec<String>| {
            let answer = tap.answer(&proto::Question { since: cursor.clone(), ..question(proto::Filter::default()) });
            cursor.clone_from(&answer.cursor);
            told.extend(answer.records.iter().map(|record| record.path.clone()));
            assert_eq!(answer.matched, answer.records.len() as u64, "none is left out");
            answer.missed
        };
        // Nothing is missed by whoever has just come.
        prop_assert_eq!(ask(&mut told), 0);
        for (worker, count, asks) in bursts {
            for _ in 0..count {
                put(&workers[worker], Said { path: &put_there.to_string(), ..OK });
                put_there += 1;
            }
            if asks {
                missed += ask(&mut told);
            }
        }
        missed += ask(&mut told);
        prop_assert_eq!(told.len() as u64 + missed, put_there);
        let mut once = told.clone();
        once.sort();
        once.dedup();
        prop_assert_eq!(once.len(), told.len());
    }
}

#[test]
fn another_processs_cursor_says_nothing() {
    let tap = Tap::default();
    put(&tap.ring(), OK);
    for (process, ended) in [(1, vec![7]), (tap.0.process, vec![0, 9]), (tap.0.process, Vec::new())]
    {
        let since = Some(proto::Cursor { process, ended });
        let answer = tap.answer(&proto::Question { since, ..question(proto::Filter::default()) });
        assert_eq!((answer.records.len(), answer.missed), (1, 0));
    }
    let since = Some(proto::Cursor { process: tap.0.process, ended: vec![u64::MAX] });
    let answer = tap.answer(&proto::Question { since, ..question(proto::Filter::default()) });
    assert_eq!((answer.records.len(), answer.missed), (0, 0), "whatever it is");
}
