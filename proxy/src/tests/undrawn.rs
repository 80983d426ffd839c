//! Traces that nobody records: what of them travels.

use http::{HeaderMap, request::Parts};

use super::{
    collector::Collector,
    ends::echo,
    harness::Told,
    traces::{ALL, CALLER, calls, get, of, traced},
};

#[tokio::test]
async fn what_was_not_drawn_is_in_a_trace_that_nobody_records() {
    let collector = Collector::new().await;
    let (application, saw) = echo().await;
    let mut traced =
        traced(&[application], Told::default(), ["a", "b"], &collector.telemetry(1)).await;
    assert_eq!(
        get(traced.pair.outbound, &[("traceparent", &CALLER.replace("-01", "-00"))]).await,
        200
    );
    assert_eq!(get(traced.pair.outbound, &[("traceparent", CALLER)]).await, 200);
    let spans = collector.spans(2).await;
    assert_eq!(of(&spans, "b").parent, of(&spans, "a").id, "of the caller's that is recorded");
    let line = traced.pair.client.record().await;
    assert!(
        line.get("trace_sampled").is_none()
            && line["trace_id"] == "12345678901234567890123456789012"
    );
    let parents =
        saw.lock().iter().map(|head: &Parts| head.headers.clone()).collect::<Vec<HeaderMap>>();
    assert!(parents[0]["traceparent"].to_str().unwrap().ends_with("-00"));
}

#[tokio::test]
async fn what_begins_and_is_not_drawn_is_in_one_trace_over_all_hops() {
    let collector = Collector::new().await;
    let (last, saw) = echo().await;
    // These would draw all, were it not decided.
    let second =
        traced(&[last], Told::default(), ["b-out", "c-in"], &collector.telemetry(ALL)).await;
    let middle = calls(second.pair.outbound, &["traceparent"]).await;
    let few = collector.telemetry(1);
    let mut first = traced(&[middle], Told::default(), ["a-out", "b-in"], &few).await;
    for _ in 0..2 {
        assert_eq!(get(first.pair.outbound, &[]).await, 200);
    }
    assert_eq!(get(first.pair.outbound, &[("traceparent", CALLER)]).await, 200);
    let spans = collector.spans(4).await;
    assert!(spans.iter().all(|span| CALLER.contains(&*span.trace)), "{spans:#?}");
    let text = |head: &Parts| head.headers["traceparent"].to_str().unwrap().to_owned();
    let parents: Vec<String> = saw.lock().iter().map(text).collect();
    assert!(parents[0].ends_with("-02") && parents[1].ends_with("-02"), "{parents:?}");
    let ids: Vec<_> = parents.iter().map(|parent| parent.get(3..35).unwrap()).collect();
    assert_ne!(ids[0], ids[1], "a trace for each");
    assert!(parents.iter().all(|parent| !parent.contains(&"0".repeat(16))), "{parents:?}");
    let (caller, called) = (first.pair.client.record().await, first.pair.server.record().await);
    assert_eq!((caller.get("trace_id"), &called["trace_id"]), (None, &ids[0].into()));
}
