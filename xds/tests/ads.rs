//! The real client and the real server over a loopback socket.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Extensions, Status,
    transport::{Endpoint, Server},
};
use tulle_xds::{
    cache::{Cache, Interest, Key, Want},
    client::{self, Ack, Client, ClientConfig, Event, Handle, Node},
    model::{Features, Here, Invalid, Kind, SpiffeId},
    server::{AdsService, Authorize, Caller, SessionStatus},
};

const POD: &str = "shop/cart-1";

/// Lets in whoever says that it is a pod.
struct ByName;

impl Authorize for ByName {
    fn authorize(&self, _: &Extensions, node: &Node) -> Result<Caller, Status> {
        let (namespace, _) =
            node.id.split_once('/').ok_or_else(|| Status::permission_denied("no pod"))?;
        let identity = SpiffeId::service_account("cluster.local", namespace, "default");
        Ok(Caller {
            pod: node.id.clone(),
            namespace: namespace.to_owned(),
            identity,
            here: Here::default(),
        })
    }
}

/// A control plane that can go away, and its one client.
struct Bench {
    cache: Cache,
    interest: Interest,
    address: Arc<Mutex<SocketAddr>>,
    service: AdsService,
    stop: Option<oneshot::Sender<()>>,
    handle: Handle,
    events: mpsc::Receiver<Event>,
}

impl Bench {
    async fn new(pod: &str) -> Self {
        let (cache, interest) = Cache::new();
        let (service, address, stop) = serve(&cache).await;
        let address = Arc::new(Mutex::new(address));
        let (handle, events) = client(&address, pod);
        Self { cache, interest, address, service, stop: Some(stop), handle, events }
    }

    async fn restart(&mut self) {
        let (service, address, stop) = serve(&self.cache).await;
        self.service = service;
        *self.address.lock() = address;
        self.stop = Some(stop);
    }

    fn put(&self, kind: Kind, name: &str, text: Option<&str>) {
        self.cache.put(Key::new(kind, name), text.map(|t| Bytes::from(t.to_owned())));
    }

    /// Waits until the server wants a name, and publishes it.
    async fn publish_wanted(&mut self, kind: Kind, name: &str, text: Option<&str>) {
        let want = timeout(Duration::from_secs(10), self.interest.recv()).await.unwrap();
        assert_eq!(want, Want::Wanted(Key::new(kind, name)));
        self.put(kind, name, text);
    }

    async fn event(&mut self) -> Event {
        timeout(Duration::from_secs(20), self.events.recv()).await.unwrap().unwrap()
    }

    async fn connected(&mut self) {
        loop {
            match self.event().await {
                Event::Connected => return,
                Event::Disconnected { .. } => {}
                Event::Update { .. } => panic!("an update before the stream"),
            }
        }
    }

    /// The next update: names and texts, names that are gone.
    async fn update(&mut self) -> (Kind, Vec<(String, String)>, Vec<String>, Ack) {
        match self.event().await {
            Event::Update { kind, changed, removed, ack } => {
                let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
                let changed = changed.iter().map(|r| (r.name.clone(), text(&r.bytes))).collect();
                (kind, changed, removed, ack)
            }
            other => panic!("{other:?}"),
        }
    }

    /// The next update must be this, and is accepted.
    async fn accept(&mut self, kind: Kind, name: &str, text: Option<&str>) {
        let (found, changed, removed, ack) = self.update().await;
        assert_eq!(found, kind);
        match text {
            Some(text) => assert_eq!(changed, [(name.to_owned(), text.to_owned())]),
            None => assert_eq!(removed, [name]),
        }
        assert_eq!(changed.len() + removed.len(), 1);
        ack.accept();
    }

    /// Waits until the server's list of sessions looks as wanted.
    async fn sessions(&self, wanted: impl Fn(&[SessionStatus]) -> bool) -> Vec<SessionStatus> {
        let look = async {
            loop {
                let sessions = self.service.sessions();
                if wanted(&sessions) {
                    return sessions;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), look).await.unwrap()
    }
}

fn client(address: &Arc<Mutex<SocketAddr>>, pod: &str) -> (Handle, mpsc::Receiver<Event>) {
    let to = Arc::clone(address);
    let config = ClientConfig {
        node: Node {
            id: pod.to_owned(),
            version: "1.2.3".to_owned(),
            features: Features::default(),
        },
        connect: Arc::new(move || {
            let uri = format!("http://{}", *to.lock());
            Box::pin(async move {
                let endpoint = client::long_lived(Endpoint::from_shared(uri)?);
                Ok(endpoint.connect().await?)
            })
        }),
    };
    let (client, handle, events) = Client::new(config);
    tokio::spawn(client.run());
    (handle, events)
}

async fn serve(cache: &Cache) -> (AdsService, SocketAddr, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let service = AdsService::until(cache.clone(), Arc::new(ByName), async {
        stopped.await.unwrap_or(());
    });
    let server = Server::builder().add_service(service.clone().into_server());
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (service, address, stop)
}

fn name_status(
    sessions: &[SessionStatus],
    kind: Kind,
    name: &str,
) -> Option<tulle_xds::session::NameStatus> {
    let kinds = &sessions.first()?.kinds;
    let names = &kinds.iter().find(|k| k.kind == kind)?.names;
    names.iter().find(|n| n.name == name).cloned()
}

#[tokio::test]
async fn a_resource_comes_changes_goes_and_comes_again() {
    let mut bench = Bench::new(POD).await;
    bench.connected().await;
    // The client names its own workload without being told to.
    bench.publish_wanted(Kind::Workload, POD, Some("me")).await;
    bench.accept(Kind::Workload, POD, Some("me")).await;

    bench.handle.subscribe(Kind::Cluster, "a");
    bench.publish_wanted(Kind::Cluster, "a", None).await;
    bench.accept(Kind::Cluster, "a", None).await;
    bench.put(Kind::Cluster, "a", Some("1"));
    bench.accept(Kind::Cluster, "a", Some("1")).await;
    // Equal bytes are sent to nobody: the next that comes is the next change.
    bench.put(Kind::Cluster, "a", Some("1"));
    bench.put(Kind::Cluster, "a", Some("2"));
    bench.accept(Kind::Cluster, "a", Some("2")).await;
    bench.put(Kind::Cluster, "a", None);
    bench.accept(Kind::Cluster, "a", None).await;
    bench.put(Kind::Cluster, "a", Some("3"));
    bench.accept(Kind::Cluster, "a", Some("3")).await;

    bench.handle.unsubscribe(Kind::Cluster, "a");
    let gone = |s: &[SessionStatus]| name_status(s, Kind::Cluster, "a").is_none();
    let sessions = bench.sessions(gone).await;
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].caller.pod, POD);
    assert_eq!(sessions[0].version, "1.2.3");
}

#[tokio::test]
async fn what_is_rejected_is_known_and_the_rest_is_in_force() {
    let mut bench = Bench::new(POD).await;
    bench.connected().await;
    bench.publish_wanted(Kind::Workload, POD, Some("me")).await;
    bench.accept(Kind::Workload, POD, Some("me")).await;
    for name in ["bad", "good"] {
        bench.handle.subscribe(Kind::Cluster, name);
        bench.publish_wanted(Kind::Cluster, name, Some("1")).await;
        bench.accept(Kind::Cluster, name, Some("1")).await;
    }
    // Both change while an answer is due, so that they come together.
    bench.put(Kind::Cluster, "good", Some("2"));
    let (.., ack) = bench.update().await;
    bench.put(Kind::Cluster, "good", Some("3"));
    bench.put(Kind::Cluster, "bad", Some("3"));
    ack.accept();
    let (_, changed, _, ack) = bench.update().await;
    assert_eq!(changed.len(), 2);
    ack.reject(vec![Invalid {
        resource: "bad".to_owned(),
        field: "name".to_owned(),
        reason: "three\nis odd".to_owned(),
    }]);

    let known = |s: &[SessionStatus]| {
        name_status(s, Kind::Cluster, "bad").is_some_and(|n| n.rejected.is_some())
    };
    let sessions = bench.sessions(known).await;
    let bad = name_status(&sessions, Kind::Cluster, "bad").unwrap();
    assert_eq!(bad.rejected.as_deref(), Some("name: three is odd"));
    assert!(bad.accepted.is_some() && bad.accepted != bad.sent, "{bad:?}");
    let good = name_status(&sessions, Kind::Cluster, "good").unwrap();
    assert_eq!((good.rejected, good.accepted.is_some()), (None, true));
    assert_eq!(good.accepted, good.sent);

    // A better version clears it.
    bench.put(Kind::Cluster, "bad", Some("4"));
    bench.accept(Kind::Cluster, "bad", Some("4")).await;
    bench.sessions(|s| !known(s)).await;
}

#[tokio::test]
async fn after_a_reconnection_only_differences_come() {
    let mut bench = Bench::new(POD).await;
    bench.connected().await;
    bench.publish_wanted(Kind::Workload, POD, Some("me")).await;
    bench.accept(Kind::Workload, POD, Some("me")).await;
    for name in ["same", "changes", "goes"] {
        bench.handle.subscribe(Kind::Cluster, name);
        bench.publish_wanted(Kind::Cluster, name, Some("1")).await;
        bench.accept(Kind::Cluster, name, Some("1")).await;
    }
    drop(bench.stop.take());
    let Event::Disconnected { error } = bench.event().await else { panic!("still connected") };
    assert!(error.contains("shutting down"), "{error}");
    bench.put(Kind::Cluster, "changes", Some("2"));
    bench.put(Kind::Cluster, "goes", None);
    bench.restart().await;
    bench.connected().await;
    let (kind, changed, removed, ack) = bench.update().await;
    assert_eq!(kind, Kind::Cluster);
    assert_eq!(changed, [("changes".to_owned(), "2".to_owned())]);
    assert_eq!(removed, ["goes"]);
    ack.accept();
    // Nothing else was sent: the next is the next change.
    bench.put(Kind::Cluster, "same", Some("3"));
    bench.accept(Kind::Cluster, "same", Some("3")).await;
    assert_eq!(bench.interest.try_recv(), None, "the publisher had nothing to do");
}

#[tokio::test]
async fn a_client_that_is_sent_to_another_replica_goes_and_has_all_it_had() {
    let mut bench = Bench::new(POD).await;
    bench.connected().await;
    bench.publish_wanted(Kind::Workload, POD, Some("me")).await;
    bench.accept(Kind::Workload, POD, Some("me")).await;
    let here = bench.service.clone();
    let _open = bench.stop.take();
    bench.restart().await;
    here.end(1);
    let Event::Disconnected { error } = bench.event().await else { panic!("still connected") };
    assert!(error.contains("other replicas have fewer streams"), "{error}");
    bench.connected().await;
    assert_eq!((here.streams(), bench.sessions(|open| open.len() == 1).await.len()), (0, 1));
    // What it has is not sent again: the next is the next change.
    bench.put(Kind::Workload, POD, Some("me too"));
    bench.accept(Kind::Workload, POD, Some("me too")).await;
}

#[tokio::test]
async fn another_pods_workload_does_not_exist() {
    let mut bench = Bench::new(POD).await;
    bench.connected().await;
    bench.publish_wanted(Kind::Workload, POD, Some("me")).await;
    bench.accept(Kind::Workload, POD, Some("me")).await;
    bench.handle.subscribe(Kind::Workload, "bank/vault-0");
    bench.accept(Kind::Workload, "bank/vault-0", None).await;
    assert_eq!(bench.interest.try_recv(), None, "nobody even compiles it");
}

#[tokio::test]
async fn a_stranger_is_refused_with_the_reason() {
    let mut bench = Bench::new("stranger").await;
    let error = loop {
        match bench.event().await {
            Event::Connected => {}
            Event::Disconnected { error } => break error,
            Event::Update { .. } => panic!("it must not get anything"),
        }
    };
    assert!(error.contains("no pod"), "{error}");
    assert!(bench.service.sessions().is_empty());
}

#[tokio::test]
async fn an_update_that_is_dropped_counts_as_rejected() {
    let mut bench = Bench::new(POD).await;
    bench.connected().await;
    bench.publish_wanted(Kind::Workload, POD, Some("me")).await;
    let (.., ack) = bench.update().await;
    drop(ack);
    let known = |s: &[SessionStatus]| {
        name_status(s, Kind::Workload, POD).is_some_and(|n| n.rejected.is_some())
    };
    bench.sessions(known).await;
}

#[tokio::test]
async fn streams_of_one_pod_share_what_it_may_subscribe_to() {
    let mut bench = Bench::new(POD).await;
    bench.connected().await;
    let subscribe = |handle: &Handle, from: usize| {
        (from..from + 20_000).for_each(|n| handle.subscribe(Kind::Cluster, n.to_string()));
    };
    subscribe(&bench.handle, 0);
    let names = |status: &SessionStatus| status.kinds.iter().map(|k| k.names.len()).sum::<usize>();
    bench.sessions(|open| open.first().is_some_and(|one| names(one) > 20_000)).await;

    let (second, mut events) = client(&bench.address, POD);
    subscribe(&second, 20_000);
    let refused = async {
        loop {
            if let Event::Disconnected { error } = events.recv().await.unwrap() {
                return error;
            }
        }
    };
    let error = timeout(Duration::from_secs(20), refused).await.unwrap();
    assert!(error.contains("subscribe to more than 32768 names"), "{error}");
    // Another pod has its own.
    let (other, _events) = client(&bench.address, "shop/other");
    subscribe(&other, 20_000);
    let both = |open: &[SessionStatus]| open.iter().filter(|one| names(one) > 20_000).count() == 2;
    bench.sessions(both).await;
}
