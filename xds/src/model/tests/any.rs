//! Arbitrary valid resources.

mod lane;
mod telemetry;

use std::{net::SocketAddr, time::Duration};

use http::{HeaderName, HeaderValue, Method, StatusCode};
use proptest::{
    collection::{btree_set, vec},
    option,
    prelude::*,
    sample::subsequence,
};

use super::super::*;
use lane::lane;
use telemetry::telemetry;

fn word() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9-]{0,8}"
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![word(), "\\PC{0,12}"]
}

fn address() -> impl Strategy<Value = SocketAddr> {
    any::<(std::net::IpAddr, u16)>().prop_map(SocketAddr::from)
}

fn span() -> impl Strategy<Value = Duration> {
    (1_u64..1_000_000_000).prop_map(|micros| Duration::from_micros(micros * 1000))
}

fn protocol() -> impl Strategy<Value = Protocol> {
    use Protocol::{Detect, Grpc, Http, Http2, Tcp};
    prop::sample::select(vec![Detect, Http, Http2, Grpc, Tcp])
}

fn id() -> impl Strategy<Value = SpiffeId> {
    (word(), word(), word()).prop_map(|(d, n, a)| SpiffeId::service_account(&d, &n, &a))
}

prop_compose! {
    fn origin()(kind in any_text(), namespace in any_text(), name in any_text(), rule in any_text())
        -> Origin { Origin { kind, namespace, name, rule } }
}

fn setters() -> impl Strategy<Value = Vec<Setter>> {
    let setter = (any_text(), origin()).prop_map(|(field, origin)| Setter { field, origin });
    vec(setter, 0..3)
}

prop_compose! {
    fn service()(namespace in word(), name in word(), port: u16, host in any_text())
        -> ServicePort { ServicePort { namespace, name, port, host } }
}

prop_compose! {
    fn inbound_port()(
        port: u16,
        protocol in protocol(),
        strict: bool,
        services in vec(any_text(), 0..3),
    ) -> InboundPort {
        let mtls = if strict { MtlsMode::Strict } else { MtlsMode::Permissive };
        InboundPort { port, protocol, mtls, services }
    }
}

fn caller() -> impl Strategy<Value = Caller> {
    prop_oneof![
        Just(Caller::Anyone),
        word().prop_map(Caller::Domain),
        (word(), word()).prop_map(|(domain, namespace)| Caller::Namespace(domain, namespace)),
        id().prop_map(Caller::Is),
    ]
}

prop_compose! {
    fn access()(
        origin in origin(),
        mode in prop::sample::select(vec![AccessMode::Enforce, AccessMode::Audit]),
        rules in vec((vec(caller(), 0..3), vec(any::<u16>(), 0..3)), 0..3),
    ) -> Access {
        let rules = rules.into_iter().map(|(from, ports)| AccessRule { from, ports });
        Access { origin, mode, rules: rules.collect() }
    }
}

prop_compose! {
    fn workload()(
        texts in vec(any_text(), 6),
        identity in id(),
        addresses in vec(any::<std::net::IpAddr>(), 0..3),
        ports in vec(inbound_port(), 0..3),
        flags: (bool, bool),
        ranges in vec(any::<(std::net::Ipv6Addr, std::net::Ipv4Addr)>(), 0..2),
        trust_domains in vec(word(), 0..3),
        cluster_domain in any_text(),
        knobs in prop::collection::btree_map(prop::sample::select(Knob::ALL.to_vec()), 0_u64..9_000, 0..4),
        setters in setters(),
        access in vec(access(), 0..3),
        (node, zone, telemetry, counted) in (any_text(), any_text(), telemetry(), any::<bool>()),
        lanes in vec(lane(), 0..3),
    ) -> Workload {
        let [name, uid, owner_kind, owner_name, revision, hold] = texts.try_into().unwrap();
        let ranges = ranges.into_iter().flat_map(|(v6, v4)| {
            [ipnet::IpNet::new(v6.into(), 64).unwrap(), ipnet::IpNet::new(v4.into(), 8).unwrap()]
        });
        Workload {
            name, uid, identity, owner_kind, owner_name, revision, addresses, ports,
            default_mtls: if flags.0 { MtlsMode::Strict } else { MtlsMode::Permissive },
            mesh_ranges: ranges.collect(),
            external_traffic: if flags.1 { ExternalTraffic::Refuse } else { ExternalTraffic::Pass },
            hold, trust_domains, cluster_domain, setters, access, node, zone, telemetry: Box::new(telemetry), counted, lanes,
            knobs: knobs.into_iter().filter(|(knob, value)| knob.check(*value).is_ok()).collect(),
        }
    }
}

prop_compose! {
    fn host()(
        name in any_text(),
        addresses in vec(any::<std::net::IpAddr>(), 0..4),
        origin in origin(),
    ) -> Host { Host { name, addresses, origin } }
}

fn balance() -> impl Strategy<Value = Balance> {
    prop_oneof![
        (2_u32..=10).prop_map(|choices| Balance::LeastRequest { choices }),
        Just(Balance::RoundRobin),
        Just(Balance::Random),
    ]
}

prop_compose! {
    fn limits()(
        bounds in vec(option::of(0_u32..u32::MAX), 3),
        percent in 0.0..=100.0,
        min_concurrency: u32,
    ) -> Limits {
        Limits {
            connections: bounds[0], pending: bounds[1], requests: bounds[2],
            retry_budget: RetryBudget { percent, min_concurrency },
        }
    }
}

prop_compose! {
    fn ejection()(
        counts in vec(option::of(1_u32..), 2),
        base_time in span(),
        more in span(),
        interval in span(),
        max_percent in 0_u32..=100,
    ) -> Ejection {
        Ejection {
            consecutive_5xx: counts[0], consecutive_local_failures: counts[1],
            base_time, max_time: base_time + more, interval, max_percent,
        }
    }
}

prop_compose! {
    fn cluster()(
        name in any_text(),
        service in option::of(service()),
        protocol in protocol(),
        upstream in prop::sample::select(
            vec![UpstreamProtocol::Same, UpstreamProtocol::Http1, UpstreamProtocol::Http2]),
        balance in balance(),
        limits in limits(),
        ejection in option::of(ejection()),
        connect_timeout in span(),
        origin in origin(),
        setters in setters(),
        released in prop::sample::select(vec![Released::No, Released::Counted, Released::Retired]),
    ) -> Cluster {
        Cluster {
            name, service, protocol, upstream_protocol: upstream, balance, limits, ejection,
            connect_timeout, origin, setters, released,
        }
    }
}

prop_compose! {
    fn near()(
        node in any_text(),
        for_nodes in vec(word(), 0..2),
        for_zones in vec(word(), 0..2),
    ) -> Near { Near { node, for_nodes, for_zones } }
}

prop_compose! {
    fn endpoint()(
        address in address(),
        health in prop::sample::select(vec![Health::Ready, Health::Draining, Health::NotReady]),
        weight in 1_u32..,
        identity in option::of(id()),
        texts in vec(prop_oneof![Just(String::new()), any_text()], 4),
        zone in prop::sample::select(vec!["", "a", "b"]),
        near in near(),
    ) -> Endpoint {
        let [pod, pod_uid, workload, revision] = texts.try_into().unwrap();
        Endpoint {
            address, health, weight, identity, pod, pod_uid, workload, revision,
            zone: zone.to_owned(),
            near,
        }
    }
}

prop_compose! {
    fn endpoints()(name in any_text(), mut endpoints in vec(endpoint(), 0..6)) -> Endpoints {
        endpoints.sort_by_key(|e| e.address);
        endpoints.dedup_by_key(|e| e.address);
        Endpoints { name, endpoints }
    }
}

prop_compose! {
    fn listener()(
        address in address(),
        protocol in protocol(),
        service in option::of(service()),
        route in "[a-z/]{1,9}",
        clusters in vec((word(), 1_u32..1_000_000), 1..4),
        mut names in btree_set("(\\*\\.)?[a-z]{1,3}(\\.[a-z0-9-]{1,3})?", 0..4),
        only_named in any::<bool>(),
        idle in option::of(span()),
        origin in origin(),
        setters in setters(),
    ) -> Listener {
        let backends = clusters.into_iter().map(|(cluster, weight)| Backend {
            cluster, weight, filters: Vec::new(),
        });
        let backends: Vec<_> = backends.collect();
        if protocol.is_http() {
            names.clear();
        }
        let by_name = names.into_iter().map(|name| ByName { names: vec![name], backends: backends.clone() });
        Listener {
            by_name: by_name.collect(), only_named,
            name: address.to_string(), address, protocol, service,
            route: (protocol != Protocol::Tcp).then_some(route),
            backends: if protocol.is_http() { Vec::new() } else { backends },
            idle: idle.filter(|_| !protocol.is_http()),
            origin, setters,
        }
    }
}

fn regex() -> impl Strategy<Value = Regex> {
    "[a-z./]{1,6}(\\[0-9\\]\\+)?".prop_map(|source| Regex::new(&source).unwrap())
}

fn string_match() -> impl Strategy<Value = StringMatch> {
    prop_oneof![any_text().prop_map(StringMatch::Exact), regex().prop_map(StringMatch::Regex)]
}

fn header_name() -> impl Strategy<Value = HeaderName> {
    word().prop_map(|name| name.parse().unwrap())
}

fn header() -> impl Strategy<Value = (HeaderName, HeaderValue)> {
    let value = vec(prop_oneof![0x20_u8..0x7f, 0x80_u8.., Just(b'%')], 0..9);
    (header_name(), value).prop_map(|(n, v)| (n, HeaderValue::from_bytes(&v).unwrap()))
}

/// Without a slash at the end; may be empty.
fn prefix() -> impl Strategy<Value = String> {
    "(/[a-z.+\\\\]{1,4}){0,3}"
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        any_text().prop_map(PathMatch::Exact),
        prefix().prop_map(PathMatch::Prefix),
        regex().prop_map(PathMatch::Regex),
    ]
}

prop_compose! {
    fn matches()(
        path in path_match(),
        method in option::of(prop::sample::select(vec![Method::GET, Method::POST])),
        headers in vec((header_name(), string_match()), 0..3),
        query in vec((any_text(), string_match()), 0..3),
    ) -> Match {
        Match {
            path, method,
            headers: headers.into_iter().map(|(name, value)| HeaderMatch { name, value }).collect(),
            query: query.into_iter().map(|(name, value)| QueryMatch { name, value }).collect(),
        }
    }
}

fn modifier() -> impl Strategy<Value = HeaderModifier> {
    (vec(header(), 0..3), vec(header(), 0..3), vec(header_name(), 0..3))
        .prop_map(|(set, add, remove)| HeaderModifier { set, add, remove })
        .prop_filter("not empty", |modifier| *modifier != HeaderModifier::default())
}

fn header_filters() -> impl Strategy<Value = Vec<Filter>> {
    (option::of(modifier()), option::of(modifier())).prop_map(|(request, response)| {
        let request = request.map(Filter::RequestHeaders);
        request.into_iter().chain(response.map(Filter::ResponseHeaders)).collect()
    })
}

/// What is possible depends on the match.
fn path_rewrite(matched: &PathMatch) -> BoxedStrategy<Option<PathRewrite>> {
    let full = any_text().prop_map(PathRewrite::Full);
    match matched {
        PathMatch::Prefix(_) => {
            option::of(prop_oneof![full, prefix().prop_map(PathRewrite::Prefix)]).boxed()
        }
        PathMatch::Exact(_) | PathMatch::Regex(_) => option::of(full).boxed(),
    }
}

fn rewrite(matched: &PathMatch) -> impl Strategy<Value = Option<Filter>> + use<> {
    (option::of(any_text()), path_rewrite(matched)).prop_map(|(host, path)| {
        (host.is_some() || path.is_some()).then_some(Filter::Rewrite { host, path })
    })
}

prop_compose! {
    fn backend()(
        cluster in prop_oneof![5 => word(), 1 => Just(Backend::INVALID.to_owned())],
        weight in 0_u32..1000,
        filters in header_filters(),
        host in option::of(any_text()),
    ) -> Backend {
        let host = host.map(|host| Filter::Rewrite { host: Some(host), path: None });
        Backend { cluster, weight, filters: filters.into_iter().chain(host).collect() }
    }
}

fn status(of: std::ops::RangeInclusive<u16>) -> impl Strategy<Value = StatusCode> {
    of.prop_map(|code| StatusCode::from_u16(code).unwrap())
}

prop_compose! {
    fn retry()(
        attempts: u32,
        statuses in vec(status(400..=599), 0..3),
        grpc_statuses in subsequence(Retry::GRPC_STATUSES.to_vec(), 0..=5),
        on_connect: bool,
        on_reset: bool,
        base_backoff in span(),
        more in span(),
    ) -> Retry {
        Retry {
            attempts, statuses, grpc_statuses, on_connect, on_reset, base_backoff,
            max_backoff: base_backoff + more,
        }
    }
}

fn redirect(matched: &PathMatch) -> impl Strategy<Value = Redirect> + use<> {
    (
        option::of(prop::sample::select(vec!["http".to_owned(), "https".to_owned()])),
        option::of(word()),
        option::of(1_u16..),
        path_rewrite(matched),
        prop::sample::select(vec![301, 302, 303, 307, 308]),
    )
        .prop_map(|(scheme, host, port, path, status)| {
            let status = StatusCode::from_u16(status).unwrap();
            Redirect { scheme, host, port, path, status }
        })
}

fn stick() -> impl Strategy<Value = Stick> {
    prop_oneof![
        header_name().prop_map(Stick::Header),
        word().prop_map(Stick::Cookie),
        Just(Stick::SourceIp),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let forward = (
        vec(backend(), 1..4).prop_filter("not all 0", |b| b.iter().any(|b| b.weight > 0)),
        (option::of(span()), option::of(span()), option::of(span())),
        (option::of(retry()), option::of(stick())),
        vec((word(), 0_u32..=1_000_000), 0..2),
    );
    let parts = matches().prop_flat_map(|matches| {
        let (path, redirect) = (rewrite(&matches.path), redirect(&matches.path));
        (Just(matches), path, redirect)
    });
    let from = (origin(), setters());
    (parts, header_filters(), forward, from, status(200..=599), 0..4_u8).prop_map(
        |((matches, rewrite, redirect), mut filters, forward, (origin, setters), status, which)| {
            let mut rule = Rule {
                matches,
                filters: Vec::new(),
                action: Action::Fail(status),
                timeouts: Timeouts::default(),
                retry: None,
                stick: None,
                mirrors: Vec::new(),
                origin,
                setters,
            };
            match which {
                0 => {}
                1 => rule.action = Action::Redirect(redirect),
                _ => {
                    let (backends, (request, per_try, idle), (retry, stick), mirrors) = forward;
                    filters.extend(rewrite);
                    rule.action = Action::Forward(backends);
                    rule.timeouts = Timeouts { request, per_try, idle };
                    rule.retry = retry;
                    rule.stick = stick;
                    let mirror = |(cluster, millionths)| Mirror { cluster, millionths };
                    rule.mirrors = mirrors.into_iter().map(mirror).collect();
                }
            }
            rule.filters = filters;
            rule
        },
    )
}

prop_compose! {
    fn routes()(name in any_text(), rules in vec(rule(), 0..4)) -> RouteConfiguration {
        RouteConfiguration { name, rules }
    }
}

pub(super) fn resource() -> impl Strategy<Value = Resource> {
    prop_oneof![
        workload().prop_map(Resource::Workload),
        host().prop_map(Resource::Host),
        cluster().prop_map(Resource::Cluster),
        endpoints().prop_map(Resource::Endpoints),
        listener().prop_map(Resource::Listener),
        routes().prop_map(Resource::Route),
    ]
}
