//! What a proxy tells about itself, and takes from its operator.
//!
//! The status server on the pod's addresses is read-only and reveals nothing about the mesh:
//! `/ready` and `/started` for the kubelet, `/metrics` for Prometheus, and the application's probes at paths that
//! only the kubelet knows. Whatever changes or reveals is on a Unix
//! socket that only this container can open.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde_json::json;
use tokio::time::timeout;
use tulle_runtime::{
    http::{Handler, TIME, answer, text},
    log, metrics,
    ready::Readiness,
};

use crate::{
    mesh,
    probe::{Application, Probe, Probes},
    run::Draining,
    tls,
};

/// What the servers answer from. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admin {
    /// What `/ready` says.
    pub readiness: Readiness,
    /// What `/metrics` says.
    pub metrics: metrics::Registry,
    /// What `/debug/config` shows.
    pub store: mesh::Store,
    /// What `/debug/certs` shows, without keys.
    pub certs: tls::Certs,
    /// What `/drain` starts.
    pub draining: Draining,
    /// What `/log` changes.
    pub filter: log::Filter,
}

/// What answers on one of the pod's addresses.
#[derive(Debug)]
pub struct Status {
    /// What `/ready` and `/metrics` say.
    pub admin: Admin,
    /// What the kubelet's probes are about.
    pub probes: Probes,
    /// The application at this address.
    pub application: Application,
}

impl Status {
    fn probe(&self, request: &Request<Bytes>) -> Option<&Probe> {
        let get = request.method() == Method::GET;
        get.then(|| self.probes.find(request.uri().path()))?
    }
}

impl Handler for Status {
    async fn handle(&self, request: Request<Bytes>) -> Response<Bytes> {
        match self.probe(&request) {
            Some(probe) => match probe.hold() {
                Some(most) => self.admin.hold(most).await,
                None => probe.answer(&self.application, &request).await,
            },
            None => self.admin.status(&request),
        }
    }

    /// A probe knows its own.
    fn limit(&self, request: &Request<Bytes>) -> Duration {
        self.probe(request).map_or(TIME, |_probe| Duration::MAX)
    }
}

impl Admin {
    /// Answers on the pod's addresses, but for probes.
    pub fn status(&self, request: &Request<Bytes>) -> Response<Bytes> {
        match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/ready") => ready(&self.readiness.pending()),
            (&Method::GET | &Method::HEAD, "/started") => ready(&self.readiness.starting()),
            (&Method::GET, "/metrics") => self.metrics.scrape(request),
            _ => text(StatusCode::NOT_FOUND, "there is GET /ready, /started and /metrics\n"),
        }
    }

    /// Answers on the Unix socket.
    pub fn control(&self, request: &Request<Bytes>) -> Response<Bytes> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/debug/config") => json_answer(&mesh::dump(&self.store.current())),
            (&Method::GET, "/debug/certs") => json_answer(&json!(self.certs.info())),
            (&Method::GET, "/drain") => json_answer(&json!(self.draining.state().as_str())),
            (&Method::POST, "/drain") => {
                self.draining.start();
                json_answer(&json!(self.draining.state().as_str()))
            }
            (&Method::PUT, "/log") => set_filter(&self.filter, request.body()),
            (&Method::GET, "/ready" | "/started" | "/metrics") => self.status(request),
            _ => text(
                StatusCode::NOT_FOUND,
                "there is GET /ready, /started, /metrics, /debug/config, /debug/certs and /drain, \
                 POST /drain, and PUT /log with a filter such as `debug`\n",
            ),
        }
    }

    /// Answers when inbound traffic has drained, at the latest after `most`.
    async fn hold(&self, most: Duration) -> Response<Bytes> {
        let drained = timeout(most, self.draining.held()).await.is_ok();
        text(StatusCode::OK, if drained { "drained\n" } else { "not drained in time\n" })
    }
}

/// What `/ready` says, and `/started`: that of what only a start waits for.
pub(crate) fn ready(pending: &[String]) -> Response<Bytes> {
    if pending.is_empty() {
        return text(StatusCode::OK, "ready\n");
    }
    let pending = pending.join("; ");
    text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready, pending: {pending}\n"))
}

/// What `PUT /log` does.
pub(crate) fn set_filter(current: &log::Filter, filter: &[u8]) -> Response<Bytes> {
    let filter = String::from_utf8_lossy(filter);
    match current.set(filter.trim()) {
        Ok(()) => text(StatusCode::OK, "done\n"),
        Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

pub(crate) fn json_answer(value: &serde_json::Value) -> Response<Bytes> {
    answer(StatusCode::OK, "application/json", format!("{value:#}\n"))
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };
    use tulle_runtime::{
        drain,
        http::{Names, serve_tcp},
    };

    use super::*;
    use crate::run::HOLD;

    async fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn probes_are_at_their_paths_alone() {
        let application = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = application.local_addr().unwrap();
        let port = open.port();
        let json = format!(
            r#"[{{"path":"/probe/s3cret/app/liveness","action":{{"tcpSocket":{{"port":{port}}}}}}}]"#
        );
        let (store, _publisher, _questions) = mesh::Store::new();
        let readiness = Readiness::new();
        let status = Status {
            admin: Admin {
                readiness: readiness.clone(),
                metrics: metrics::Registry::default(),
                store,
                certs: tls::Certs::new(),
                draining: Draining::new(readiness, HOLD),
                filter: log::init("off").unwrap(),
            },
            probes: json.parse().unwrap(),
            application: Application { address: open.ip(), source: None },
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_trigger, drain) = drain::channel();
        tokio::spawn(serve_tcp(listener, status, Names::default(), drain));

        let answer = ask(address, "GET /probe/s3cret/app/liveness").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let unknown = ask(address, "GET /nothing").await;
        assert!(unknown.starts_with("HTTP/1.1 404 "), "{unknown}");
        let rest = |answer: &str| answer.split_once("\r\ndate: ").map(|(head, _)| head.to_owned());
        for wrong in [
            "GET /probe/s3cret/app/readiness",
            "GET /probe/other/app/liveness",
            "GET /probe/s3cret/app/liveness/",
            "GET /probe/",
            "POST /probe/s3cret/app/liveness",
        ] {
            let answer = ask(address, wrong).await;
            assert_eq!(rest(&answer), rest(&unknown), "{wrong}");
            assert!(answer.ends_with("there is GET /ready, /started and /metrics\n"), "{answer}");
        }
        drop(application);
        let answer = ask(address, "GET /probe/s3cret/app/liveness").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("\r\n\r\ncannot connect to 127.0.0.1:"), "{answer}");
    }
}
