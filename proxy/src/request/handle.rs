//! The life of a request, top to bottom.

use std::{pin::pin, sync::Arc};

use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::{
    body::Incoming,
    upgrade::{self, OnUpgrade},
};
use tulle_expression::Side;

use super::{
    Connection,
    body::{ResponseBody, Upload, grpc_status},
    clock::Clock,
    filter, head, lane, mirror, respond, retry,
    target::{self, Target},
    upgrade as upgraded,
};
use crate::{
    context::Settings,
    error::{Error, Reason},
    telemetry::{Record, trace},
    upstream::{
        Cluster,
        limits::Bound,
        send::{Answer, Lease, Message},
    },
};

/// Answers one request that came on `connection`. Its record closes with the response's body.
pub async fn handle(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let mut record = connection.record();
    let manner = respond::Manner::of(&request);
    let trailers = manner.grpc && manner.version == Version::HTTP_2;
    match Box::pin(forward(&connection, request, &mut record)).await {
        Ok(Reply::Answer(given)) => give(connection, *given, trailers, record),
        Ok(Reply::Redirect(status, location)) => respond::redirect(status, location, record),
        Err(error) => respond::error(&connection, &error, manner, record),
    }
}

/// What a client gets.
enum Reply {
    Answer(Box<Given>),
    Redirect(StatusCode, Option<HeaderValue>),
}

/// An endpoint's answer, ready for the client.
struct Given {
    response: Response<Incoming>,
    lease: Lease,
    clock: Clock,
    /// As they were when the request came.
    settings: Arc<Settings>,
    upgrade: Option<Upgrade>,
}

/// What follows after a 101.
struct Upgrade {
    /// The client's connection.
    client: OnUpgrade,
    /// What it changes to.
    protocol: HeaderValue,
    /// Who is at the other end.
    cluster: Arc<Cluster>,
}

async fn forward(
    connection: &Arc<Connection>,
    mut request: Request<Incoming>,
    record: &mut Record,
) -> Result<Reply, Error> {
    let client = upgrade::on(&mut request);
    let (mut head, body) = request.into_parts();
    let settings = connection.cx.settings();
    if !settings.preserve_header_case {
        head.extensions.clear();
    }
    record.request(&head);
    record.keep(&settings.wanted, Side::Request, &head.headers);
    // Where it is in a trace is known even if it goes no further, and what is added counts for nothing.
    let within = head::within(&head, &settings.http1_bounds());
    let traced = settings.lanes.is_some() && trace::of(&head.headers).is_some();
    record.enter(&mut head.headers, &settings.tracing, connection.way());
    within?;
    if let Some(lanes) = &settings.lanes {
        let cx = &connection.cx;
        record.stays_in(lane::enter(
            lanes,
            &cx.flights,
            (connection.direction(), traced),
            &mut head,
            &cx.metrics,
        ));
    }
    let came_by_http2 = head.version == Version::HTTP_2;
    let received = head::receive(&mut head, connection.from_sidecar(), connection.destination)?;
    record.version(received.version);
    if received.copy {
        record.is_copy();
    }

    let target = match target::find(connection, &mut head, record).await? {
        Target::Forward(target) => target,
        Target::Redirect(status, location) => return Ok(Reply::Redirect(status, location)),
    };
    if let Some((path, filters)) = target.rule_filters() {
        filter::request(filters, path, &mut head);
    }
    let mirrored =
        (!target.mirrors().is_empty() && received.upgrade.is_none()).then(|| head.clone());
    if let Some((path, filters)) = target.backend_filters() {
        filter::request(filters, path, &mut head);
    }

    record.towards(&target.cluster);
    let place = target.cluster.limits().take(Bound::Requests).map_err(|full| {
        connection.cx.metrics.rejected(full.what.as_str());
        Error::new(Reason::Overflow, full.to_string()).never_sent().set_by(&["limits.requests"])
    })?;
    let mut clock = Clock::new(&target, record);
    let upload = Upload::new(body, record.received(), settings.max_body_bytes)?;
    let (version, upgrade) = (received.version, received.upgrade);
    if let Some(head) = mirrored {
        mirror::start(connection, &target, &head, &upload, record);
    }
    let message = Message { head, version, upgrade: upgrade.clone(), upload, copy: received.copy };
    let answering = pin!(retry::run(&connection.cx, &target, clock.deadline(), &message, record));
    let answer = clock.answer(&message.upload, answering).await?;
    let Answer { mut response, lease, endpoint } = answer;

    let from_sidecar = endpoint.told().identity.is_some();
    head::receive_response(&mut response, from_sidecar);
    if came_by_http2 && connection.from_sidecar() {
        head::set_phrase(&mut response);
    }
    for (_, filters) in target.rule_filters().into_iter().chain(target.backend_filters()) {
        filter::response(filters, response.headers_mut());
    }
    let cluster = || Arc::clone(&target.cluster);
    let upgrade = upgrade.map(|protocol| Upgrade { client, protocol, cluster: cluster() });
    let lease = lease.with(place);
    Ok(Reply::Answer(Box::new(Given { response, lease, clock, settings, upgrade })))
}

/// Passes the answer on; record and lease end with its body, or with the connection after a 101.
fn give(
    connection: Arc<Connection>,
    given: Given,
    trailers: bool,
    mut record: Record,
) -> Response<ResponseBody> {
    let Given { mut response, lease, clock, settings, upgrade } = given;
    record.status(response.status());
    record.keep(&settings.wanted, Side::Response, response.headers());
    if let Some(status) = grpc_status(response.headers()) {
        record.grpc_status(status);
    }
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(Upgrade { client, protocol, cluster })) =
        (response.status(), upgrade)
    {
        head::set_upgrade(response.headers_mut(), &protocol);
        let ends = upgraded::Ends {
            idle: clock.into_idle(),
            retired: cluster.retirement().watch().ended(settings.retired_within),
        };
        upgraded::carry(connection, client, &mut response, lease, ends, record);
        return response.map(|_empty| ResponseBody::empty());
    }
    response.map(|body| ResponseBody::upstream(body, record, lease, clock, trailers))
}
