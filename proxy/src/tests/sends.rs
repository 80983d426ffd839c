//! What leaves a sidecar for OTLP's destinations, and what does not: they come and go, are away, refuse.

use std::time::Duration;

use tokio::time::sleep;
use tulle_xds::model::{Tag, Telemetry};

use super::{
    collector::{Collector, Does, exports, texts},
    ends::echo,
    harness::{Pair, Sidecar, Told},
    telemetry::values,
    traces::{ALL, CALLER, get, of, tells, traced},
};

#[tokio::test]
async fn histograms_have_recorded_traces_as_exemplars_and_no_others() {
    let collector = Collector::new().await;
    let (application, _) = echo().await;
    let traced = traced(&[application], Told::default(), ["a", "b"], &collector.telemetry(1)).await;
    let metric = "http_client_request_duration_seconds_bucket";
    let unsampled = CALLER.replace("-01", "-00");
    assert_eq!(get(traced.pair.outbound, &[("traceparent", &unsampled)]).await, 200);
    assert!(!traced.pair.client.metrics().contains(" # {"));
    assert_eq!(get(traced.pair.outbound, &[("traceparent", CALLER)]).await, 200);
    let spans = collector.spans(2).await;
    let client = of(&spans, "a");
    let text = traced.pair.client.metrics();
    let mut lines = text.lines().filter(|line| line.contains(" # {"));
    let (line, none) = (lines.next().unwrap(), lines.next());
    let (sample, exemplar) = line.split_once(" # ").unwrap();
    assert!(sample.starts_with(metric) && none.is_none(), "{text}");
    let names = format!("{{trace_id=\"{}\",span_id=\"{}\"}} ", client.trace, client.id);
    let numbers: Vec<f64> =
        exemplar.strip_prefix(&names).unwrap().split(' ').map(|n| n.parse().unwrap()).collect();
    let end = client.span.end_time_unix_nano as f64 / 1e9;
    assert!(numbers[0] < 5.0 && (numbers[1] - end).abs() < 1.0, "{exemplar} at {end}");
    for _ in 0..2000 {
        let points = collector.points("http.client.request.duration");
        if let Some(exemplar) = points.iter().flat_map(|point| &point.exemplars).next() {
            assert_eq!(exemplar.span_id, client.span.span_id);
            assert_eq!(points.iter().map(|point| point.count).sum::<u64>(), 2);
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("no exemplar was sent");
}

#[tokio::test]
async fn what_a_telemetry_wants_said_is_in_spans_and_lines() {
    let collector = Collector::new().await;
    let (application, _) = echo().await;
    let tag = |name: &str, expression: &str| Tag {
        name: name.to_owned(),
        expression: expression.to_owned(),
        max_values: 0,
    };
    let mut telemetry = collector.telemetry(ALL);
    telemetry.traces.tags =
        vec![tag("tenant", "request.headers['x-tenant']"), tag("good", "response.code < 500")];
    telemetry.logs.fields = vec![tag("tries", "attempts"), tag("absent", "reason")];
    let traced = traced(&[application], Told::default(), ["a", "b"], &telemetry).await;
    assert_eq!(get(traced.pair.outbound, &[("x-tenant", "blue")]).await, 200);
    for span in collector.spans(2).await {
        let said = ["tenant", "good", "tries"].map(|name| span.attributes.get(name).cloned());
        assert_eq!(said, [Some("blue".to_owned()), Some("true".to_owned()), None], "{span:?}");
    }
    let line = &collector.lines(2).await[0];
    let said = texts(&line.attributes);
    let said = ["tries", "absent", "tenant"].map(|name| said.get(name).cloned());
    assert_eq!(said, [Some("1".to_owned()), None, None], "{line:?}");
}

#[tokio::test]
async fn destinations_come_and_go_while_it_runs() {
    let (one, other) = (Collector::new().await, Collector::new().await);
    let (application, _) = echo().await;
    let traced = traced(&[application], Told::default(), ["a", "b"], &Telemetry::default()).await;
    let client = &traced.pair.client;
    assert_eq!(get(traced.pair.outbound, &[]).await, 200);
    tells(client, "a", &one.telemetry(ALL));
    // Told once it is looked at.
    assert!(client.shared.settings().tracing.spans);
    assert_eq!(get(traced.pair.outbound, &[]).await, 200);
    one.spans(1).await;
    let mut both = other.telemetry(ALL);
    both.traces.destinations.insert(0, one.otlp());
    tells(client, "a", &both);
    assert_eq!(get(traced.pair.outbound, &[]).await, 200);
    one.spans(2).await;
    other.spans(1).await;
    tells(client, "a", &other.telemetry(ALL));
    assert_eq!(get(traced.pair.outbound, &[]).await, 200);
    other.spans(2).await;
    one.spans(2).await;
    // Of one that was a destination of logs all along.
    other.lines(2).await;
}

#[tokio::test]
async fn a_destination_that_is_away_costs_nothing_and_gets_what_waited() {
    let collector = Collector::new().await;
    let (application, _) = echo().await;
    let mut telemetry = collector.telemetry(ALL);
    telemetry.metrics.destinations.clear();
    telemetry.logs.destinations.clear();
    let traced = traced(&[application], Told::default(), ["a", "b"], &telemetry).await;
    *collector.does.lock() = Does::Says(503);
    let begun = tokio::time::Instant::now();
    for _ in 0..50 {
        assert_eq!(get(traced.pair.outbound, &[]).await, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    while collector.requests() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    *collector.does.lock() = Does::Takes;
    collector.spans(100).await;
    let client = &traced.pair.client;
    // They are counted once the collector's answer has come.
    counted(client, "tulle_telemetry_sent_total", 50.0).await;
    assert_eq!(values(client, "tulle_telemetry_dropped_total", &["spans"]), [0.0]);
    // What is refused is not sent again, and of what is taken in part the rest is counted.
    for (does, sent, refused) in [(Does::Says(400), 50.0, 1.0), (Does::TakesAllBut(1), 50.0, 2.0)] {
        *collector.does.lock() = does;
        assert_eq!(get(traced.pair.outbound, &[]).await, 200);
        counted(client, "tulle_telemetry_refused_total", refused).await;
        assert_eq!(values(client, "tulle_telemetry_sent_total", &["spans"]), [sent]);
    }
}

/// Waits until so many spans are counted so.
async fn counted(client: &Sidecar, metric: &str, count: f64) {
    let mut tries = 0;
    while values(client, metric, &["spans"]) != [count] {
        tries += 1;
        assert!(tries < 2000, "{}", client.metrics());
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_last_is_sent_before_the_end_and_the_end_does_not_wait_for_long() {
    for (does, least, most) in [(Does::Takes, 0, 1500), (Does::Hangs, 1900, 4000)] {
        let collector = Collector::new().await;
        *collector.does.lock() = does;
        let (application, _) = echo().await;
        let pair = Pair::new(&[application], Told::default()).await;
        tells(&pair.client, "a", &collector.telemetry(ALL));
        let (end, export) = exports(&pair.client);
        assert_eq!(get(pair.outbound, &[]).await, 200);
        let begun = tokio::time::Instant::now();
        drop(end);
        export.await.unwrap();
        let took = begun.elapsed();
        assert!((least..most).contains(&took.as_millis()), "{does:?}: {took:?}");
        if does == Does::Takes {
            collector.spans(1).await;
        }
    }
}
