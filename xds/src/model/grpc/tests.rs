use super::*;
use crate::model::{Balance, HeaderMatch, Kind, Origin, QueryMatch, Resource, StringMatch};

fn rule_of(matches: Match, action: Action) -> Rule {
    Rule {
        matches,
        filters: Vec::new(),
        action,
        timeouts: Timeouts::default(),
        retry: None,
        stick: None,
        mirrors: Vec::new(),
        setters: Vec::new(),
        origin: Origin {
            kind: String::new(),
            namespace: String::new(),
            name: String::new(),
            rule: String::new(),
        },
    }
}

fn to(cluster: &str) -> Action {
    Action::Forward(vec![Backend { cluster: cluster.to_owned(), weight: 1, filters: vec![] }])
}

fn routes(rules: Vec<Rule>) -> Vec<route::Route> {
    let told = RouteConfiguration { name: "r".to_owned(), rules };
    let message = route::RouteConfiguration::decode(route(&told)).unwrap();
    message.virtual_hosts.into_iter().flat_map(|host| host.routes).collect()
}

fn clusters(route: &route::Route) -> Vec<(String, u32)> {
    let Some(route::route::Action::Route(action)) = &route.action else { panic!("{route:?}") };
    let Some(route_action::ClusterSpecifier::WeightedClusters(weighted)) =
        &action.cluster_specifier
    else {
        panic!("{action:?}")
    };
    let weight = |c: &route::weighted_cluster::ClusterWeight| c.weight.map_or(0, |w| w.value);
    weighted.clusters.iter().map(|c| (c.name.clone(), weight(c))).collect()
}

#[test]
fn what_refuses_goes_where_nobody_is_and_not_to_the_next_rule() {
    let path = Match { path: PathMatch::Exact("/a.B/C".to_owned()), ..Match::default() };
    let found = routes(vec![
        rule_of(path, Action::Fail(http::StatusCode::INTERNAL_SERVER_ERROR)),
        rule_of(Match::default(), to("c")),
    ]);
    assert_eq!(clusters(&found[0]), [(Backend::INVALID.to_owned(), 1)]);
    assert_eq!(clusters(&found[1]), [("c".to_owned(), 1)]);
}

#[test]
fn conditions_are_those_that_a_call_can_meet() {
    let method = |method| Match { method: Some(method), ..Match::default() };
    let value = StringMatch::Exact("x".to_owned());
    let query = vec![QueryMatch { name: "q".to_owned(), value: value.clone() }];
    let header = HeaderMatch { name: "x-user".parse().unwrap(), value };
    let found = routes(vec![
        rule_of(method(Method::GET), to("get")),
        rule_of(method(Method::POST), to("post")),
        rule_of(Match { query, ..Match::default() }, to("query")),
        rule_of(Match { headers: vec![header], ..Match::default() }, to("header")),
    ]);
    let kept: Vec<_> = found.iter().map(|route| clusters(route)[0].0.clone()).collect();
    assert_eq!(kept, ["post", "header"]);
    assert_eq!(found[1].r#match.as_ref().unwrap().headers[0].name, "x-user");
}

#[test]
fn a_prefix_by_segments_is_a_regular_expression() {
    let prefix =
        |text: &str| Match { path: PathMatch::Prefix(text.to_owned()), ..Match::default() };
    let found = routes(vec![rule_of(prefix("/a.B"), to("c")), rule_of(Match::default(), to("c"))]);
    let path = |route: &route::Route| route.r#match.clone().unwrap().path_specifier.unwrap();
    let PathSpecifier::SafeRegex(regex) = path(&found[0]) else { panic!("{found:?}") };
    let regex = crate::model::Regex::new(&regex.regex).unwrap();
    for (call, matches) in [("/a.B/C", true), ("/a.B", true), ("/a.BC/D", false), ("/axB/C", false)]
    {
        assert_eq!(regex.is_match(call), matches, "{call}");
    }
    assert_eq!(path(&found[1]), PathSpecifier::Prefix("/".to_owned()));
}

fn cluster_of(ejection: Option<Ejection>) -> Cluster {
    Cluster {
        name: "service/shop/web/80".to_owned(),
        service: None,
        protocol: crate::model::Protocol::Grpc,
        upstream_protocol: crate::model::UpstreamProtocol::Http2,
        balance: Balance::LeastRequest { choices: 2 },
        limits: Limits { requests: Some(7), ..Limits::default() },
        ejection,
        connect_timeout: std::time::Duration::from_secs(5),
        setters: Vec::new(),
        released: Default::default(),
        origin: Origin {
            kind: String::new(),
            namespace: String::new(),
            name: String::new(),
            rule: String::new(),
        },
    }
}

#[test]
fn mtls_names_everybody_who_may_answer() {
    let id = |name| SpiffeId::service_account("cluster.local", "shop", name);
    let identities = BTreeSet::from([id("a"), id("b")]);
    let bytes = cluster(&cluster_of(None), "e", Some(&identities));
    let message = pb::Cluster::decode(bytes).unwrap();
    assert_eq!(message.eds_cluster_config.unwrap().service_name, "e");
    let Some(transport_socket::ConfigType::TypedConfig(any)) =
        message.transport_socket.unwrap().config_type
    else {
        panic!("no configuration")
    };
    let tls: UpstreamTlsContext = wire::unpack(&any).unwrap();
    let common = tls.common_tls_context.unwrap();
    assert!(common.tls_certificate_provider_instance.is_some());
    let Some(ValidationContextType::ValidationContext(validation)) = common.validation_context_type
    else {
        panic!("no validation")
    };
    #[expect(deprecated, reason = "see above")]
    let names = validation.match_subject_alt_names;
    assert_eq!(names.len(), 2);
    assert!(validation.ca_certificate_provider_instance.is_some());

    let plain = pb::Cluster::decode(cluster(&cluster_of(None), "e", None)).unwrap();
    assert!(plain.transport_socket.is_none());
    assert_eq!(plain.circuit_breakers.unwrap().thresholds[0].max_requests, wire::uint(7));
}

#[test]
fn only_what_is_usable_is_sent_and_zones_share_by_their_members() {
    let endpoint = |last: u8, health, zone: &str| Endpoint {
        health,
        zone: zone.to_owned(),
        ..Endpoint::new(([10, 0, 0, last], 80).into())
    };
    let told = |endpoints| Endpoints { name: "e".to_owned(), endpoints };
    let all = told(vec![
        endpoint(1, Health::Ready, "a"),
        endpoint(2, Health::Draining, "a"),
        endpoint(3, Health::Ready, "b"),
        endpoint(4, Health::Ready, "b"),
        endpoint(5, Health::NotReady, "b"),
    ]);
    let message = ClusterLoadAssignment::decode(endpoints(&all.usable())).unwrap();
    let shares: Vec<_> = message
        .endpoints
        .iter()
        .map(|zone| (zone.lb_endpoints.len(), zone.load_balancing_weight.map(|w| w.value)))
        .collect();
    assert_eq!(shares, [(1, Some(1)), (2, Some(2))]);
    let ending = told(vec![endpoint(2, Health::Draining, ""), endpoint(5, Health::NotReady, "")]);
    assert_eq!(ending.usable().endpoints.len(), 1);
}

#[test]
fn our_own_proxy_takes_none_of_it_for_its_own() {
    let bytes = listener("web.shop:80", "service/shop/web/80");
    assert!(Resource::decode(Kind::Listener, "web.shop:80", &bytes).is_err());
}
