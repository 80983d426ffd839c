use tokio::{net::TcpListener, time::Instant};
use tonic::transport::Server;
use tulle_runtime::{drain, ready::Readiness};
use tulle_xds::{cache::Cache, server::AdsService};

use super::*;
use crate::{
    authorize::Pods,
    ca::{roots::Roots, server_certificate::ServerCertificate},
    server::{self, Limits},
    status::{Edition, Force},
    telemetry::Hub,
    world::objects::{Kind, Pod},
};

fn told(on: usize, of: usize, generation: i64) -> Told {
    let force = Force { on, of, waiting: of - on, ..Force::default() };
    Told { force, edition: Some(Edition { uid: "u".to_owned(), generation, turn: 0 }) }
}

fn there(roster: &Roster, name: &Name, account: &str, ready: bool) {
    let ips = vec!["10.0.0.1".parse().unwrap()];
    roster.set(
        name,
        Some(&Pod { ips, replica: ready, ..Pod::plain(name.clone(), account, "") }),
        "",
    );
}

/// What those say who are there beside `m/own`: `m/a` and `m/b`, which are ready.
fn others() -> (Others, Roster, [Name; 2]) {
    let (roster, own) = (Roster::default(), Name::new("m", "own"));
    let names = ["a", "b"].map(|name| Name::new("m", name));
    for name in names.iter().chain([&own]) {
        there(&roster, name, "control-plane", true);
    }
    (Others::than(own, roster.clone()), roster, names)
}

fn split() -> ObjectRef {
    ObjectRef { kind: Kind::HttpRoute, name: Name::new("shop", "split") }
}

fn total(others: &Others, own: Told) -> Told {
    others.totals(&[(split(), own)].into()).remove(&split()).unwrap()
}

#[test]
fn what_all_say_is_added_and_what_a_stream_said_ends_with_it() {
    let (others, _, [a, b]) = others();
    let said = |told: Told| std::iter::once((split(), told));
    let total = |own: Told| {
        let Told { force, edition } = total(&others, own);
        (force.on, force.of, force.waiting, edition.unwrap().generation, force.unheard.join(" "))
    };
    let all = String::new();
    others.begin(&a, 1);
    others.hear((&a, 1), 3, said(told(3, 3, 2)));
    others.begin(&b, 2);
    others.hear((&b, 2), 2, said(told(1, 2, 2)));
    assert_eq!(total(told(4, 4, 2)), (8, 9, 1, 2, all.clone()));
    // One is behind: what its proxies have taken is not what the object is now.
    assert_eq!(total(told(4, 4, 3)), (4, 9, 5, 3, "m/a m/b".to_owned()));
    // Back on another stream before the end of the first was seen.
    others.begin(&a, 3);
    others.hear((&a, 3), 2, said(told(2, 2, 2)));
    others.hear((&a, 1), 9, said(told(9, 9, 2)));
    others.end(&a, 1);
    assert_eq!(total(told(0, 0, 2)), (3, 4, 1, 2, all));
    others.hear((&a, 3), 2, said(Told::default()));
    assert_eq!(total(told(4, 4, 2)), (5, 6, 1, 2, "m/a".to_owned()));
    others.end(&b, 2);
    assert_eq!(total(told(4, 4, 2)), (4, 4, 0, 2, "m/a m/b".to_owned()));
}

#[test]
fn a_replica_that_has_or_may_have_proxies_must_have_said_something() {
    let (others, roster, [a, b]) = others();
    let total = || {
        let Force { on, of, unheard, .. } = total(&others, told(6, 6, 1)).force;
        (on, of, unheard.join(" "))
    };
    let say = |streams, told: Option<Told>| {
        others.hear((&a, 1), streams, told.into_iter().map(|told| (split(), told)));
    };
    assert_eq!(total(), (6, 6, "m/a m/b".to_owned()));
    // One never came up, or is lost with its node.
    there(&roster, &b, "control-plane", false);
    assert_eq!(total(), (6, 6, "m/a".to_owned()));
    // The other has nothing to say of it, which is not the same as that nobody there uses it.
    others.begin(&a, 1);
    say(2, None);
    assert_eq!(total(), (6, 6, "m/a".to_owned()));
    say(2, Some(told(0, 0, 1)));
    assert_eq!(total(), (6, 6, String::new()));
    // Its proxies have what was there under the name before.
    let edition = Some(Edition { uid: "earlier".to_owned(), generation: 1, turn: 0 });
    say(2, Some(Told { edition, ..told(2, 2, 1) }));
    assert_eq!(total(), (6, 8, "m/a".to_owned()));
    // It has proxies, ready or not.
    there(&roster, &a, "control-plane", false);
    say(2, Some(Told::default()));
    assert_eq!(total(), (6, 6, "m/a".to_owned()));
    say(0, None);
    assert_eq!(total(), (6, 6, String::new()));
    // It is no more: nor is what it said.
    say(2, Some(told(1, 2, 1)));
    assert_eq!(total(), (7, 8, String::new()));
    roster.set(&a, None, "");
    assert_eq!(total(), (6, 6, String::new()));
}

#[test]
fn each_has_its_share() {
    let others = Others::default();
    let shares = others.shares();
    assert_eq!(others.share(7), 7);
    let (a, b) = (Name::new("m", "a"), Name::new("m", "b"));
    others.begin(&a, 1);
    assert_eq!(others.share(7), 7);
    others.hear((&a, 1), 0, std::iter::empty());
    assert_eq!(others.share(7), 4);
    others.begin(&b, 2);
    others.hear((&b, 2), 2, std::iter::empty());
    assert_eq!((others.share(7), *shares.borrow()), (3, Some(3)));
    others.end(&a, 1);
    assert_eq!(others.share(7), 5);
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_hears_everybody_first() {
    let roster = Roster::default();
    let names = ["a", "b", "c"].map(|name| Name::new("m", name));
    for name in &names {
        there(&roster, name, "control-plane", true);
    }
    there(&roster, &Name::new("m", "broken"), "control-plane", false);
    there(&roster, &Name::new("m", "shell"), "default", true);
    let [own, b, c] = names;
    let replica = Replica { pod: own, ..replica(roster) };
    let others = &replica.others;
    let started = Instant::now();
    let say = async {
        for (at, other) in [b, c].iter().enumerate() {
            others.begin(other, at as u64);
            tokio::time::sleep(Duration::from_secs(1)).await;
            others.hear((other, at as u64), 0, std::iter::empty());
        }
    };
    tokio::join!(replica.all_heard(), say);
    assert_eq!(started.elapsed().as_secs(), 2);
    // One has left without a word: it is not waited for longer than that.
    others.end(&Name::new("m", "c"), 1);
    replica.all_heard().await;
    assert_eq!(started.elapsed(), Duration::from_secs(2) + GATHER);
}

/// `m/a`, where nothing listens yet.
fn replica(roster: Roster) -> Replica {
    let folder = tempfile::tempdir().unwrap();
    let roots = Roots::load_or_make(folder.path(), "cluster.local").unwrap();
    let trust_domain = "cluster.local".to_owned();
    let pods = Pods { roster: roster.clone(), trust_domain: trust_domain.clone() };
    let pod = Name::new("m", "a");
    let surveyor = Surveyor {
        ads: AdsService::new(Cache::new().0, Arc::new(pods)),
        roster: roster.clone(),
        hub: Hub::default(),
        told: watch::channel(Arc::default()).1,
    };
    Replica {
        others: Others::than(pod.clone(), roster.clone()),
        roster,
        pod,
        trust_domain,
        authority: Authority::new(roots, Duration::from_secs(3600)),
        port: 0,
        name: "m".to_owned(),
        surveyor,
        releases: Releases::new().0,
        connections: Connections::default(),
    }
}

/// `m/a`, which is told, with `m/b` and a pod that is none of the control plane.
async fn served() -> (Replica, impl Sized) {
    let a = replica(Roster::default());
    let certificate = ServerCertificate::new(a.authority.clone(), vec![a.name.clone()]).unwrap();
    let (current, tls) = watch::channel(server::tls(&a.authority.root(), certificate).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (trigger, drain) = drain::channel();
    let stages = (Readiness::new(), drain);
    let incoming = server::incoming(listener, tls, Limits::default(), Arc::default(), stages);
    for (name, account) in [("a", "control-plane"), ("b", "control-plane"), ("shell", "default")] {
        let name = Name::new("m", name);
        let ips = vec![address.ip()];
        a.roster.set(&name, Some(&Pod { ips, ..Pod::plain(name.clone(), account, "uid") }), "");
    }
    let server = Server::builder().add_service(a.service());
    tokio::spawn(server.serve_with_incoming(incoming.proven));
    (Replica { port: address.port(), ..a }, (current, trigger))
}

#[tokio::test]
async fn replicas_tell_the_leader_and_nobody_else_may() {
    let (a, _open) = served().await;
    let others = &a.others;
    let object = split();
    let start = |pod: &str| {
        let (say, own) = watch::channel(Arc::default());
        let (count, streams) = watch::channel(3);
        let (lead, leader) = watch::channel(Some(a.pod.clone()));
        let (share, told) = watch::channel(None);
        let replica = Replica { pod: Name::new("m", pod), others: Others::default(), ..a.clone() };
        (Teller { replica, own, streams, share, leader }, (say, count, lead), told)
    };
    let (b, (say, _count, lead), mut share) = start("b");
    let b = tokio::spawn(b.run());
    let total_is = async |on, of| {
        let there = || {
            let Force { on: taken, of: all, .. } = total(others, told(1, 1, 1)).force;
            (taken, all) == (on, of)
        };
        let wait = async {
            while !there() {
                others.changed().await;
            }
        };
        timeout(Duration::from_secs(10), wait).await.expect("it is told in time");
    };
    say.send_replace(Arc::new([(object.clone(), told(2, 3, 1))].into()));
    total_is(3, 4).await;
    assert_eq!(others.share(1), 2);
    share.wait_for(|share| *share == Some(2)).await.unwrap();
    say.send_replace(Arc::new([(object.clone(), told(3, 3, 1))].into()));
    total_is(4, 4).await;
    say.send_replace(Arc::default());
    total_is(1, 1).await;

    // A pod of the mesh that is no replica.
    let (shell, ..) = start("shell");
    let refused = shell.tell(&a.pod).await;
    assert!(refused.contains("is no control plane"), "{refused}");

    // Another leads: what was said to the one before is not held any more.
    say.send_replace(Arc::new([(object.clone(), told(3, 3, 1))].into()));
    total_is(4, 4).await;
    lead.send_replace(None);
    total_is(1, 1).await;
    share.wait_for(Option::is_none).await.unwrap();
    b.abort();
}

#[tokio::test]
async fn replicas_ask_each_other_about_versions_and_nobody_else_may() {
    let (a, _open) = served().await;
    let targets = [("shop".to_owned(), "cart".to_owned())];
    let ask = async |pod: &str| {
        let replica =
            Replica { pod: Name::new("m", pod), connections: Connections::default(), ..a.clone() };
        replica.versions(&a.pod, &targets).await
    };
    let told = a.surveyor.hub.versions("shop", "cart");
    assert_eq!(ask("b").await, Ok(targets.iter().cloned().map(|of| (of, told.clone())).collect()));
    let refused = ask("shell").await.unwrap_err().reason;
    assert!(refused.contains("is no control plane"), "{refused}");
}

#[tokio::test]
async fn replicas_ask_each_other_about_lanes_and_nobody_else_may() {
    let (a, _open) = served().await;
    let (namespace, name) = ("shop".to_owned(), "pr-1".to_owned());
    let asked = lanes::Ask { namespace, name, window: Duration::from_secs(60) };
    let ask = async |pod: &str| {
        let replica =
            Replica { pod: Name::new("m", pod), connections: Connections::default(), ..a.clone() };
        replica.lanes(&a.pod, &asked, true).await
    };
    assert_eq!(ask("b").await.map(|told| told.counts.len()), Ok(0));
    let refused = ask("shell").await.unwrap_err().reason;
    assert!(refused.contains("is no control plane"), "{refused}");
}
