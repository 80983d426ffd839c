//! What telemetry costs of a request: instructions, which `tests/bench/telemetry` counts by callgrind.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tulle_xds::model::{Protocol, Tag, Telemetry};

use super::{
    collector::{Collector, Does, exports_at},
    ends::echo,
    harness::{Pair, Told},
};
use crate::{context::Settings, telemetry::Pace};

/// What is told while it is measured, and of how many requests.
#[expect(clippy::disallowed_methods, reason = "what tests/bench/telemetry wants measured")]
fn wanted() -> (String, usize) {
    let of = |name: &str| std::env::var(name).expect("tests/bench/telemetry sets it");
    (of("TULLE_COST"), of("TULLE_COST_REQUESTS").parse().expect("a number of requests"))
}

/// GETs of a few bytes, one after the other on one connection, through two sidecars that share this thread. Whoever asks
/// costs next to nothing.
async fn ask(to: SocketAddr, what: &str, times: usize) {
    let mut server = TcpStream::connect(to).await.unwrap();
    let mut answer = Vec::with_capacity(1024);
    for n in 0..times {
        let field = match what {
            "header" | "tag" => "x-tenant: blue\r\n".to_owned(),
            "new" => format!("x-tenant: {}\r\n", 1000 + n),
            "direct-traced" => TRACED.to_owned(),
            _ => String::new(),
        };
        let request = format!("GET /path HTTP/1.1\r\nhost: cart\r\n{field}\r\n");
        server.write_all(request.as_bytes()).await.unwrap();
        answer.clear();
        while !answer.ends_with(b"\r\n\r\n") {
            assert!(server.read_buf(&mut answer).await.unwrap() > 0, "closed");
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", answer.escape_ascii());
    }
}

/// As it comes to an application where there are traces.
const TRACED: &str = "traceparent: 00-12345678901234567890123456789012-1234567890123456-00\r\n";

#[tokio::test]
#[ignore = "counts instructions: tests/bench/telemetry"]
async fn so_many_requests() {
    let (what, times) = wanted();
    let (application, _saw) = echo().await;
    if what.starts_with("direct") {
        return ask(application, &what, times).await;
    }
    // Another process would get it: to decode it is not the sidecars' cost, and so it is refused.
    let collector = Collector::new().await;
    *collector.does.lock() = Does::Says(400);
    let sampled = match &*what {
        "off" | "metrics" | "header" | "tag" | "new" => 0,
        "1%" => 10_000,
        "100%" => 1_000_000,
        other => panic!("{other}"),
    };
    let mut telemetry =
        if sampled > 0 { collector.telemetry(sampled) } else { Telemetry::default() };
    telemetry.metrics.off = what == "off";
    if matches!(&*what, "tag" | "new") {
        let (name, expression) = ("tenant".to_owned(), "request.headers['x-tenant']".to_owned());
        telemetry.metrics.tags = vec![Tag { name, expression, max_values: 10 }];
    }
    let tune = |settings: &mut Settings| settings.access_log_sample = 1000;
    let told = Told { protocol: Protocol::Http, tune, ..Told::default() };
    let mut pair = Pair::new(&[application], told).await;
    // Under callgrind a second is fifty times as long as for requests: what is sent is sent when there is much, and at the end.
    let hour = Duration::from_secs(3600);
    let pace = Pace { gather: hour, series: hour, last: hour };
    let mut exporting = Vec::new();
    for sidecar in [&mut pair.client, &mut pair.server] {
        sidecar.told_otherwise(|workload| *workload.telemetry = telemetry.clone());
        sidecar.forget_records();
        exporting.push(exports_at(sidecar, pace));
    }
    ask(pair.outbound, &what, times).await;
    for (end, export) in exporting {
        drop(end);
        export.await.unwrap();
    }
}
