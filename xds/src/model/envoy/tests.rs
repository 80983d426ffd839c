use envoy_types::pb::envoy::{
    config::{
        cluster::v3 as cds, endpoint::v3 as eds, listener::v3 as lds, rbac::v3::Rbac as RbacRules,
    },
    extensions::filters::network::{rbac::v3::Rbac, tcp_proxy::v3::TcpProxy},
    r#type::matcher::v3::string_matcher::MatchPattern,
};
use prost::Message as _;

use super::*;
use crate::model::{
    Access, AccessMode, AccessRule, Backend, Balance, ByName, Cluster, Endpoint, Endpoints,
    ExternalTraffic, InboundPort, Knob, Limits, Listener, MtlsMode, Protocol, SpiffeId,
    UpstreamProtocol, Workload,
};

fn identity(account: &str) -> SpiffeId {
    SpiffeId::service_account("cluster.local", "shop", account)
}

fn endpoint(last: u8, identity: Option<SpiffeId>) -> Endpoint {
    Endpoint { identity, ..Endpoint::new(([10, 244, 0, last], 8080).into()) }
}

fn service() -> Cluster {
    Cluster {
        name: "service/shop/cart/80".to_owned(),
        service: None,
        protocol: Protocol::Http,
        upstream_protocol: UpstreamProtocol::Same,
        balance: Balance::default(),
        limits: Limits::default(),
        ejection: None,
        connect_timeout: std::time::Duration::from_secs(5),
        origin: Origin::default(),
        setters: Vec::new(),
        released: Default::default(),
    }
}

fn workload(ports: Vec<InboundPort>) -> Workload {
    Workload {
        name: "shop/cart-1".to_owned(),
        uid: "u".to_owned(),
        identity: identity("cart"),
        owner_kind: "Deployment".to_owned(),
        owner_name: "cart".to_owned(),
        revision: String::new(),
        addresses: vec!["10.244.0.9".parse().unwrap(), "fd00::9".parse().unwrap()],
        ports,
        default_mtls: MtlsMode::Permissive,
        mesh_ranges: vec!["10.244.0.0/16".parse().unwrap()],
        external_traffic: ExternalTraffic::Pass,
        hold: String::new(),
        trust_domains: vec!["cluster.local".to_owned()],
        cluster_domain: "cluster.local".to_owned(),
        knobs: crate::model::Knobs::new(),
        setters: Vec::new(),
        access: Vec::new(),
        node: String::new(),
        zone: String::new(),
        telemetry: Box::default(),
        counted: false,
        lanes: Vec::new(),
    }
}

#[test]
fn only_an_endpoint_without_identity_gets_plaintext() {
    let endpoints = Endpoints {
        name: "service/shop/cart/80".to_owned(),
        endpoints: vec![endpoint(1, Some(identity("cart"))), endpoint(2, None)],
    };
    let peers = Peers::of(&endpoints);
    let bytes = cluster(&service(), &peers);
    assert_eq!(bytes, cluster(&service(), &peers), "deterministic");
    let message = cds::Cluster::decode(bytes).unwrap();
    let told: Vec<_> = message
        .transport_socket_matches
        .iter()
        .map(|m| (m.name.as_str(), m.transport_socket.as_ref().unwrap().name.as_str()))
        .collect();
    let cart = identity("cart");
    assert_eq!(
        told,
        [
            ("none", "envoy.transport_sockets.raw_buffer"),
            (cart.as_str(), "envoy.transport_sockets.tls"),
        ]
    );
    // What is neither: TLS with somebody who does not exist.
    assert_eq!(message.transport_socket, Some(tls::to_nobody()));

    let message = eds::ClusterLoadAssignment::decode(super::endpoints(&endpoints)).unwrap();
    let members = &message.endpoints[0].lb_endpoints;
    let says = |text: &str| members.iter().filter(|m| format!("{m:?}").contains(text)).count();
    assert_eq!((says(cart.as_str()), says("\"none\"")), (1, 1));
    // One that is ready keeps all traffic from those that end.
    let factor = message.policy.unwrap().overprovisioning_factor.unwrap().value;
    assert!(factor >= 100_000);
}

#[test]
fn a_strict_port_has_chains_for_mtls_alone() {
    let port = |port, protocol, mtls| InboundPort { port, protocol, mtls, services: Vec::new() };
    let ports = vec![
        port(80, Protocol::Http, MtlsMode::Strict),
        port(81, Protocol::Tcp, MtlsMode::Permissive),
        port(82, Protocol::Detect, MtlsMode::Permissive),
    ];
    let message = lds::Listener::decode(inbound(&workload(ports))).unwrap();
    assert_eq!(message.name, "inbound/shop/cart-1");
    assert_eq!(message.additional_addresses.len(), 1, "one for each address of the pod");
    let plaintext = |number: Option<u32>| {
        let of_port = message.filter_chains.iter().filter(|chain| {
            let matches = chain.filter_chain_match.as_ref().unwrap();
            matches.destination_port.map(|p| p.value) == number
        });
        of_port.filter(|chain| chain.transport_socket.is_none()).count()
    };
    assert_eq!(plaintext(Some(80)), 0);
    assert_eq!(plaintext(Some(81)), 1);
    assert_eq!(plaintext(None), 2, "HTTP and opaque");
    assert_eq!(plaintext(Some(82)), 0, "as most ports: it has no chains of its own");
}

#[test]
fn an_idle_time_is_told_where_bytes_are_opaque() {
    let idle = std::time::Duration::from_secs(7);
    let backend = Backend { cluster: "c".to_owned(), weight: 1, filters: Vec::new() };
    for (idle, seconds) in [(Some(idle), 7), (None, 0)] {
        let told = Listener {
            name: "10.96.0.7:80".to_owned(),
            address: "10.96.0.7:80".parse().unwrap(),
            protocol: Protocol::Tcp,
            service: None,
            route: None,
            backends: vec![backend.clone()],
            by_name: Vec::new(),
            only_named: false,
            idle,
            origin: Origin::default(),
            setters: Vec::new(),
        };
        let message = lds::Listener::decode(listener(&told)).unwrap();
        let filter = message.filter_chains[0].filters.last().unwrap();
        let Some(lds::filter::ConfigType::TypedConfig(config)) = &filter.config_type else {
            panic!("{filter:?}")
        };
        let proxy = TcpProxy::decode(&*config.value).unwrap();
        // Without a time Envoy has one of its own, an hour.
        assert_eq!(proxy.idle_timeout.map(|time| time.seconds), Some(seconds));
    }
}

#[test]
fn what_has_no_listener_inside_of_the_mesh_is_asked_for_by_its_address() {
    let message = lds::Listener::decode(outbound(&workload(Vec::new()))).unwrap();
    let [mesh] = message.filter_chains.as_slice() else { panic!("{message:?}") };
    let text = format!("{mesh:?}");
    assert!(text.contains("10.244.0.0"));
    assert!(text.contains("set_filter_state") && text.contains("tcp_proxy"), "{text}");
}

#[test]
fn a_pods_own_address_is_answered_by_that_pod_alone() {
    for (identity, expected) in
        [(Some(identity("cart")), tls::to(&identity("cart"), &[tls::TCP])), (None, tls::none())]
    {
        let name = "10.244.0.7:8080";
        let bytes =
            address(name, &endpoint(7, identity), &Limits::default(), &Origin::default(), &[]);
        let message = cds::Cluster::decode(bytes).unwrap();
        assert_eq!(message.transport_socket, Some(expected));
        let members = message.load_assignment.unwrap();
        assert_eq!(members.endpoints[0].lb_endpoints.len(), 1);
        assert!(format!("{members:?}").contains("10.244.0.7"));
    }
}

#[test]
fn the_same_is_said_in_the_same_bytes() {
    let ports = || {
        vec![InboundPort {
            port: 80,
            protocol: Protocol::Http,
            mtls: MtlsMode::Permissive,
            services: Vec::new(),
        }]
    };
    for _ in 0..8 {
        assert_eq!(inbound(&workload(ports())), inbound(&workload(ports())));
        assert_eq!(outbound(&workload(Vec::new())), outbound(&workload(Vec::new())));
    }
}

#[test]
fn the_inbound_listener_says_what_becomes_of_client_certs() {
    use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
        HttpConnectionManager, http_connection_manager::ForwardClientCertDetails as Details,
    };
    for (word, expected) in
        [(0, Details::SanitizeSet), (1, Details::AppendForward), (2, Details::Sanitize)]
    {
        let mut told = workload(Vec::new());
        told.knobs = [(Knob::ForwardedClientCert, word)].into();
        let message = lds::Listener::decode(inbound(&told)).unwrap();
        let filters = message.filter_chains.iter().map(|chain| chain.filters.last().unwrap());
        let managers: Vec<_> = filters
            .filter_map(|filter| match &filter.config_type {
                Some(lds::filter::ConfigType::TypedConfig(any))
                    if any.type_url.ends_with("HttpConnectionManager") =>
                {
                    Some(HttpConnectionManager::decode(&*any.value).unwrap())
                }
                _ => None,
            })
            .collect();
        // By HTTP/2 and HTTP/1 from sidecars; and from strangers, whose copies always go.
        let found: Vec<_> = managers.iter().map(|m| m.forward_client_cert_details()).collect();
        assert_eq!(found, [expected, expected, Details::Sanitize], "{word}");
    }
}

#[test]
fn who_may_connect_is_said_by_port() {
    let access = |name: &str, mode, rules: &[(&str, &[u16])]| Access {
        origin: Origin { name: name.to_owned(), ..Origin::default() },
        mode,
        rules: rules
            .iter()
            .map(|(from, ports)| AccessRule {
                from: vec![from.parse().unwrap()],
                ports: ports.to_vec(),
            })
            .collect(),
    };
    let port = InboundPort {
        port: 9090,
        protocol: Protocol::Detect,
        mtls: MtlsMode::Permissive,
        services: Vec::new(),
    };
    let told = |access: Vec<Access>| -> Vec<String> {
        let workload = Workload { access, ..workload(vec![port.clone()]) };
        let bytes = inbound(&workload);
        assert_eq!(bytes, inbound(&workload), "deterministic");
        let listener = lds::Listener::decode(bytes).unwrap();
        let chains = listener.filter_chains.iter().map(|chain| {
            let port = chain.filter_chain_match.as_ref().unwrap().destination_port.as_ref();
            let first = &chain.filters[0];
            let said = match (&*first.name, &first.config_type) {
                ("envoy.filters.network.rbac", Some(lds::filter::ConfigType::TypedConfig(any))) => {
                    let filter = Rbac::decode(&*any.value).unwrap();
                    let who = |rules: Option<&RbacRules>| {
                        rules.map_or_else(|| "not asked".to_owned(), principals)
                    };
                    let rules = who(filter.rules.as_ref());
                    let shadow = who(filter.shadow_rules.as_ref());
                    format!("{rules}; {shadow}")
                }
                _ => "no filter".to_owned(),
            };
            format!("{} {said}", port.map_or(0, |port| port.value))
        });
        let mut chains: Vec<_> = chains.collect();
        // All chains of a port ask the same.
        chains.dedup();
        chains
    };
    use AccessMode::{Audit, Enforce};
    assert_eq!(told(vec![]), ["0 no filter"]);
    assert_eq!(told(vec![access("none", Enforce, &[])]), ["0 nobody; not asked"]);
    let shop = "spiffe://cluster.local/ns/shop/*";
    let cart = "spiffe://cluster.local/ns/shop/sa/cart";
    let both = vec![
        access("a", Enforce, &[(shop, &[]), ("*", &[9090])]),
        access("b", Audit, &[(cart, &[9090])]),
    ];
    assert_eq!(
        told(both),
        [
            "0 spiffe://cluster.local/ns/shop/…; spiffe://cluster.local/ns/shop/…".to_owned(),
            format!(
                "9090 spiffe://cluster.local/ns/shop/… *; spiffe://cluster.local/ns/shop/… * {cart}"
            ),
        ]
    );
}

fn principals(rules: &RbacRules) -> String {
    use envoy_types::pb::envoy::config::rbac::v3::principal::Identifier;
    if rules.policies.is_empty() {
        return "nobody".to_owned();
    }
    let all = rules.policies.values().flat_map(|policy| &policy.principals);
    let all = all.map(|principal| match principal.identifier.as_ref().unwrap() {
        Identifier::Any(true) => "*".to_owned(),
        Identifier::Authenticated(name) => {
            match name.principal_name.as_ref().unwrap().match_pattern.as_ref().unwrap() {
                MatchPattern::Exact(id) => id.clone(),
                MatchPattern::Prefix(start) => format!("{start}…"),
                other => panic!("{other:?}"),
            }
        }
        other => panic!("{other:?}"),
    });
    all.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_names_no_server_has_no_chain_where_all_must() {
    let backend = Backend { cluster: "c".to_owned(), weight: 1, filters: Vec::new() };
    let names = vec!["*.shop.example".to_owned()];
    for (only_named, chains) in [(true, 2), (false, 3)] {
        let told = Listener {
            name: "10.96.0.7:80".to_owned(),
            address: "10.96.0.7:80".parse().unwrap(),
            protocol: Protocol::Detect,
            service: None,
            route: Some("r".to_owned()),
            backends: vec![backend.clone()],
            by_name: vec![ByName { names: names.clone(), backends: vec![backend.clone()] }],
            only_named,
            idle: None,
            origin: Origin::default(),
            setters: Vec::new(),
        };
        let message = lds::Listener::decode(listener(&told)).unwrap();
        assert_eq!(message.filter_chains.len(), chains, "HTTP, by name, and the rest if any");
        let named = message.filter_chains.last().unwrap().filter_chain_match.as_ref().unwrap();
        assert_eq!((&named.server_names, &*named.transport_protocol), (&names, "tls"));
        let inspectors = message.listener_filters.iter().map(|filter| filter.name.as_str());
        let expected =
            ["envoy.filters.listener.tls_inspector", "envoy.filters.listener.http_inspector"];
        assert!(inspectors.eq(expected));
    }
}
