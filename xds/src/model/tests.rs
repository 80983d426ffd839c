//! For arbitrary valid resources: what is decoded is what was encoded, the bytes are always the
//! same, and whatever else is in a message is refused.

mod any;

use std::time::Duration;

use envoy_types::pb::{
    envoy::config::{
        cluster::v3::Cluster as PbCluster,
        listener::v3::Listener as PbListener,
        route::v3::{
            RouteAction, RouteConfiguration as PbRoutes, route,
            route_action::{ClusterSpecifier, HashPolicy, hash_policy::PolicySpecifier},
            weighted_cluster::RandomValueSpecifier,
        },
    },
    google::protobuf::BoolValue,
};
use proptest::{collection::vec, prelude::*};
use prost::Message as _;

use self::any::resource;
use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_decoded_is_what_was_encoded(resource in resource()) {
        let bytes = resource.encode();
        prop_assert_eq!(&resource.encode(), &bytes, "the bytes are always the same");
        let decoded = Resource::decode(resource.kind(), resource.name(), &bytes);
        prop_assert_eq!(decoded, Ok(resource));
    }

    #[test]
    fn mutated_bytes_are_refused_or_mean_what_they_say(
        resource in resource(),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = resource.encode().to_vec();
        for (index, byte) in edits {
            if !bytes.is_empty() {
                let i = index.index(bytes.len());
                bytes[i] = byte;
            }
        }
        if let Ok(other) = Resource::decode(resource.kind(), resource.name(), &bytes) {
            prop_assert_eq!(other.encode().len(), bytes.len());
            let again = Resource::decode(resource.kind(), resource.name(), &other.encode());
            prop_assert_eq!(again, Ok(other));
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..200), kind in 0..5_usize) {
        let _maybe = Resource::decode(Kind::ALL[kind], "x", &bytes);
    }
}

fn plain_cluster() -> Cluster {
    Cluster {
        name: "service/shop/cart/80".to_owned(),
        service: None,
        protocol: Protocol::Detect,
        upstream_protocol: UpstreamProtocol::Same,
        balance: Balance::default(),
        limits: Limits::default(),
        ejection: None,
        connect_timeout: Duration::from_secs(5),
        origin: Origin::default(),
        setters: Vec::new(),
        released: Default::default(),
    }
}

fn refused(message: &impl prost::Message, kind: Kind, name: &str) -> Invalid {
    Resource::decode(kind, name, &message.encode_to_vec()).expect_err("must be refused")
}

#[test]
fn what_the_model_cannot_say_is_refused_by_its_field() {
    let cluster = plain_cluster();
    let message = PbCluster::decode(cluster.encode()).unwrap();
    let refused = |change: fn(&mut PbCluster)| {
        let mut message = message.clone();
        change(&mut message);
        refused(&message, Kind::Cluster, &cluster.name).field
    };
    assert_eq!(
        refused(|m| m.ignore_health_on_host_removal = true),
        "ignore_health_on_host_removal"
    );
    assert_eq!(refused(|m| m.transport_socket = Some(Default::default())), "transport_socket");
    assert_eq!(refused(|m| m.connect_timeout = None), "connect_timeout");
    assert_eq!(refused(|m| m.name = "other".to_owned()), "name");
    assert_eq!(
        refused(|m| m.load_balancing_policy.as_mut().unwrap().policies.clear()),
        "load_balancing_policy.policies"
    );
    assert_eq!(
        refused(|m| m.circuit_breakers.as_mut().unwrap().thresholds[0].max_retries =
            Some(Default::default())),
        "circuit_breakers.thresholds[0].max_retries"
    );

    // A label is no behaviour.
    let mut labelled = message;
    labelled.alt_stat_name = "cart".to_owned();
    assert_eq!(Cluster::decode(&cluster.name, &labelled.encode_to_vec()), Ok(cluster));
}

#[test]
fn a_field_that_protobuf_does_not_know_is_refused() {
    let cluster = plain_cluster();
    let mut bytes = cluster.encode().to_vec();
    // Field 1000, varint 1.
    bytes.extend([0xc0, 0x3e, 0x01]);
    let error = Cluster::decode(&cluster.name, &bytes).expect_err("must be refused");
    assert_eq!(error.field, "message");
    assert!(error.reason.contains("does not know"), "{error}");
}

#[test]
fn a_filter_that_is_not_ours_is_refused() {
    let listener = Listener {
        name: "10.96.0.7:80".to_owned(),
        address: "10.96.0.7:80".parse().unwrap(),
        protocol: Protocol::Http,
        service: None,
        route: Some("service/shop/cart/80".to_owned()),
        backends: Vec::new(),
        by_name: Vec::new(),
        only_named: false,
        idle: None,
        origin: Origin::default(),
        setters: Vec::new(),
    };
    let mut message = PbListener::decode(listener.encode()).unwrap();
    let extra = message.filter_chains[0].filters[0].clone();
    message.filter_chains[0].filters.push(extra);
    let error = refused(&message, Kind::Listener, &listener.name);
    assert_eq!(error.field, "filter_chains[0].filters");

    let other = Listener::decode("10.96.0.8:80", &listener.encode()).expect_err("another name");
    assert_eq!(other.field, "name");
}

fn plain_rule() -> Rule {
    Rule {
        matches: Match { path: PathMatch::Exact("/".to_owned()), ..Match::default() },
        filters: Vec::new(),
        action: Action::Forward(vec![Backend {
            cluster: "c".to_owned(),
            weight: 1,
            filters: Vec::new(),
        }]),
        timeouts: Timeouts::default(),
        retry: None,
        stick: None,
        mirrors: Vec::new(),
        origin: Origin::default(),
        setters: Vec::new(),
    }
}

#[test]
fn a_bad_rule_is_named_by_its_index() {
    let rules = vec![plain_rule(), plain_rule()];
    let routes = RouteConfiguration { name: "r".to_owned(), rules };
    let good = PbRoutes::decode(routes.encode()).unwrap();

    let mut message = good.clone();
    message.virtual_hosts[0].routes[1].decorator = Some(Default::default());
    let error = refused(&message, Kind::Route, "r");
    assert_eq!(error.field, "virtual_hosts[0].routes[1].decorator");

    let mut message = good;
    let path = message.virtual_hosts[0].routes[1].r#match.as_mut().unwrap();
    let regex = envoy_types::pb::envoy::r#type::matcher::v3::RegexMatcher {
        regex: "(".to_owned(),
        ..Default::default()
    };
    path.path_specifier = Some(
        envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier::SafeRegex(regex),
    );
    let error = refused(&message, Kind::Route, "r");
    assert_eq!(error.field, "virtual_hosts[0].routes[1].match.safe_regex");
    assert!(error.reason.contains("unclosed group"), "{error}");
}

#[test]
fn who_sticks_does_so_by_envoys_hash_policy() {
    let rule = Rule { stick: Some(Stick::Cookie("sid".to_owned())), ..plain_rule() };
    let routes = RouteConfiguration { name: "r".to_owned(), rules: vec![rule] };
    // Envoy gets the same.
    for bytes in [routes.encode(), envoy::route(&routes)] {
        let message = PbRoutes::decode(bytes).unwrap();
        let route::Action::Route(action) =
            message.virtual_hosts[0].routes[0].action.as_ref().unwrap()
        else {
            panic!("{message:?}")
        };
        let [
            HashPolicy { policy_specifier: Some(PolicySpecifier::Cookie(cookie)), terminal: false },
        ] = &action.hash_policy[..]
        else {
            panic!("{action:?}")
        };
        // With a time to live Envoy would make one up.
        assert_eq!((cookie.name.as_str(), &cookie.ttl), ("sid", &None));
        let Some(ClusterSpecifier::WeightedClusters(clusters)) = &action.cluster_specifier else {
            panic!("{action:?}")
        };
        let by_hash = RandomValueSpecifier::UseHashPolicy(BoolValue { value: true });
        assert_eq!(clusters.random_value_specifier, Some(by_hash));
    }

    let refused = |change: fn(&mut RouteAction)| {
        let mut message = PbRoutes::decode(routes.encode()).unwrap();
        let action = message.virtual_hosts[0].routes[0].action.as_mut().unwrap();
        let route::Action::Route(action) = action else { panic!("{action:?}") };
        change(action);
        let field = refused(&message, Kind::Route, "r").field;
        field.trim_start_matches("virtual_hosts[0].routes[0].").to_owned()
    };
    assert_eq!(refused(|a| a.hash_policy.push(HashPolicy::default())), "route.hash_policy");
    assert_eq!(
        refused(|a| a.hash_policy = vec![HashPolicy::default()]),
        "route.hash_policy[0].policy_specifier"
    );
    assert_eq!(refused(|a| a.hash_policy[0].terminal = true), "action.hash_policy[0].terminal");
    let chance = refused(|a| {
        let Some(ClusterSpecifier::WeightedClusters(clusters)) = &mut a.cluster_specifier else {
            panic!("{a:?}")
        };
        clusters.random_value_specifier = None;
    });
    assert_eq!(chance, "action.cluster_specifier.random_value_specifier");

    // A proxy that does not know of it decides by chance.
    let older = Features::from_iter(Feature::all().filter(|known| *known != Feature::Sticky));
    let Resource::Route(within) = Resource::Route(routes.clone()).within(older) else {
        panic!("another kind")
    };
    assert_eq!(within.rules, [plain_rule()]);
    let all = Resource::Route(routes.clone()).within(Features::default());
    assert_eq!(all, Resource::Route(routes));
}
