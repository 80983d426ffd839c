//! One attempt: one request on one connection to one endpoint.

use std::{fmt, sync::Arc};

use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, header, request};
use hyper::body::Incoming;
use tulle_xds::model::UpstreamProtocol;

use super::{
    Active, Cluster, EndpointState,
    eject::{self, Verdict},
    limits::Permit,
    pool::{Connection, Hop, Loan, Sender, Stream, Want},
    retire,
};
use crate::{
    context::{Context, Settings, Shared},
    error::{Error, Reason, chain},
    net::guard::{self, scan::Fault},
    request::{
        body::{Upload, grpc_status},
        head,
    },
    telemetry::trace::{self, Position},
};

/// An endpoint's answer, and what is held until its body ends.
#[derive(Debug)]
pub struct Answer {
    /// The response as it came.
    pub response: Response<Incoming>,
    /// Load, limits and connection.
    pub lease: Lease,
    /// Who answered.
    pub endpoint: Arc<EndpointState>,
}

/// What a request holds until its response has ended.
#[derive(Debug)]
pub struct Lease {
    _active: Active,
    connection: Option<Held>,
    permit: Option<Permit>,
    watched: Option<Watched>,
}

/// Who answers, where it matters how well.
struct Watched {
    shared: Arc<Shared>,
    cluster: Arc<Cluster>,
    endpoint: Arc<EndpointState>,
}

#[derive(Debug)]
enum Held {
    Http1(Loan),
    Http2(Stream),
}

/// Why an attempt failed.
#[derive(Debug)]
pub struct Failure {
    /// For log and client. Says whether the request was never sent.
    pub error: Error,
    /// The connection had been used before and was closed without an answer: most likely it was
    /// closed before the request came, so that an idempotent one is repeated (RFC 9110, 9.2.2).
    pub stale: bool,
}

/// A request as it is sent to any endpoint.
#[derive(Debug)]
pub struct Message {
    /// Its head, off the connection that it came on.
    pub head: request::Parts,
    /// The version that the client spoke.
    pub version: Version,
    /// The protocol that the client wants to change to.
    pub upgrade: Option<HeaderValue>,
    /// Its body.
    pub upload: Upload,
    /// Whether it is a copy, whose answer nobody waits for.
    pub copy: bool,
}

/// Sends the request once to `endpoint` and waits for the head of its response. `place` is where this attempt is in a
/// trace, if its head says otherwise.
///
/// # Errors
/// [`Failure`]; also if the response says that it never reached the application.
pub async fn once(
    cx: &Context,
    cluster: &Arc<Cluster>,
    endpoint: &Arc<EndpointState>,
    want: Want,
    message: &Message,
    place: Option<Position>,
) -> Result<Answer, Failure> {
    let active = endpoint.enter();
    let told = endpoint.told();
    let meshed = told.identity.is_some();
    let settings = cluster.settings();
    let hop = match hop(settings.upstream_protocol, meshed, message) {
        // HTTP/2 has lower-case names alone.
        Hop::Http2 if meshed && keeps_case(&cx.settings(), message) => Hop::Http1,
        hop => hop,
    };
    let connecting = cx.pool.connection(&cx.shared, cluster, endpoint, hop, want);
    let Connection { sender, reused } =
        Box::pin(connecting).await.map_err(|error| Failure { error, stale: false })?;
    let mut request = Request::from_parts(message.head.clone(), message.upload.attempt());
    if let Some(place) = place {
        trace::resend(request.headers_mut(), &place, &cx.settings().tracing);
    }
    if meshed && message.copy {
        head::set_copy(request.headers_mut());
    }
    if meshed && hop == Hop::Http2 {
        head::set_version(request.headers_mut(), message.version);
    }
    let (result, held) = match sender {
        Sender::Http1(mut loan) => {
            to_http1(&mut request, message.upgrade.as_ref());
            (loan.sender.send(request, message.upgrade.is_some()).await, Held::Http1(loan))
        }
        Sender::Http2(mut sender, stream) => {
            to_http2(&mut request);
            (sender.try_send_request(request).await, Held::Http2(stream))
        }
    };
    let response = result.map_err(|mut failed| {
        if held.is_retired() {
            return Failure { error: retire::error(), stale: false };
        }
        // hyper gives the request back if not a byte of it was written.
        let never_sent = failed.take_message().is_some() || never_processed(failed.error());
        let stale = reused && (never_sent || was_closed(failed.error()));
        let error = failure(&failed.into_error(), message.upload.fault(), endpoint);
        Failure { error: if never_sent { error.never_sent() } else { error }, stale }
    })?;
    if let Some(how) = response.headers().get(head::NOT_REACHED).filter(|_| meshed) {
        let reason = response.headers().get(head::REASON);
        let reason = String::from_utf8_lossy(reason.map_or(b"", |r| r.as_bytes()));
        let address = endpoint.address();
        let detail = format!("the proxy of {address} could not reach its application: {reason}");
        let error = Error::new(Reason::Connect, detail).never_sent();
        let error = if how == head::ENDING { error.ending() } else { error };
        if let Held::Http1(loan) = held {
            drop(loan);
        }
        return Err(Failure { error, stale: false });
    }
    let watched = settings.ejection.is_some().then(|| Watched {
        shared: Arc::clone(&cx.shared),
        cluster: Arc::clone(cluster),
        endpoint: Arc::clone(endpoint),
    });
    let lease = Lease { _active: active, connection: Some(held), permit: None, watched };
    Ok(Answer { response, lease, endpoint: Arc::clone(endpoint) })
}

impl Answer {
    /// What its head says about the endpoint.
    pub fn verdict(&self) -> Verdict {
        let headers = self.response.headers();
        match grpc_status(headers) {
            _ if self.response.status().is_server_error() => Verdict::ServerError,
            Some(status) => Verdict::of_grpc(status),
            None if head::is_grpc(headers) => Verdict::Answers,
            None => Verdict::Good,
        }
    }
}

impl Failure {
    /// What it says about the endpoint; `None` is nothing.
    pub fn verdict(&self) -> Option<Verdict> {
        match self.error.reason() {
            // An old connection may be closed by a server that is well.
            _ if self.stale => None,
            Reason::Connect | Reason::Tls | Reason::Reset | Reason::Timeout => {
                Some(Verdict::LocalFailure)
            }
            _ => None,
        }
    }
}

impl Lease {
    /// Says how the answer went on after its head.
    pub fn report(&self, verdict: Verdict) {
        if let Some(Watched { shared, cluster, endpoint }) = &self.watched {
            eject::report(shared, cluster, endpoint, verdict);
        }
    }

    /// Holds the request's place among the cluster's requests, too.
    #[must_use]
    pub fn with(mut self, permit: Permit) -> Self {
        self.permit = Some(permit);
        self
    }

    /// Whether its connection was ended because the cluster is retired.
    pub fn is_retired(&self) -> bool {
        self.connection.as_ref().is_some_and(Held::is_retired)
    }

    /// The response has ended: the connection can serve another request.
    pub fn complete(mut self) {
        if let Some(Held::Http1(loan)) = self.connection.take() {
            loan.give_back();
        }
    }
}

impl Held {
    fn is_retired(&self) -> bool {
        match self {
            Self::Http1(loan) => loan.sender.is_retired(),
            Self::Http2(stream) => stream.is_retired(),
        }
    }
}

/// What a failed attempt means.
fn failure(error: &hyper::Error, upload: Option<Fault>, endpoint: &EndpointState) -> Error {
    if let Some(fault) = upload {
        return Error::new(Reason::Protocol, fault.what).with_status(fault.status);
    }
    if let Some(fault) = guard::fault(error) {
        let detail = format!("the answer of {} is no proper HTTP: {fault}", endpoint.address());
        return Error::new(Reason::Protocol, detail).with_status(StatusCode::BAD_GATEWAY);
    }
    if error.is_user() {
        return Error::new(Reason::Canceled, format!("the client broke off: {}", chain(error)));
    }
    let detail = format!("{} did not answer: {}", endpoint.address(), chain(error));
    Error::new(Reason::Reset, detail)
}

/// Whether the connection ended with no answer begun.
fn was_closed(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || error.is_closed() || error.is_canceled()
}

/// HTTP/2 servers say which streams they never looked at: by `REFUSED_STREAM`, or by the last
/// stream number in GOAWAY (RFC 9113, 8.7).
fn never_processed(error: &hyper::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(h2) = error.downcast_ref::<h2::Error>() {
            let refused = h2.reason() == Some(h2::Reason::REFUSED_STREAM);
            return h2.is_remote() && (h2.is_go_away() || (h2.is_reset() && refused));
        }
        cause = error.source();
    }
    false
}

/// The HTTP version of the hop to an endpoint.
fn hop(upstream: UpstreamProtocol, meshed: bool, message: &Message) -> Hop {
    match (&message.upgrade, meshed, upstream) {
        (Some(_), _, _) => Hop::Upgrade,
        (None, true, _) | (None, false, UpstreamProtocol::Http2) => Hop::Http2,
        (None, false, UpstreamProtocol::Http1) => Hop::Http1,
        (None, false, UpstreamProtocol::Same) if message.version == Version::HTTP_2 => Hop::Http2,
        (None, false, UpstreamProtocol::Same) => Hop::Http1,
    }
}

fn keeps_case(settings: &Settings, message: &Message) -> bool {
    settings.preserve_header_case && message.version != Version::HTTP_2
}

/// HTTP/1.1 wants what a request has inside of the proxy: `Host`, and a path.
fn to_http1<B>(request: &mut Request<B>, upgrade: Option<&HeaderValue>) {
    if let Some(protocol) = upgrade {
        head::set_upgrade(request.headers_mut(), protocol);
    }
    *request.version_mut() = Version::HTTP_11;
}

/// HTTP/2 wants the authority in the URI (`:authority`) and no `Host`.
fn to_http2<B>(request: &mut Request<B>) {
    *request.version_mut() = Version::HTTP_2;
    let host = request.headers_mut().remove(header::HOST);
    let authority = host.and_then(|host| http::uri::Authority::try_from(host.as_bytes()).ok());
    let mut parts = request.uri().clone().into_parts();
    // The application sees the scheme that it would see without a mesh.
    parts.scheme = Some(http::uri::Scheme::HTTP);
    parts.authority = authority;
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&self.endpoint.id()).finish()
    }
}
