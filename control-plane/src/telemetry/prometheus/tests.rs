use std::{fs, time::Duration};

use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};
use tulle_runtime::{
    drain,
    http::{Handler, Terms, text},
    room::Room,
};

use super::*;
use crate::{
    ca::{issue::Authority, roots::Roots, server_certificate::ServerCertificate},
    server::{https::Https, webhook},
    telemetry::{Direction, Of, Outcome, Security, Totals},
};

#[test]
fn urls() {
    for (url, authority, path) in [
        ("http://prometheus:9090", "prometheus:9090", ""),
        ("http://prometheus.monitoring.svc/prom/", "prometheus.monitoring.svc:80", "/prom"),
        ("http://[fd00::1]:9090/", "[fd00::1]:9090", ""),
        ("https://prometheus.example.org/prom", "prometheus.example.org:443", "/prom"),
        ("https://[fd00::1]:9090/", "[fd00::1]:9090", ""),
    ] {
        let Prometheus { server, .. } = url.parse().unwrap();
        assert_eq!((server.authority.as_str(), server.path.as_str()), (authority, path));
    }
    for url in ["ftp://p:9090", "p:9090", "http://u:p@p:9090", "http://p/?q=1", "", "http://"] {
        assert!(url.parse::<Prometheus>().is_err(), "{url}");
    }
}

fn ask(points: u32) -> Ask {
    Ask { of: Of::All, window: Duration::from_secs(7200), points, routes: true, durations: true }
}

/// An edge's labels, and more.
fn labels(more: &Value) -> Value {
    let mut labels = json!({
        "namespace": "shop", "workload": "web", "tulle_reporter": "source",
        "tulle_peer_namespace": "shop", "tulle_peer_workload": "cart", "tulle_security": "mtls",
        "server_address": "cart.shop.svc.cluster.local", "server_port": "80",
        "tulle_route": "HTTPRoute/shop/cart#0",
    });
    for (name, value) in more.as_object().unwrap() {
        labels[name] = value.clone();
    }
    labels
}

fn answer(series: &[Value]) -> Vec<u8> {
    json!({"status": "success", "data": {"resultType": "x", "result": series}}).to_string().into()
}

fn at(time: u64, labels: &Value, value: &str) -> Value {
    json!({"metric": labels, "value": [time, value]})
}

fn workload(namespace: &str, name: &str) -> Workload {
    let of = |text: &str| text.to_owned();
    Workload { namespace: of(namespace), kind: of("Deployment"), name: of(name) }
}

#[test]
fn an_answer_is_a_row_as_the_store_has_it() {
    const NOW: u64 = 1_000_000;
    let mut rows = read::Rows::new(&ask(1), NOW);
    let mut add = |counts, series: &[(Value, &str)]| {
        let series: Vec<_> =
            series.iter().map(|(more, value)| at(NOW, &labels(more), value)).collect();
        rows.add(counts, &answer(&series)).unwrap();
    };
    add(
        Counted::Requests,
        &[
            (json!({"http_response_status_code": "200"}), "97.6"),
            (json!({"http_response_status_code": "503", "error_type": "503"}), "2"),
            (json!({"http_response_status_code": "504", "error_type": "timeout"}), "1"),
            (json!({"rpc_status_code": "UNAVAILABLE", "error_type": "UNAVAILABLE"}), "3"),
            (json!({"http_response_status_code": "404"}), "0"),
        ],
    );
    add(
        Counted::Buckets,
        &[
            (json!({"le": "0.01"}), "50"),
            (json!({"le": "0.1"}), "100"),
            (json!({"le": "+Inf"}), "100"),
        ],
    );
    add(Counted::Tries, &[(json!({"outcome": "ok"}), "98"), (json!({"outcome": "retried"}), "5")]);
    add(
        Counted::Connections,
        &[
            (json!({"tulle_connection_state": "opened"}), "4"),
            (json!({"tulle_connection_state": "closed"}), "2"),
            (json!({"tulle_connection_state": "closed", "error_type": "reset"}), "1"),
        ],
    );
    add(Counted::Bytes, &[(json!({"tulle_io_direction": "sent"}), "700")]);
    let denied = json!({"tulle_policy": "AccessPolicy/shop/p", "tulle_mode": "audit"});
    add(Counted::Denials, &[(denied, "2")]);
    let rows = rows.done(0, workload);
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((row.covers, row.route.as_str()), (7200, "HTTPRoute/shop/cart#0"));
    assert_eq!(row.edge.workload, workload("shop", "web"));
    assert_eq!((row.edge.direction, row.edge.security), (Direction::Outbound, Security::Mtls));
    assert_eq!(row.edge.server, ("cart.shop.svc.cluster.local".to_owned(), 80));
    let totals = &row.points[0];
    assert_eq!((totals.requested(), totals.bad(), totals.tried()), (104, 6, 103));
    let grpc = Outcome { grpc: Some(14), ..Outcome::default() };
    assert!(totals.requests.iter().any(|(outcome, times)| *outcome == grpc && *times == 3));
    let flow = &totals.flow;
    assert_eq!((flow.opened, flow.closed, flow.failed, flow.sent), (4, 3, 1, 700));
    assert!(totals.denials[0].0.audit);
    let took = |part| totals.took.histogram.quantile(part).unwrap();
    assert!(
        took(0.25) < 0.01 && (0.01..0.1).contains(&took(0.99)),
        "{} {}",
        took(0.25),
        took(0.99)
    );
}

#[test]
fn a_range_is_points_and_gaps_are_empty() {
    let values = |all: &[(u64, &str)]| json!({"metric": labels(&json!({"http_response_status_code": "200"})), "values": all});
    let mut rows = read::Rows::new(&ask(4), 7200);
    rows.add(Counted::Requests, &answer(&[values(&[(1800, "1"), (5400, "3"), (7200, "4")])]))
        .unwrap();
    let native = json!({"count": "5", "sum": "1", "buckets": [[0, "0.5", "1", "5"]]});
    let histograms = json!({"metric": labels(&json!({})), "histograms": [[7200, native]]});
    rows.add(Counted::Natives, &answer(&[histograms])).unwrap();
    let rows = rows.done(0, workload);
    assert_eq!(rows[0].covers, 7200);
    let requested: Vec<_> = rows[0].points.iter().map(Totals::requested).collect();
    assert_eq!(requested, [1, 0, 3, 4]);
    let median = rows[0].points[3].took.histogram.quantile(0.5).unwrap();
    assert!((0.5..1.0).contains(&median), "{median}");
    assert_eq!(rows[0].points[2].took.histogram.count(), 0);
}

#[test]
fn what_is_no_answer_is_an_error_and_no_number() {
    let mut rows = read::Rows::new(&ask(1), 7200);
    assert_eq!(read::first(br#"{"data": {"result": []}}"#), Ok(None));
    let begun = json!({"metric": {}, "values": [[5000, "2"], [6000, "2"]]});
    assert_eq!(read::first(&answer(&[begun])), Ok(Some(5000)));
    for body in [&b"<html>"[..], b"{}", b"", br#"{"data": {"result": [{"metric": 7}]}}"#] {
        assert!(rows.add(Counted::Requests, body).is_err());
    }
    // Series of nobody's, and values that are none.
    let strange = json!({"metric": {"a": "b"}, "value": [7200, "7"]});
    let no_number = at(7200, &labels(&json!({})), "NaN");
    let far = at(99_999_999, &labels(&json!({})), "7");
    rows.add(Counted::Requests, &answer(&[strange, no_number, far])).unwrap();
    assert_eq!(rows.done(0, workload), []);
    assert_eq!(read::error(br#"{"status": "error", "error": "bad \u001bquery"}"#), "bad query");
    assert_eq!(read::error(b"gone"), "gone");
}

/// A Prometheus that knows nothing, behind TLS, and asks for credentials; its port, and the folder with its root.
async fn behind_tls(authorization: &'static str) -> (u16, tempfile::TempDir, impl Sized) {
    let folder = tempfile::tempdir().unwrap();
    let roots = Roots::load_or_make(folder.path(), "cluster.local").unwrap();
    let issuer = Authority::new(roots, Duration::from_secs(3600));
    let certificate = ServerCertificate::new(issuer, vec!["localhost".to_owned()]).unwrap();
    let port = Https {
        name: "prometheus",
        handler: Guarded(authorization),
        tls: watch::channel(webhook::tls(certificate).unwrap()).1,
        terms: Terms { body: 1 << 20, ..Terms::default() },
        room: Room::new(64, 64),
        metrics: Arc::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let number = listener.local_addr().unwrap().port();
    let (trigger, drain) = drain::channel();
    tokio::spawn(port.serve(listener, drain));
    (number, folder, trigger)
}

/// Answers to who says this.
struct Guarded(&'static str);

impl Handler for Guarded {
    async fn handle(&self, request: Request<Bytes>) -> Response<Bytes> {
        match request.headers().get(header::AUTHORIZATION).is_some_and(|said| said == self.0) {
            true => text(StatusCode::OK, answer(&[])),
            false => text(StatusCode::UNAUTHORIZED, "Unauthorized\n"),
        }
    }
}

#[tokio::test]
async fn it_is_known_by_an_authority_and_told_who_asks() {
    // `echo -n 'ann:s3:cret' | base64`
    for (files, authorization) in [
        (&[("credentials_file", "t0ken\n")][..], "Bearer t0ken"),
        (&[("username_file", "ann"), ("password_file", "s3:cret\n")], "Basic YW5uOnMzOmNyZXQ="),
    ] {
        let (port, root, _open) = behind_tls(authorization).await;
        let files_of = tempfile::tempdir().unwrap();
        let prometheus: Prometheus = format!("https://localhost:{port}").parse().unwrap();
        let prometheus = prometheus.with_credentials(Some(files_of.path().to_owned()));
        let ask = async || {
            let asked = prometheus.ask(&ask(1), 1_000_000, |_, _| String::new()).await;
            asked.map(|(rows, _)| rows.len())
        };
        let save = |name: &str, text: &[u8]| fs::write(files_of.path().join(name), text).unwrap();
        let refused = async |why: &str| {
            let said = ask().await.unwrap_err();
            assert!(said.contains(why), "{said}");
        };
        // Nobody on this system has signed it.
        refused("TLS: ").await;
        save("ca_file", b"junk");
        refused("ca_file holds no certificate").await;
        save("ca_file", &fs::read(root.path().join("root.pem")).unwrap());
        refused("401 Unauthorized: Unauthorized").await;
        files.iter().for_each(|(name, text)| save(name, text.as_bytes()));
        assert_eq!(ask().await, Ok(0), "they are read at each question");
        save("credentials_file", b"a\nb");
        refused(if files.len() == 1 { "that is no token" } else { "keep one of them" }).await;
    }
}
