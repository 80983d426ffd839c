use std::time::Duration;

use proptest::prelude::*;
use tulle_xds::model::{
    Backend, Balance, Endpoint, Limits, Match, Origin, Protocol, Rule, Timeouts, UpstreamProtocol,
};

use super::*;

const ADDRESS: &str = "10.96.0.7:9080";

fn address() -> SocketAddr {
    ADDRESS.parse().unwrap()
}

fn listener(at: &str, route: &str) -> Resource {
    Resource::Listener(Listener {
        name: at.to_owned(),
        address: at.parse().unwrap(),
        protocol: Protocol::Http,
        service: None,
        route: Some(route.to_owned()),
        backends: Vec::new(),
        by_name: Vec::new(),
        only_named: false,
        idle: None,
        origin: Origin::default(),
        setters: Vec::new(),
    })
}

fn route(name: &str, clusters: &[&str]) -> Resource {
    let backend =
        |cluster: &&str| Backend { cluster: (*cluster).to_owned(), weight: 1, filters: Vec::new() };
    Resource::Route(RouteConfiguration {
        name: name.to_owned(),
        rules: vec![Rule {
            matches: Match::default(),
            filters: Vec::new(),
            action: Action::Forward(clusters.iter().map(backend).collect()),
            timeouts: Timeouts::default(),
            retry: None,
            stick: None,
            mirrors: Vec::new(),
            origin: Origin::default(),
            setters: Vec::new(),
        }],
    })
}

fn cluster(name: &str) -> Resource {
    Resource::Cluster(model::Cluster {
        name: name.to_owned(),
        service: None,
        protocol: Protocol::Http,
        upstream_protocol: UpstreamProtocol::Same,
        balance: Balance::default(),
        limits: Limits::default(),
        ejection: None,
        connect_timeout: Duration::from_secs(5),
        origin: Origin::default(),
        setters: Vec::new(),
        released: Default::default(),
    })
}

fn endpoints(name: &str, hosts: u8) -> Resource {
    let endpoint = |host| Endpoint::new(([10, 244, 0, host], 9080).into());
    Resource::Endpoints(Endpoints {
        name: name.to_owned(),
        endpoints: (0..hosts).map(endpoint).collect(),
    })
}

/// Tells one thing and returns what is subscribed (`+`) and no longer (`-`).
fn tell(table: &mut Table, resource: Resource) -> Vec<String> {
    table.update(vec![resource], &[]);
    settled(table)
}

fn settled(table: &mut Table) -> Vec<String> {
    let text = |effect| match effect {
        Effect::Subscribe(kind, name) => format!("+{kind:?} {name}"),
        Effect::Unsubscribe(kind, name) => format!("-{kind:?} {name}"),
    };
    table.settle().into_iter().map(text).collect()
}

fn destination(table: &mut Table) -> Option<Arc<Destination>> {
    table.changed = true;
    match table.snapshot()?.listeners.get(&address())? {
        Lookup::Known(destination) => Some(Arc::clone(destination)),
        Lookup::Absent(_) => None,
    }
}

/// A table that knows [`ADDRESS`] with route `r` to cluster `a`.
fn known() -> Table {
    let mut table = Table::default();
    table.want(address(), 0, true).unwrap();
    assert_eq!(settled(&mut table), ["+Listener 10.96.0.7:9080"]);
    assert_eq!(tell(&mut table, listener(ADDRESS, "r")), ["+Route r"]);
    assert_eq!(tell(&mut table, route("r", &["a"])), ["+Cluster a", "+Endpoints a"]);
    assert!(table.snapshot().is_none(), "nothing is published before all is there");
    assert!(tell(&mut table, cluster("a")).is_empty());
    assert!(table.snapshot().is_none());
    assert!(tell(&mut table, endpoints("a", 2)).is_empty());
    let mesh = table.snapshot().unwrap();
    assert_eq!(mesh.generation, 1);
    table
}

#[test]
fn follows_an_address_to_its_endpoints() {
    let mut table = known();
    let destination = destination(&mut table).unwrap();
    assert_eq!(destination.clusters["a"].endpoints().all().len(), 2);
}

#[test]
fn endpoints_are_swapped_without_a_new_snapshot() {
    let mut table = known();
    let before = destination(&mut table).unwrap();
    assert!(table.snapshot().is_none());
    assert!(tell(&mut table, endpoints("a", 5)).is_empty());
    assert!(tell(&mut table, cluster("a")).is_empty());
    assert!(table.snapshot().is_none());
    assert_eq!(before.clusters["a"].endpoints().all().len(), 5);
}

#[test]
fn a_route_to_a_new_cluster_waits_for_what_is_said_of_its_endpoints() {
    let mut table = known();
    let new = tell(&mut table, route("r", &["a", "b"]));
    assert_eq!(new, ["+Cluster b", "+Endpoints b"]);
    assert!(tell(&mut table, cluster("b")).is_empty());
    assert!(table.snapshot().is_none(), "the old route serves on");
    assert!(tell(&mut table, endpoints("b", 1)).is_empty());
    let first = destination(&mut table).unwrap();
    assert_eq!(first.clusters.len(), 2);
    // And back: what is named no longer is let go, what stays keeps its load.
    assert_eq!(tell(&mut table, route("r", &["a"])), ["-Cluster b", "-Endpoints b"]);
    let second = destination(&mut table).unwrap();
    assert_eq!(second.clusters.len(), 1);
    assert!(Arc::ptr_eq(&first.clusters["a"], &second.clusters["a"]));
}

#[test]
fn that_there_are_no_endpoints_is_an_answer() {
    for none in [true, false] {
        let mut table = known();
        tell(&mut table, route("r", &["b"]));
        tell(&mut table, cluster("b"));
        assert!(table.snapshot().is_none(), "nothing is said of endpoints yet");
        if none {
            tell(&mut table, endpoints("b", 0));
        } else {
            table.update(Vec::new(), &[(Kind::Endpoints, "b".to_owned())]);
            settled(&mut table);
        }
        let now = destination(&mut table).unwrap();
        assert_eq!(now.clusters.keys().collect::<Vec<_>>(), ["b"]);
        assert!(now.clusters["b"].pick(&[]).is_none());
        // Whoever comes later serves without another snapshot.
        tell(&mut table, endpoints("b", 1));
        assert!(now.clusters["b"].pick(&[]).is_some());
    }
}

#[test]
fn endpoints_that_go_before_the_route_to_them_serve_until_it_has_changed() {
    let mut table = known();
    let before = destination(&mut table).unwrap();
    let gone = [(Kind::Cluster, "a".to_owned()), (Kind::Endpoints, "a".to_owned())];
    table.update(Vec::new(), &gone);
    settled(&mut table);
    assert!(table.snapshot().is_none());
    assert!(before.clusters["a"].pick(&[]).is_some());
    tell(&mut table, route("r", &["b"]));
    tell(&mut table, cluster("b"));
    assert!(before.clusters["a"].pick(&[]).is_some());
    assert_eq!(tell(&mut table, endpoints("b", 1)), ["-Cluster a", "-Endpoints a"]);
    assert_eq!(destination(&mut table).unwrap().clusters.keys().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn a_cluster_that_does_not_exist_keeps_the_old_route_but_not_a_first_one() {
    let mut table = known();
    tell(&mut table, route("r", &["gone"]));
    table.update(Vec::new(), &[(Kind::Cluster, "gone".to_owned())]);
    settled(&mut table);
    assert!(destination(&mut table).unwrap().clusters.contains_key("a"));

    let mut table = Table::default();
    table.want(address(), 0, true).unwrap();
    settled(&mut table);
    tell(&mut table, listener(ADDRESS, "r"));
    tell(&mut table, route("r", &["a", "gone"]));
    tell(&mut table, cluster("a"));
    tell(&mut table, endpoints("a", 1));
    assert!(table.snapshot().is_none());
    table.update(Vec::new(), &[(Kind::Cluster, "gone".to_owned())]);
    settled(&mut table);
    let first = destination(&mut table).unwrap();
    assert_eq!(first.clusters.keys().collect::<Vec<_>>(), ["a"]);
    // It is created after all.
    tell(&mut table, cluster("gone"));
    tell(&mut table, endpoints("gone", 1));
    assert_eq!(destination(&mut table).unwrap().clusters.len(), 2);
}

#[test]
fn a_removed_listener_is_absent_and_can_come_back() {
    let mut table = known();
    table.update(Vec::new(), &[(Kind::Listener, ADDRESS.to_owned())]);
    let gone = settled(&mut table);
    assert_eq!(gone, ["-Cluster a", "-Endpoints a", "-Route r"]);
    let mesh = table.snapshot().unwrap();
    assert!(matches!(mesh.listeners[&address()], Lookup::Absent(_)));
    tell(&mut table, listener(ADDRESS, "r"));
    tell(&mut table, route("r", &["a"]));
    tell(&mut table, cluster("a"));
    tell(&mut table, endpoints("a", 1));
    assert!(destination(&mut table).is_some());
}

#[test]
fn idle_addresses_are_let_go_with_all_that_they_named() {
    let mut table = known();
    table.let_go(IDLE - 1);
    assert!(settled(&mut table).is_empty());
    destination(&mut table).unwrap().used.touch(IDLE);
    table.let_go(2 * IDLE - 1);
    assert!(settled(&mut table).is_empty());
    table.let_go(2 * IDLE);
    let gone = settled(&mut table);
    assert_eq!(gone, ["-Cluster a", "-Endpoints a", "-Listener 10.96.0.7:9080", "-Route r"]);
    assert!(table.snapshot().unwrap().listeners.is_empty());
}

fn nth(n: usize) -> SocketAddr {
    let [high, low] = u16::try_from(n).unwrap().to_be_bytes();
    SocketAddr::from(([10, 96, high, low], 80))
}

#[test]
fn a_scanner_finds_bounds() {
    let mut table = Table::default();
    for n in 0..MAX_ADDRESSES {
        table.want(nth(n), n as u64, false).unwrap();
    }
    assert_eq!(table.want(nth(MAX_ADDRESSES), 0, false), Err(Full), "the control plane is away");
    assert_eq!(table.want(nth(MAX_ADDRESSES), 0, true), Ok(()));
    assert!(!table.addresses.contains_key(&nth(0)), "the least recently used one made room");
    let removed: Vec<_> = table.addresses.keys().map(|a| (Kind::Listener, a.to_string())).collect();
    table.update(Vec::new(), &removed);
    table.let_go(0);
    assert_eq!(table.addresses.len(), MAX_ABSENT);
    assert!(!table.addresses.contains_key(&nth(1)) && table.addresses.contains_key(&nth(4095)));
}

#[derive(Debug, Clone)]
enum Step {
    Want(u8),
    Listener(u8, u8),
    Route(u8, Vec<u8>),
    Cluster(u8),
    Endpoints(u8, u8),
    Removed(Kind, u8),
    Idle,
}

fn step() -> impl Strategy<Value = Step> {
    let n = || 0..4_u8;
    let kind =
        prop::sample::select(vec![Kind::Listener, Kind::Route, Kind::Cluster, Kind::Endpoints]);
    prop_oneof![
        4 => n().prop_map(Step::Want),
        4 => (n(), n()).prop_map(|(a, r)| Step::Listener(a, r)),
        4 => (n(), prop::collection::vec(n(), 0..3)).prop_map(|(r, c)| Step::Route(r, c)),
        6 => n().prop_map(Step::Cluster),
        6 => (n(), 0..3_u8).prop_map(|(c, count)| Step::Endpoints(c, count)),
        2 => (kind, n()).prop_map(|(k, name)| Step::Removed(k, name)),
        1 => Just(Step::Idle),
    ]
}

fn name_of(kind: Kind, n: u8) -> String {
    if kind == Kind::Listener { nth(n.into()).to_string() } else { format!("{kind:?}{n}") }
}

fn take(table: &mut Table, step: Step) {
    let names = |kind, n: Vec<u8>| n.into_iter().map(|n| name_of(kind, n)).collect::<Vec<_>>();
    let changed = match step {
        Step::Want(n) => return table.want(nth(n.into()), 0, true).unwrap(),
        Step::Idle => return table.let_go(IDLE),
        Step::Removed(kind, n) => return table.update(Vec::new(), &[(kind, name_of(kind, n))]),
        Step::Listener(a, r) => listener(&nth(a.into()).to_string(), &name_of(Kind::Route, r)),
        Step::Route(r, c) => {
            let clusters = names(Kind::Cluster, c);
            route(
                &name_of(Kind::Route, r),
                &clusters.iter().map(String::as_str).collect::<Vec<_>>(),
            )
        }
        Step::Cluster(c) => cluster(&name_of(Kind::Cluster, c)),
        Step::Endpoints(c, count) => endpoints(&name_of(Kind::Cluster, c), count),
    };
    table.update(vec![changed], &[]);
}

proptest! {
    /// Whatever comes in whatever order: subscriptions are what is named, effects never say the
    /// same thing twice, a second settling changes nothing, and what is in force is only taken
    /// back when its address is.
    #[test]
    fn any_order_of_events(steps in prop::collection::vec(step(), 0..60)) {
        let mut table = Table::default();
        let mut subscribed = BTreeSet::new();
        let mut in_force = BTreeSet::new();
        for step in steps {
            take(&mut table, step);
            for effect in table.settle() {
                match effect {
                    Effect::Subscribe(kind, name) => prop_assert!(subscribed.insert((kind, name))),
                    Effect::Unsubscribe(kind, name) => {
                        prop_assert!(subscribed.remove(&(kind, name)));
                    }
                }
            }
            prop_assert_eq!(&subscribed, &table.subscribed);
            prop_assert!(table.settle().is_empty());
            let slots: BTreeSet<_> =
                table.clusters.keys().map(|name| (Kind::Cluster, name.clone())).collect();
            let clusters: BTreeSet<_> =
                subscribed.iter().filter(|(kind, _)| *kind == Kind::Cluster).cloned().collect();
            prop_assert_eq!(slots, clusters);

            table.changed = true;
            let mesh = table.snapshot().unwrap();
            for address in &in_force {
                let known = matches!(mesh.listeners.get(address), Some(Lookup::Known(_)));
                let told = table.addresses.get(address).map(|entry| &entry.listener);
                prop_assert!(known || matches!(told, None | Some(Told::Absent)));
            }
            in_force.clear();
            for (address, lookup) in &mesh.listeners {
                if let Lookup::Known(destination) = lookup {
                    in_force.insert(*address);
                    prop_assert!(destination.route.is_some());
                    let named: BTreeSet<_> =
                        clusters_of(&destination.listener, destination.route.as_deref()).collect();
                    prop_assert!(destination.clusters.keys().all(|name| named.contains(&**name)));
                }
            }
        }
    }
}
