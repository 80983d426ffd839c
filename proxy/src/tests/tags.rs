//! Series by a Telemetry's tags, of traffic that was really carried.

use tulle_xds::model::{Metrics, Tag};

use super::{
    collector::Collector,
    ends::echo,
    harness::{Pair, Sidecar, Told},
    logs, opaque,
    telemetry::values,
    traces::{get, traced},
};

fn tag(name: &str, expression: &str, max_values: u32) -> Tag {
    Tag { name: name.to_owned(), expression: expression.to_owned(), max_values }
}

fn says(of: &Sidecar, tags: &[Tag]) {
    let tags = tags.to_vec();
    of.told_otherwise(|workload| {
        workload.telemetry.metrics = Metrics { tags, ..Metrics::default() };
    });
}

#[tokio::test]
async fn requests_are_told_apart_by_tags_from_the_next_one_on() {
    let mut pair = logs::pair().await;
    let name = "http_server_request_duration_seconds_count";
    let tenants = [("blue", 3), ("a\"b\\c # {", 2), ("red", 1), ("", 1)];
    let count = async |pair: &mut Pair| {
        for (tenant, times) in tenants {
            for _ in 0..times {
                logs::get(pair, "/200", &[("x-tenant", tenant)]).await;
                pair.client.record().await;
                pair.server.record().await;
            }
        }
    };
    let of = |pair: &Pair, label: &str| values(&pair.server, name, &[label]).into_iter().sum();
    count(&mut pair).await;
    assert_eq!(values(&pair.server, name, &[]), [7.0]);
    // Of what comes at once the most frequent has the places.
    says(
        &pair.server,
        &[
            tag("shop.tenant", "request.headers['x-tenant']", 2),
            tag("class", "response.code / 100", 1),
            tag("impossible", "1 / (response.code - 200)", 1),
        ],
    );
    count(&mut pair).await;
    for (label, times) in [
        (",class=\"2\",shop_tenant=\"blue\"}", 3.0),
        ("shop_tenant=\"a\\\"b\\\\c # {\"", 2.0),
        ("shop_tenant=\"other\"", 1.0),
        ("class=\"2\"}", 1.0),
        ("impossible", 0.0),
        ("code=\"200\"", 14.0),
    ] {
        let seen: f64 = of(&pair, label);
        assert_eq!(seen, times, "{label} in {}", pair.server.metrics());
    }
    let total = |name: &str, times| format!("{name}_total {times}\n");
    for line in [
        total("tulle_telemetry_dropped_values", 1),
        total("tulle_telemetry_expression_failures", 7),
        total("tulle_telemetry_dropped_series", 0),
    ] {
        assert!(pair.server.metrics().contains(&line), "{}", pair.server.metrics());
    }
    // As Prometheus' messages: a label's name and value follow each other, each with its length before it.
    let messages = pair.server.messages();
    let pair_of = b"\n\x0bshop_tenant\x12\x04blue";
    assert!(messages.windows(pair_of.len()).any(|bytes| bytes == pair_of));
    // Others are told apart, and what was counted stays, until it has rested for long.
    says(&pair.server, &[tag("method", "request.method", 1)]);
    count(&mut pair).await;
    for (label, times) in [("method=\"GET\"}", 7.0), ("shop_tenant", 6.0), ("code=\"200\"", 21.0)] {
        let seen: f64 = of(&pair, label);
        assert_eq!(seen, times, "{label} in {}", pair.server.metrics());
    }
    says(&pair.server, &[]);
    count(&mut pair).await;
    assert_eq!(values(&pair.server, name, &["url_scheme=\"http\"}"]), [14.0]);
    // The other end was not told.
    assert_eq!(
        values(&pair.client, "http_client_request_duration_seconds_count", &[]),
        [28.0],
        "{}",
        pair.client.metrics()
    );
}

#[tokio::test]
async fn attempts_and_connections_are_told_apart_too() {
    let application = opaque::greeter().await;
    let mut pair = Pair::new(&[application], Told::default()).await;
    let tags = [tag("from", "source.workload", 1), tag("carried", "string(bytes.sent)", 9)];
    says(&pair.client, &tags);
    opaque::talk(pair.outbound).await;
    pair.client.record().await;
    let name = "tulle_tcp_connections_total";
    // When it was opened it had carried nothing.
    for (labels, expected) in [
        (&["\"opened\"", "carried=\"0\"", "from=\"pod-0\""][..], &[1.0][..]),
        (&["\"closed\"", "carried=\"19\"", "from=\"pod-0\""], &[1.0]),
        (&["\"closed\""], &[1.0]),
    ] {
        assert_eq!(values(&pair.client, name, labels), expected, "{}", pair.client.metrics());
    }
    let opened = values(&pair.client, name, &["\"opened\""]);
    assert_eq!(opened.iter().sum::<f64>(), 1.0);
    let bytes = values(&pair.client, "tulle_tcp_io_bytes_total", &["\"sent\"", "carried=\"19\""]);
    assert_eq!(bytes, [19.0]);

    let mut pair = logs::pair().await;
    says(&pair.client, &tags[..1]);
    logs::get(&pair, "/200", &[]).await;
    pair.client.record().await;
    let attempts = values(&pair.client, "tulle_client_attempts_total", &["from=\"pod-0\""]);
    assert_eq!(attempts, [1.0], "{}", pair.client.metrics());
}

#[tokio::test]
async fn points_have_tags_as_attributes_by_the_names_that_were_written() {
    let collector = Collector::new().await;
    let (application, _) = echo().await;
    let mut telemetry = collector.telemetry(0);
    let header = "request.headers['x-tenant']";
    telemetry.metrics.tags = vec![tag("shop.tenant_id", header, 9), tag("absent", "reason", 9)];
    let traced = traced(&[application], Told::default(), ["a", "b"], &telemetry).await;
    for tenant in ["blue", "blue", "red"] {
        assert_eq!(get(traced.pair.outbound, &[("x-tenant", tenant)]).await, 200);
    }
    for metric in ["http.client.request.duration", "http.server.request.duration"] {
        for (tenant, times) in [("blue", 2), ("red", 1)] {
            collector.has_point(metric, ("shop.tenant_id", tenant), times).await;
        }
        for point in collector.points(metric) {
            assert!(!point.attributes.contains_key("absent"), "{:?}", point.attributes);
        }
    }
}
