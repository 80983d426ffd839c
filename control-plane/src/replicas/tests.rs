use tokio::{net::TcpListener, time::Instant};
use tonic::transport::Server;
use tulle_runtime::{drain, ready::Readiness};
use tulle_xds::cache::Cache;

use super::*;
use crate::{
    authorize::Pods,
    ca::{roots::Roots, server_certificate::ServerCertificate},
    server::{self, Limits},
    status::Force,
    world::objects::{Kind, Pod},
};

fn told(on: usize, of: usize, generation: i64) -> Told {
    let force = Force { on, of, waiting: of - on, ..Force::default() };
    Told { force, generation: Some(generation) }
}

#[test]
fn what_all_say_is_added_and_what_a_stream_said_ends_with_it() {
    let others = Others::default();
    let object = ObjectRef { kind: Kind::HttpRoute, name: Name::new("shop", "split") };
    let (a, b) = (Name::new("m", "a"), Name::new("m", "b"));
    let said = |told: Told| std::iter::once((object.clone(), told));
    let total = |own: Told| {
        let Told { force, generation } = others.total(&object, &own);
        (force.on, force.of, force.waiting, generation)
    };
    others.begin(&a, 1);
    others.hear((&a, 1), 3, said(told(3, 3, 2)));
    others.begin(&b, 2);
    others.hear((&b, 2), 2, said(told(1, 2, 2)));
    assert_eq!(total(told(4, 4, 2)), (8, 9, 1, Some(2)));
    // One is behind: what its proxies have taken is not what the object is now.
    assert_eq!(total(told(4, 4, 3)), (4, 9, 5, Some(3)));
    // Back on another stream before the end of the first was seen.
    others.begin(&a, 3);
    others.hear((&a, 3), 2, said(told(2, 2, 2)));
    others.hear((&a, 1), 9, said(told(9, 9, 2)));
    others.end(&a, 1);
    assert_eq!(total(told(0, 0, 2)), (3, 4, 1, Some(2)));
    others.hear((&a, 3), 2, said(told(0, 0, 2)));
    others.end(&b, 2);
    assert_eq!(total(told(4, 4, 2)), (4, 4, 0, Some(2)));
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
    let there = |name: &Name, account| {
        let ips = vec!["10.0.0.1".parse().unwrap()];
        roster.set(name, Some(&Pod { ips, ..Pod::plain(name.clone(), account, "") }));
    };
    for name in &names {
        there(name, "control-plane");
    }
    there(&Name::new("m", "shell"), "default");
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
    Replica {
        others: Others::default(),
        roster,
        pod: Name::new("m", "a"),
        trust_domain,
        authority: Authority::new(roots, Duration::from_secs(3600)),
        port: 0,
        name: "m".to_owned(),
        ads: AdsService::new(Cache::new().0, Arc::new(pods)),
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
        a.roster.set(&name, Some(&Pod { ips, ..Pod::plain(name.clone(), account, "uid") }));
    }
    let server = Server::builder().add_service(a.service());
    tokio::spawn(server.serve_with_incoming(incoming.proven));
    (Replica { port: address.port(), ..a }, (current, trigger))
}

#[tokio::test]
async fn replicas_tell_the_leader_and_nobody_else_may() {
    let (a, _open) = served().await;
    let others = &a.others;
    let object = ObjectRef { kind: Kind::HttpRoute, name: Name::new("shop", "split") };
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
    let total = async |on, of| {
        let there = || {
            let Force { on: taken, of: all, .. } = others.total(&object, &told(1, 1, 1)).force;
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
    total(3, 4).await;
    assert_eq!(others.share(1), 2);
    share.wait_for(|share| *share == Some(2)).await.unwrap();
    say.send_replace(Arc::new([(object.clone(), told(3, 3, 1))].into()));
    total(4, 4).await;
    say.send_replace(Arc::default());
    total(1, 1).await;

    // A pod of the mesh that is no replica.
    let (shell, ..) = start("shell");
    let refused = shell.tell(&a.pod).await;
    assert!(refused.contains("is no control plane"), "{refused}");

    // Another leads: what was said to the one before is not held any more.
    say.send_replace(Arc::new([(object.clone(), told(3, 3, 1))].into()));
    total(4, 4).await;
    lead.send_replace(None);
    total(1, 1).await;
    share.wait_for(Option::is_none).await.unwrap();
    b.abort();
}
