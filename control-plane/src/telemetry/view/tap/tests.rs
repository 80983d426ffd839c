use super::*;

fn workload() -> Workload {
    let text = str::to_owned;
    Workload { namespace: text("shop"), kind: text("Deployment"), name: text("cart") }
}

fn edge(direction: proto::Direction) -> proto::Edge {
    proto::Edge {
        direction: direction.into(),
        peer_namespace: "shop".to_owned(),
        peer: "web".to_owned(),
        ..proto::Edge::default()
    }
}

fn record(time: u64) -> proto::Record {
    let text = str::to_owned;
    proto::Record {
        time,
        took_ns: 1_500_000,
        edge: Some(edge(proto::Direction::Outbound)),
        method: text("GET"),
        path: text("/x"),
        status: 200,
        attempts: 1,
        ..proto::Record::default()
    }
}

fn read(record: &proto::Record) -> RecordView {
    RecordView::read((&Name::new("shop", "cart-1"), &workload()), record).unwrap()
}

#[test]
fn pages_are_merged_by_time_and_bounded() {
    let (own, pods) = (workload(), ["a", "b"].map(|pod| Name::new("shop", pod)));
    let records = |times: &[u64], matched, missed| proto::Records {
        records: times.iter().map(|time| record(*time)).collect(),
        matched,
        missed,
        ..proto::Records::default()
    };
    let answers =
        [(&pods[0], &own, records(&[1, 4], 2, 3)), (&pods[1], &own, records(&[2, 3], 9, 4))];
    let (shown, missed, left_out) = merged(&answers, 3);
    let pods: Vec<_> = shown.iter().map(|record| record.pod.as_str()).collect();
    assert_eq!((pods, missed, left_out), (vec!["shop/b", "shop/b", "shop/a"], 7, 8));
}

#[test]
fn whose_record_it_is_follows_from_who_said_it() {
    let out = read(&record(1_764_270_221_220_113_999));
    assert_eq!(out.time, "2025-11-27T19:03:41.220113Z");
    let end = |name: &str| End { namespace: "shop".to_owned(), name: name.to_owned() };
    assert_eq!((&out.caller, &out.workload), (&end("cart"), &end("web")));
    let inbound = Some(edge(proto::Direction::Inbound));
    let came = read(&proto::Record { edge: inbound, ..record(1) });
    assert_eq!((&came.caller, &came.workload), (&end("web"), &end("cart")));
    let own = (&Name::new("shop", "cart-1"), &workload());
    assert_eq!(RecordView::read(own, &proto::Record::default()), None, "it says nothing");
}

#[test]
fn what_a_sidecar_sends_is_bounded_and_printable() {
    let bad = format!("\u{1b}[2J\n{}", "x".repeat(100_000));
    let header = proto::Header { name: bad.clone(), value: bad.clone(), response: true };
    let evil = proto::Record {
        path: bad.clone(),
        detail: bad.clone(),
        reason: bad.clone(),
        policy: bad.clone(),
        trace_id: bad.clone(),
        client: bad,
        headers: vec![header; 10_000],
        time: u64::MAX,
        took_ns: u64::MAX,
        status: u32::MAX,
        ..record(1)
    };
    let view = read(&evil);
    let json = serde_json::to_string(&view).unwrap();
    assert!(json.len() < 300_000, "{}", json.len());
    let HeaderView { name, value, .. } = &view.headers[0];
    for text in [&view.path, &view.detail, &view.reason, &view.why, &view.trace_id, name, value] {
        assert!(!text.is_empty() && text.chars().all(|c| !c.is_control()), "{text:?}");
    }
}

/// The sentence of a record of this kind.
fn view(change: impl Fn(&mut proto::Record)) -> String {
    let mut one = record(1);
    change(&mut one);
    read(&one).why
}

#[test]
fn one_sentence_says_why_a_sidecar_ended_it() {
    let text = str::to_owned;
    let ended = |reason: &str, detail: &str, policy: &str, field: &str| {
        view(|record| {
            record.failed = true;
            (record.reason, record.detail) = (text(reason), text(detail));
            (record.policy, record.policy_field) = (text(policy), text(field));
        })
    };
    for (why, expected) in [
        (
            ended(
                "timeout",
                "no answer within 2s",
                "TrafficPolicy/shop/pay-slow",
                "spec.timeouts.request",
            ),
            "no answer within 2s, set by TrafficPolicy shop/pay-slow spec.timeouts.request",
        ),
        (
            ended(
                "timeout",
                "no answer within 2s",
                "HTTPRoute/shop/web#1",
                "spec.rules[1].timeouts",
            ),
            "no answer within 2s, set by HTTPRoute shop/web rule 1 spec.rules[1].timeouts",
        ),
        (
            ended("denied", "plaintext to port 1", "MeshTLS/shop/strict", ""),
            "MeshTLS shop/strict forbids it: plaintext to port 1",
        ),
        (
            ended(
                "route_not_found",
                "no rule of HTTPRoute/shop/web matches",
                "HTTPRoute/shop/web",
                "",
            ),
            "no rule of HTTPRoute shop/web matches GET /x",
        ),
        (
            ended(
                "route_not_found",
                "no rule of HTTPRoute/shop/a, HTTPRoute/shop/b matches",
                "HTTPRoute/shop/a",
                "",
            ),
            "no rule of HTTPRoute/shop/a, HTTPRoute/shop/b matches",
        ),
        (ended("connect", "refused", "", ""), "refused"),
        (ended("reset", "", "", ""), "reset"),
    ] {
        assert_eq!(why, expected);
    }
}

#[test]
fn one_sentence_says_what_else_there_is() {
    let text = str::to_owned;
    assert_eq!(view(|_| ()), "");
    for (why, expected) in [
        (
            view(|record| (record.failed, record.status, record.attempts) = (true, 503, 3)),
            "shop/web itself answered 503, the last of 3 attempts",
        ),
        (
            view(|record| {
                record.attempts = 2;
                (record.policy, record.policy_field) =
                    (text("TrafficPolicy/shop/r"), text("spec.retries"));
            }),
            "the last of 2 attempts, set by TrafficPolicy shop/r spec.retries",
        ),
        (
            view(|record| {
                (record.failed, record.grpc) = (true, text("UNAVAILABLE"));
                (record.ejected, record.ejected_by) =
                    (text("shop/web-1"), text("TrafficPolicy/shop/e"));
                record.ejected_field = text("spec.ejection.consecutive5xx");
            }),
            "shop/web itself answered UNAVAILABLE; shop/web-1 is left out for a while now, set by TrafficPolicy shop/e spec.ejection.consecutive5xx",
        ),
        (
            view(|record| record.audit = text("AccessPolicy/shop/a")),
            "AccessPolicy shop/a would refuse it, were it not only audited",
        ),
    ] {
        assert_eq!(why, expected);
    }
}
