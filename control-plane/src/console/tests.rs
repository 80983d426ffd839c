use std::{collections::BTreeSet, sync::Arc};

use super::*;
use crate::{
    replicas::Stream,
    status::{Force, Standing, Told},
    telemetry::Scope,
    world::objects::{Kind, Name, ObjectRef},
};

fn stream(pod: (&str, &str), (resources, accepted): (usize, usize)) -> Stream {
    Stream {
        pod: Name::new(pod.0, pod.1),
        workload: None,
        data_plane: "tulle".to_owned(),
        version: "0.1.0".to_owned(),
        resources,
        accepted,
        rejections: Vec::new(),
        reports: true,
        certificate_ends: 1_800_000_000,
    }
}

fn told(on: usize, of: usize) -> Told {
    Told { force: Force { on, of, waiting: of - on, ..Force::default() }, edition: None }
}

fn route(namespace: &str) -> ObjectRef {
    ObjectRef { kind: Kind::HttpRoute, name: Name::new(namespace, "web") }
}

/// Two replicas that answered, and one that did not.
fn surveys() -> Surveys {
    let mut late = stream(("shop", "web-2"), (3, 2));
    let bad = stream(("bank", "vault"), (3, 2));
    let bad = Stream { rejections: vec![("a".to_owned(), "port: is 0".to_owned())], ..bad };
    late.reports = false;
    let survey = |streams, on| Survey {
        version: "0.1.0".to_owned(),
        streams,
        told: [(route("shop"), told(on, 2)), (route("bank"), told(on, 2))].into(),
    };
    Surveys {
        heard: vec![
            ("m/a".to_owned(), survey(vec![stream(("shop", "web-1"), (3, 3)), bad], 2)),
            ("m/b".to_owned(), survey(vec![late], 1)),
        ],
        unheard: vec!["m/c".to_owned()],
    }
}

fn shop() -> Scope {
    Scope::Namespaces(BTreeSet::from(["shop".to_owned()]))
}

#[test]
fn the_mesh_is_what_all_replicas_say_as_far_as_one_may_see_it() {
    let all = mesh::view(&surveys(), &Scope::All);
    let states: Vec<_> = all
        .proxies
        .iter()
        .map(|proxy| (proxy.pod.as_str(), proxy.state, proxy.reporting))
        .collect();
    use mesh::State;
    assert_eq!(
        states,
        [
            ("vault", State::Rejecting, true),
            ("web-1", State::Synced, true),
            ("web-2", State::Behind, false)
        ]
    );
    assert_eq!(all.proxies[0].certificate_ends, Some(1_800_000_000));
    let replicas: Vec<_> = all.replicas.iter().map(|one| (one.heard, one.proxies)).collect();
    assert_eq!(replicas, [(true, Some(2)), (true, Some(1)), (false, None)]);
    let part = mesh::view(&surveys(), &shop());
    assert!(part.proxies.iter().all(|proxy| proxy.namespace == "shop") && part.proxies.len() == 2);
}

#[test]
fn a_policy_is_in_force_where_the_proxies_of_all_replicas_have_it() {
    let standings =
        ["shop", "bank"].map(|namespace| (route(namespace), Arc::<Standing>::default()));
    let report = Report { standings: standings.into(), ..Report::default() };
    let all = policies::view(&report, &surveys(), &Scope::All);
    let counts: Vec<_> =
        all.items.iter().map(|item| (item.namespace.as_str(), item.in_force, item.of)).collect();
    assert_eq!(counts, [("bank", 3, 4), ("shop", 3, 4)]);
    assert_eq!(all.items[0].problem.as_deref(), Some("in force on 3 of 4 proxies"));
    let part = policies::view(&report, &surveys(), &shop());
    assert_eq!(part.items.iter().map(|item| item.namespace.as_str()).collect::<Vec<_>>(), ["shop"]);
}
