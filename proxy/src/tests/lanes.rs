//! Requests of a lane take its pods, through services that know nothing of lanes.

use std::{collections::HashMap, convert::Infallible, net::SocketAddr, sync::Arc};

use futures_util::future::join_all;
use http::{HeaderMap, HeaderName, Request, Response, request::Parts};
use hyper::{body::Incoming, service::service_fn};
use tokio::net::TcpListener;
use tulle_proto::telemetry::v1::{Direction, LaneBy};
use tulle_xds::model::{
    Action, Backend, Endpoints, HeaderMatch, InboundPort, Lane, Match, MtlsMode, Protocol, Regex,
    Rule, StringMatch,
};

use super::{
    ends::{full, http1, http2, serve, text},
    harness::{
        Authority, CART, CLUSTER, SERVICE, Sidecar, Told, WEB, client_mesh, endpoint, forward,
        sidecar, workload,
    },
};
use crate::{
    inbound,
    mesh::{Lookup, Mesh},
    net::listen,
    outbound,
    telemetry::trace,
    upstream::Cluster,
};

const LANE: &str = "lane/shop/cart/80/pr-1";
const ENTRY: HeaderName = HeaderName::from_static("x-tulle-lane");

fn header(name: HeaderName, value: StringMatch) -> Match {
    Match { headers: vec![HeaderMatch { name, value }], ..Match::default() }
}

fn enters() -> Match {
    header(ENTRY, StringMatch::Exact("pr-1".to_owned()))
}

/// As the control plane writes them.
fn rules() -> Vec<Rule> {
    let carried =
        Regex::new(r"(?:.*,)?[ \t]*tulle\.lane[ \t]*=[ \t]*pr-1[ \t]*(?:[,;].*)?").unwrap();
    let carried = header(HeaderName::from_static("baggage"), StringMatch::Regex(carried));
    let to_lane = |matches| Rule {
        matches,
        action: Action::Forward(vec![Backend {
            cluster: LANE.to_owned(),
            weight: 1,
            filters: Vec::new(),
        }]),
        ..forward()
    };
    vec![to_lane(carried), to_lane(enters()), forward()]
}

/// The sidecars of a Service's pods.
#[derive(Clone, Copy)]
struct Service {
    stable: SocketAddr,
    /// Of the lane.
    branch: Option<SocketAddr>,
}

/// What whoever calls a Service is told.
fn mesh(called: Service) -> Mesh {
    let lane = called.branch.is_some();
    let rules = if lane { rules() } else { vec![forward()] };
    let told = Told { rules, protocol: Protocol::Http, ..Told::default() };
    let mut mesh = client_mesh(told, &[called.stable]);
    if let Some(branch) = called.branch {
        let Some(Lookup::Known(to)) = mesh.listeners.remove(&SERVICE.parse().unwrap()) else {
            panic!("no destination");
        };
        let mut to = Arc::into_inner(to).unwrap();
        let settings = to.clusters[CLUSTER].settings();
        let settings = tulle_xds::model::Cluster { name: LANE.to_owned(), ..(*settings).clone() };
        let endpoints = vec![endpoint(branch, Some(CART.parse().unwrap()))];
        let endpoints = Endpoints { name: LANE.to_owned(), endpoints };
        to.clusters.insert(LANE.to_owned(), Arc::new(Cluster::new(settings, endpoints)));
        mesh.listeners.insert(SERVICE.parse().unwrap(), Lookup::Known(Arc::new(to)));
    }
    mesh
}

/// What an application does with the headers of a request that it answers: it picks those of the next.
type Forwards = fn(&Parts) -> Vec<(HeaderName, http::HeaderValue)>;

fn the_trace(head: &Parts) -> Vec<(HeaderName, http::HeaderValue)> {
    let name = HeaderName::from_static("traceparent");
    head.headers.get(&name).map(|value| (name.clone(), value.clone())).into_iter().collect()
}

fn nothing(_head: &Parts) -> Vec<(HeaderName, http::HeaderValue)> {
    Vec::new()
}

/// An application that says its name and what the next one says.
async fn answers(
    name: &'static str,
    next: Option<SocketAddr>,
    forwards: Forwards,
    request: Request<Incoming>,
) -> Result<Response<http_body_util::Full<bytes::Bytes>>, Infallible> {
    let (head, _body) = request.into_parts();
    let mut said = name.to_owned();
    if let Some(next) = next {
        let mut onward = Request::get("/").header("host", "cart");
        for (name, value) in forwards(&head) {
            onward = onward.header(name, value);
        }
        let sent = http1(next).await.send_request(onward.body(full("")).unwrap()).await.unwrap();
        said = format!("{said} {}", text(sent).await);
    }
    Ok(Response::new(said.into_bytes().into()))
}

/// A pod with its sidecar: where others get to, and the sidecar.
async fn pod(
    authority: &Authority,
    name: &'static str,
    next: Option<Service>,
    forwards: Forwards,
) -> (SocketAddr, Sidecar) {
    let application = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let [inward, outward] = [(); 2].map(|()| listen::bind(([127, 0, 0, 1], 0).into()).unwrap());
    let address = inward.local_addr().unwrap();
    let port = application.local_addr().unwrap();
    let to = next.map(|_| outward.local_addr().unwrap());
    let captured =
        HashMap::from([(address, port), (outward.local_addr().unwrap(), SERVICE.parse().unwrap())]);
    let served = InboundPort {
        port: port.port(),
        protocol: Protocol::Http,
        mtls: MtlsMode::Permissive,
        services: vec!["shop/cart".to_owned()],
    };
    let mut told = next.map(mesh).unwrap_or_default();
    told.generation = 1;
    let mut own = workload(CART, vec![served], MtlsMode::Permissive);
    own.lanes = vec![Lane { name: "pr-1".to_owned(), entry: vec![enters()] }];
    told.workload = Some(Arc::new(own));
    let mut sidecar = sidecar(authority, CART, captured, told, |_| {});
    // Two workers: what one of them learns the other knows.
    let (context, drain) = sidecar.listens();
    tokio::spawn(inbound::serve(context, inward, drain));
    let (context, drain) = sidecar.listens();
    tokio::spawn(outbound::serve(context, outward, drain));
    tokio::spawn(async move {
        loop {
            let (stream, _) = application.accept().await.unwrap();
            let service = service_fn(move |request| answers(name, to, forwards, request));
            tokio::spawn(serve(stream, service));
        }
    });
    (address, sidecar)
}

/// Services `a`, `b` and `c`, of which the lane has pods of the first and the last.
struct Shop {
    /// Where the client's application gets to when it dials `a`.
    outbound: SocketAddr,
    /// The sidecar of `b`.
    middle: Sidecar,
    _others: Vec<Sidecar>,
}

/// `client`: whether the client's own sidecar knows of the lane. `forwards`: what `b` does.
async fn shop(client: bool, forwards: Forwards) -> Shop {
    let authority = Authority::new();
    let mut others = Vec::new();
    let mut add = |(address, sidecar): (SocketAddr, Sidecar)| {
        others.push(sidecar);
        address
    };
    let stable = add(pod(&authority, "c", None, nothing).await);
    let branch = Some(add(pod(&authority, "c-branch", None, nothing).await));
    let last = Service { stable, branch };
    let (stable, middle) = pod(&authority, "b", Some(last), forwards).await;
    let second = Service { stable, branch: None };
    let stable = add(pod(&authority, "a", Some(second), the_trace).await);
    let branch = Some(add(pod(&authority, "a-branch", Some(second), the_trace).await));
    let listener = listen::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let outbound = listener.local_addr().unwrap();
    let captured = HashMap::from([(outbound, SERVICE.parse().unwrap())]);
    let mut told = mesh(Service { stable, branch });
    if client {
        let mut own = workload(WEB, Vec::new(), MtlsMode::Permissive);
        own.lanes = vec![Lane { name: "pr-1".to_owned(), entry: vec![enters()] }];
        told.workload = Some(Arc::new(own));
    }
    let mut client = sidecar(&authority, WEB, captured, told, |_| {});
    let (context, drain) = client.listens();
    tokio::spawn(outbound::serve(context, listener, drain));
    others.push(client);
    Shop { outbound, middle, _others: others }
}

async fn ask(to: SocketAddr, headers: &[(&str, &str)], by_http2: bool) -> String {
    let mut request = Request::get("http://cart/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = if by_http2 { request } else { request.header("host", "cart").uri("/") };
    let request = request.body(full("")).unwrap();
    let response = match by_http2 {
        true => http2(to).await.send_request(request).await.unwrap(),
        false => http1(to).await.send_request(request).await.unwrap(),
    };
    text(response).await
}

const IN: &str = "a-branch b c-branch";
const OUT: &str = "a b c";
const TRACE: (&str, &str) =
    ("traceparent", "00-12345678901234567890123456789012-1234567890123456-01");

#[tokio::test]
async fn a_lane_goes_on_through_services_that_forward_their_trace_alone() {
    for client in [true, false] {
        let shop = shop(client, the_trace).await;
        for by_http2 in [false, true] {
            for (headers, path) in [
                (&[][..], OUT),
                (&[("x-tulle-lane", "pr-1")], IN),
                (&[TRACE, ("x-tulle-lane", "pr-1")], IN),
                (&[("baggage", "user=ann, tulle.lane=pr-1")], IN),
                (&[TRACE], OUT),
                (&[("x-tulle-lane", "pr-2")], OUT),
                (&[("baggage", "tulle.lane=pr-2"), ("x-tulle-lane", "pr-3")], OUT),
            ] {
                let said = ask(shop.outbound, headers, by_http2).await;
                assert_eq!(said, path, "{client} {headers:?}");
            }
        }
        let metrics = shop.middle.metrics();
        for line in [
            "tulle_lane_requests_total{tulle_lane=\"pr-1\",tulle_reporter=\"destination\",tulle_lane_by=\"baggage\"} 6",
            "tulle_lane_requests_total{tulle_lane=\"pr-1\",tulle_reporter=\"source\",tulle_lane_by=\"traceparent\"} 6",
        ] {
            assert!(metrics.contains(line), "{line}: {metrics}");
        }
        assert!(!metrics.contains("tulle_lane_by=\"nothing\""), "{metrics}");
    }
}

#[tokio::test]
async fn requests_at_once_stay_apart() {
    let shop = shop(true, the_trace).await;
    let asked = (0..100).map(|number| async move {
        let lane = [("x-tulle-lane", "pr-1")];
        let within = number % 3 == 0;
        let said = ask(shop.outbound, if within { &lane } else { &[] }, false).await;
        (said, if within { IN } else { OUT })
    });
    for (said, path) in join_all(asked).await {
        assert_eq!(said, path);
    }
    let (left, _) = shop.middle.shared.flights.lanes();
    assert!(left.is_empty(), "nothing is in flight any more: {left:?}");
}

fn a_trace_of_its_own(_head: &Parts) -> Vec<(HeaderName, http::HeaderValue)> {
    vec![(HeaderName::from_static(TRACE.0), http::HeaderValue::from_static(TRACE.1))]
}

/// What the middle one tells of one request that came to it and one that it sent: whose they were, what says so, how many, and
/// how many of these while it answered nothing but the lane's.
async fn told(shop: &mut Shop) -> Vec<(Direction, String, LaneBy, u64, u64)> {
    for _inbound_and_outbound in 0..2 {
        shop.middle.record().await;
    }
    let told = shop.middle.shared.metrics.lanes().into_iter();
    let told = told.map(|one| {
        let peer = format!("{}/{}", one.peer_namespace, one.peer);
        (one.direction(), peer, one.by(), one.requests, one.alone)
    });
    let mut told: Vec<_> = told.collect();
    told.sort_by_key(|one| one.0);
    told
}

#[tokio::test]
async fn who_loses_the_lane_is_named_with_whom_it_called_and_why() {
    let inbound = (Direction::Inbound, "shop/cart".to_owned(), LaneBy::Baggage, 1, 0);
    let outbound = |by, alone| (Direction::Outbound, "shop/cart".to_owned(), by, 1, alone);
    for (forwards, label, out) in [
        (nothing as Forwards, "nothing", outbound(LaneBy::Nothing, 1)),
        (a_trace_of_its_own, "unknown-trace", outbound(LaneBy::UnknownTrace, 1)),
        (the_trace, "traceparent", outbound(LaneBy::Traceparent, 0)),
    ] {
        let mut shop = shop(true, forwards).await;
        ask(shop.outbound, &[("x-tulle-lane", "pr-1")], false).await;
        assert_eq!(told(&mut shop).await, [inbound.clone(), out], "{label}");
        let line = format!("tulle_reporter=\"source\",tulle_lane_by=\"{label}\"}} 1");
        let metrics = shop.middle.metrics();
        assert!(metrics.contains(&line), "{label}: {metrics}");
        // Of what is in no lane nothing is told.
        ask(shop.outbound, &[TRACE], false).await;
        assert_eq!(told(&mut shop).await, [], "{label}");
    }
}

#[tokio::test]
async fn what_is_known_to_be_of_others_is_not_counted_as_lost() {
    let mut shop = shop(true, the_trace).await;
    let flights = &shop.middle.shared.flights;
    let mut head = HeaderMap::new();
    let flying = trace::begin_for_others(&mut head, &mut rand::rng());
    let flight = flights.begin(Some(flying), Some("pr-1".into()));
    // Somebody else's, with a trace that the application forwards.
    assert_eq!(ask(shop.outbound, &[TRACE], false).await, OUT);
    assert_eq!(told(&mut shop).await, []);
    // Without one it could be anybody's.
    assert_eq!(ask(shop.outbound, &[], false).await, OUT);
    let outbound = (Direction::Outbound, "shop/cart".to_owned(), LaneBy::Nothing, 1, 0);
    assert_eq!(told(&mut shop).await, [outbound]);
    drop(flight);
}
