use std::collections::HashSet;

use proptest::prelude::*;
use tulle_xds::model::{
    self, Balance, Endpoint, Endpoints, Health, Here, Limits, Origin, Protocol, UpstreamProtocol,
};

use super::*;

const BASE: Duration = Duration::from_secs(30);
const NAME: &str = "service/shop/cart/80";

fn told() -> Ejection {
    Ejection {
        consecutive_5xx: Some(3),
        consecutive_local_failures: Some(2),
        base_time: BASE,
        max_time: BASE * 3,
        interval: Duration::from_secs(10),
        max_percent: 50,
    }
}

fn endpoints(hosts: &[(u8, Health)]) -> Endpoints {
    let endpoint = |&(host, health): &(u8, Health)| Endpoint {
        health,
        ..Endpoint::new(([10, 244, 0, host], 80).into())
    };
    Endpoints { name: NAME.to_owned(), endpoints: hosts.iter().map(endpoint).collect() }
}

fn settings(ejection: Option<Ejection>) -> model::Cluster {
    model::Cluster {
        name: NAME.to_owned(),
        service: None,
        protocol: Protocol::Http,
        upstream_protocol: UpstreamProtocol::Same,
        balance: Balance::RoundRobin,
        limits: Limits::default(),
        ejection,
        connect_timeout: Duration::from_secs(5),
        origin: Origin::default(),
        setters: Vec::new(),
        released: Default::default(),
    }
}

fn cluster(ready: u8) -> Cluster {
    let hosts: Vec<_> = (0..ready).map(|host| (host, Health::Ready)).collect();
    Cluster::new(settings(Some(told())), endpoints(&hosts))
}

fn fail(cluster: &Cluster, host: usize, now: Instant) -> Option<Out> {
    let endpoint = Arc::clone(&cluster.endpoints().all()[host]);
    (0..3).find_map(|_| cluster.judge(&endpoint, Verdict::ServerError, now))
}

fn eligible(cluster: &Cluster) -> Vec<u8> {
    let last = |state: &Arc<EndpointState>| match state.address().ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => panic!("IPv4 only"),
    };
    cluster.endpoints().eligible().iter().map(last).collect()
}

#[test]
fn only_failures_in_a_row_count_and_each_kind_for_itself() {
    use Verdict::{Answers, Good, LocalFailure as Lost, ServerError as Bad};
    for (verdicts, cause) in [
        (&[Bad, Bad, Bad][..], Some(Cause::ServerErrors)),
        (&[Bad, Bad, Good, Bad, Bad], None),
        (&[Bad, Bad, Lost, Bad], Some(Cause::ServerErrors)),
        (&[Bad, Bad, Answers, Bad], Some(Cause::ServerErrors)),
        (&[Lost, Lost], Some(Cause::LocalFailures)),
        (&[Lost, Good, Lost], None),
        (&[Lost, Bad, Lost], None),
        (&[Lost, Answers, Lost], None),
    ] {
        let streaks = Streaks::default();
        let found: Vec<_> = verdicts.iter().map(|&v| streaks.count(&told(), v)).collect();
        let (last, earlier) = found.split_last().unwrap();
        assert_eq!((*last, earlier.iter().flatten().count()), (cause, 0), "{verdicts:?}");
    }
    let never = Ejection { consecutive_5xx: None, ..told() };
    let streaks = Streaks::default();
    assert!((0..100).all(|_| streaks.count(&never, Bad).is_none()));
}

#[test]
fn a_share_may_go_the_first_always_and_never_the_last() {
    for (of, max_percent, go) in
        [(1, 100, 0), (2, 0, 1), (2, 100, 1), (3, 50, 1), (3, 100, 2), (10, 10, 1), (10, 40, 4)]
    {
        let told = Ejection { max_percent, ..told() };
        let (mut outs, now) = (Outs::default(), Instant::now());
        let gone =
            (0..of).filter_map(|id| outs.eject(&told, id, 0..of, Cause::ServerErrors, now)).count();
        assert_eq!(gone, go, "{max_percent} % of {of}");
        assert_eq!(outs.eject(&told, of, 0..of, Cause::ServerErrors, now), None, "not among them");
        assert_eq!(outs.eject(&told, 0, 0..of, Cause::ServerErrors, now), None, "out already");
    }
}

#[test]
fn the_time_out_grows_to_its_bound_and_shrinks_with_each_look_at_a_well_endpoint() {
    let (mut outs, mut now) = (Outs::default(), Instant::now());
    let eject = |outs: &mut Outs, now| {
        outs.eject(&told(), 7, [7, 8], Cause::ServerErrors, now).unwrap().time
    };
    for times in [1, 2, 3, 3, 3] {
        assert_eq!(eject(&mut outs, now), BASE * times);
        now += BASE * times - Duration::from_millis(1);
        assert!(outs.look(&told(), |_| true, now).is_empty());
        now += Duration::from_millis(1);
        assert_eq!(outs.look(&told(), |_| true, now), [7]);
    }
    for _ in 0..2 {
        assert!(outs.look(&told(), |_| true, now).is_empty());
    }
    assert_eq!(eject(&mut outs, now), BASE * 2);
    assert!(!outs.is_over());
    outs.look(&told(), |_| false, now);
    assert!(outs.is_over() && !outs.is_out(7), "who is gone is forgotten");
}

#[test]
fn it_is_left_out_through_updates_and_back_after_its_time() {
    let (cluster, now) = (cluster(3), Instant::now());
    let out = fail(&cluster, 1, now).unwrap();
    assert_eq!((out.cause, out.time, out.times), (Cause::ServerErrors, BASE, 1));
    assert_eq!(eligible(&cluster), [0, 2]);
    cluster.set_endpoints(endpoints(&[1, 2, 3, 4].map(|host| (host, Health::Ready))));
    assert_eq!(eligible(&cluster), [2, 3, 4]);
    assert_eq!(cluster.ejected(), 1);
    assert!(cluster.look(now + BASE / 2).is_empty());
    assert_eq!(cluster.look(now + BASE).len(), 1);
    assert_eq!((eligible(&cluster), cluster.ejected()), (vec![1, 2, 3, 4], 0));
}

#[test]
fn where_all_others_are_gone_one_that_fails_is_better_than_none() {
    let (cluster, now) = (cluster(2), Instant::now());
    assert!(fail(&cluster, 0, now).is_some());
    assert!(fail(&cluster, 1, now).is_none(), "the last one stays");
    cluster.set_endpoints(endpoints(&[(0, Health::Ready), (1, Health::Draining)]));
    assert_eq!(eligible(&cluster), [0]);
    cluster.set_endpoints(endpoints(&[(0, Health::Ready), (9, Health::Ready)]));
    assert_eq!(eligible(&cluster), [9]);
}

#[test]
fn without_the_policy_all_are_back_at_once() {
    let (cluster, now) = (cluster(3), Instant::now());
    assert!(fail(&cluster, 0, now).is_some());
    cluster.update(settings(None));
    assert_eq!(eligible(&cluster), [0, 1, 2]);
    assert!(fail(&cluster, 0, now).is_none());
    assert!(cluster.outs().is_over());
}

#[derive(Debug, Clone)]
enum Step {
    Judge(u8, Verdict),
    Endpoints(Vec<(u8, Health)>),
    Settings(Option<u32>),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    use Verdict::{Answers, Good, LocalFailure, ServerError};
    let verdict = prop::sample::select(vec![Good, Answers, ServerError, ServerError, LocalFailure]);
    let health = prop::sample::select(vec![Health::Ready, Health::Ready, Health::Draining]);
    prop_oneof![
        12 => (0..6_u8, verdict).prop_map(|(host, verdict)| Step::Judge(host, verdict)),
        1 => prop::collection::btree_map(0..6_u8, health, 0..6)
            .prop_map(|hosts| Step::Endpoints(hosts.into_iter().collect())),
        1 => prop::option::weighted(0.8, 0..=100_u32).prop_map(Step::Settings),
        2 => (0..100_u64).prop_map(Step::Pass),
    ]
}

proptest! {
    /// Whatever happens in whatever order: while any endpoint may get requests one is chosen, nobody
    /// goes without as many failures in a row, the bounds hold, and nobody is out for too long.
    #[test]
    fn any_order_of_events(steps in prop::collection::vec(step(), 0..120)) {
        let cluster = cluster(4);
        let (mut now, mut told) = (Instant::now(), Some(told()));
        let mut streaks: HashMap<u64, [u32; 2]> = HashMap::new();
        for step in steps {
            match step {
                Step::Endpoints(hosts) => cluster.set_endpoints(endpoints(&hosts)),
                Step::Settings(percent) => {
                    told = percent.map(|max_percent| Ejection { max_percent, ..self::told() });
                    cluster.update(settings(told));
                }
                Step::Pass(seconds) => {
                    now += Duration::from_secs(seconds);
                    for state in cluster.look(now) {
                        prop_assert!(cluster.out(&state).is_none());
                        state.streaks().forget();
                        streaks.remove(&state.id());
                    }
                    for state in cluster.endpoints().all() {
                        let over = cluster.out(state).is_some_and(|o| o.since + o.time <= now);
                        prop_assert!(!over);
                    }
                }
                Step::Judge(host, verdict) => {
                    let set = cluster.endpoints();
                    let ip = std::net::IpAddr::from([10, 244, 0, host]);
                    let found = set.all().iter().find(|state| state.address().ip() == ip);
                    let Some(state) = found else { continue };
                    let [bad, lost] = streaks.entry(state.id()).or_default();
                    if told.is_some() {
                        match verdict {
                            Verdict::Good => (*bad, *lost) = (0, 0),
                            Verdict::Answers => *lost = 0,
                            Verdict::ServerError => (*bad, *lost) = (*bad + 1, 0),
                            Verdict::LocalFailure => *lost += 1,
                        }
                    }
                    let ready = set.ready(&Here::default()).len();
                    let before = set.ready(&Here::default()).iter().filter(|s| cluster.out(s).is_some()).count();
                    let judged = cluster.judge(state, verdict, now);
                    if let Some(out) = judged {
                        prop_assert!(*bad >= 3 || *lost >= 2, "{out:?}");
                        prop_assert!(out.time >= BASE && out.time <= BASE * 3);
                        prop_assert!(before + 1 < ready);
                        let percent = told.unwrap().max_percent as usize;
                        prop_assert!(before == 0 || (before + 1) * 100 <= percent * ready);
                    }
                    (*bad, *lost) = (*bad % 3, *lost % 2);
                }
            }
            let set = cluster.endpoints();
            let eligible: HashSet<_> = set.eligible().iter().map(|s| s.id()).collect();
            let ready = set.ready(&Here::default());
            let well = ready.iter().filter(|s| cluster.out(s).is_none()).count();
            prop_assert_eq!(eligible.len(), if well == 0 { ready.len() } else { well });
            let picked = cluster.pick(&[]);
            prop_assert_eq!(picked.is_some(), !ready.is_empty());
            prop_assert!(picked.is_none_or(|state| eligible.contains(&state.id())));
        }
    }
}
