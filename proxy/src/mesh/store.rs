use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tulle_xds::model::{ExternalTraffic, Host, Workload};

use super::{
    Lookup, Mesh, Resolution,
    demand::{About, Asker, Questions, Refused},
};
use crate::{error::Reason, net::capture::canonical};

/// How long a connection waits for the control plane's answer about its destination.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reads the current [`Mesh`], and asks for what is not in it. Clones share everything.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
    asker: Asker,
}

#[derive(Debug)]
struct Shared {
    mesh: ArcSwap<Mesh>,
    generation: watch::Sender<u64>,
    started: Instant,
}

/// The writer's end: publishes snapshots.
#[derive(Debug)]
pub(crate) struct Publisher {
    shared: Arc<Shared>,
}

impl Store {
    /// An empty store, its one publisher, and the questions that the writer answers.
    pub(crate) fn new() -> (Self, Publisher, Questions) {
        let shared = Arc::new(Shared {
            mesh: ArcSwap::default(),
            generation: watch::Sender::new(0),
            started: Instant::now(),
        });
        let (asker, questions) = Asker::new();
        (Self { shared: Arc::clone(&shared), asker }, Publisher { shared }, questions)
    }

    /// The snapshot in force. A request reads it once.
    pub fn current(&self) -> Arc<Mesh> {
        self.shared.mesh.load_full()
    }

    /// Changes with every snapshot: its generation.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.shared.generation.subscribe()
    }

    /// What stands behind `address`. Immediate if that is known, as it is for every request after
    /// the first; else the control plane is asked, and after 1 s without an answer the address is
    /// refused. To be called for each request: a call is what keeps a destination from being let go.
    ///
    /// Cancel safe: the question stays, its answer serves the next caller.
    pub async fn resolve(&self, address: SocketAddr) -> Resolution {
        let address = canonical(address);
        if let Some(known) = self.known(address) {
            return known;
        }
        let asked = async {
            // Before the first workload nobody can say what is inside of the mesh.
            let mut generation = self.watch();
            while self.shared.mesh.load().workload.is_none() {
                if generation.changed().await.is_err() {
                    return Resolution::Refused(Reason::ControlPlane);
                }
            }
            if let Some(known) = self.known(address) {
                return known;
            }
            match self.asker.ask(About::Address(address)).await {
                Ok(()) => self.known(address).unwrap_or(Resolution::Refused(Reason::ControlPlane)),
                Err(Refused) => Resolution::Refused(Reason::ControlPlane),
            }
        };
        let unanswered = |_elapsed| Resolution::Refused(Reason::ControlPlane);
        timeout(PATIENCE, asked).await.unwrap_or_else(unanswered)
    }

    /// What the control plane says about a name of the cluster. `None` if it knows no such name,
    /// cannot be asked, or does not answer within 1 s: then others are to be asked, which is no
    /// danger, because a name decides no policy.
    ///
    /// Cancel safe, as [`resolve`](Self::resolve).
    pub async fn resolve_host(&self, name: &str) -> Option<Arc<Host>> {
        if let Some(known) = self.known_host(name) {
            return known;
        }
        let asked = timeout(PATIENCE, self.asker.ask(About::Host(name.into())));
        asked.await.ok()?.ok()?;
        self.known_host(name).flatten()
    }

    fn known_host(&self, name: &str) -> Option<Option<Arc<Host>>> {
        let mesh = self.shared.mesh.load();
        let named = mesh.hosts.get(name)?;
        named.used.touch(self.shared.now());
        Some(named.host.clone())
    }

    /// The answer as far as the snapshot has it.
    pub(crate) fn known(&self, address: SocketAddr) -> Option<Resolution> {
        let mesh = self.shared.mesh.load();
        let workload = mesh.workload.as_ref()?;
        let absent = match whereabouts(workload, address.ip()) {
            Whereabouts::Self_ => return Some(Resolution::External),
            Whereabouts::Outside => return Some(outside(workload)),
            Whereabouts::Inside => Resolution::Refused(Reason::NoEndpoint),
            Whereabouts::Perhaps => outside(workload),
        };
        match mesh.listeners.get(&address)? {
            Lookup::Known(destination) => {
                destination.used.touch(self.shared.now());
                Some(Resolution::Mesh(Arc::clone(destination)))
            }
            Lookup::Absent(used) => {
                used.touch(self.shared.now());
                Some(absent)
            }
        }
    }
}

/// Where an address is, seen from a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whereabouts {
    /// The pod's own, or loopback.
    Self_,
    Inside,
    /// In a private network, and nobody has said which of them are the mesh's: it is asked for, and
    /// what the mesh does not have may be anything else, such as a database beside the cluster.
    Perhaps,
    Outside,
}

fn whereabouts(workload: &Workload, address: IpAddr) -> Whereabouts {
    if address.is_loopback() || workload.addresses.contains(&address) {
        Whereabouts::Self_
    } else if workload.in_mesh(address) {
        Whereabouts::Inside
    } else if workload.mesh_ranges.is_empty() && is_private(address) {
        Whereabouts::Perhaps
    } else {
        Whereabouts::Outside
    }
}

/// Where clusters have their pods and Services: RFC 1918, RFC 6598 (as clouds hand out), RFC 4193.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || matches!(v4.octets(), [100, 64..=127, ..]),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

fn outside(workload: &Workload) -> Resolution {
    match workload.external_traffic {
        ExternalTraffic::Pass => Resolution::External,
        ExternalTraffic::Refuse => Resolution::Refused(Reason::ExternalRefused),
    }
}

impl Shared {
    fn now(&self) -> u64 {
        self.started.elapsed().as_secs()
    }
}

impl Publisher {
    /// Puts `mesh` in force.
    pub(crate) fn publish(&self, mesh: Mesh) {
        let generation = mesh.generation;
        self.shared.mesh.store(Arc::new(mesh));
        self.shared.generation.send_replace(generation);
    }

    /// Seconds since the proxy started, the time of [`LastUsed`](super::LastUsed).
    pub(crate) fn now(&self) -> u64 {
        self.shared.now()
    }

    /// The snapshot in force.
    pub(crate) fn current(&self) -> Arc<Mesh> {
        self.shared.mesh.load_full()
    }
}

#[cfg(test)]
mod tests {
    use tulle_xds::model::MtlsMode;

    use super::*;

    fn workload(external_traffic: ExternalTraffic) -> Workload {
        Workload {
            name: "shop/web-0".to_owned(),
            uid: String::new(),
            identity: "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap(),
            owner_kind: "Pod".to_owned(),
            owner_name: "web-0".to_owned(),
            revision: String::new(),
            addresses: vec!["10.244.0.7".parse().unwrap()],
            ports: Vec::new(),
            default_mtls: MtlsMode::Permissive,
            mesh_ranges: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/16".parse().unwrap()],
            external_traffic,
            hold: String::new(),
            trust_domains: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            knobs: tulle_xds::model::Knobs::new(),
            setters: Vec::new(),
            access: Vec::new(),
            node: String::new(),
            zone: String::new(),
            telemetry: Box::default(),
            counted: false,
            lanes: Vec::new(),
        }
    }

    fn mesh(generation: u64, external: ExternalTraffic) -> Mesh {
        let workload = Some(Arc::new(workload(external)));
        Mesh { generation, workload, ..Mesh::default() }
    }

    async fn resolved(store: &Store, address: &str) -> String {
        format!("{:?}", store.resolve(address.parse().unwrap()).await)
    }

    #[tokio::test]
    async fn outside_costs_no_question() {
        let (store, publisher, mut questions) = Store::new();
        publisher.publish(mesh(1, ExternalTraffic::Pass));
        let own = ["127.0.0.1:80", "[::1]:80", "10.244.0.7:80", "[::ffff:127.0.0.1]:80"];
        for address in own.into_iter().chain(["192.0.2.1:443", "[2001:db8::1]:443"]) {
            assert_eq!(resolved(&store, address).await, "External", "{address}");
        }
        publisher.publish(mesh(2, ExternalTraffic::Refuse));
        assert_eq!(resolved(&store, "192.0.2.1:443").await, "Refused(ExternalRefused)");
        assert_eq!(resolved(&store, "10.244.0.7:80").await, "External");
        assert!(questions.try_recv().is_err());
    }

    #[tokio::test]
    async fn any_number_of_external_addresses_leaves_nothing_behind() {
        let (store, publisher, mut questions) = Store::new();
        publisher.publish(mesh(1, ExternalTraffic::Pass));
        let before = store.current();
        for n in 0..100_000_u32 {
            let [_, a, b, c] = n.to_be_bytes();
            let address = SocketAddr::from(([192, a, b, c], 443));
            assert!(matches!(store.resolve(address).await, Resolution::External), "{address}");
        }
        assert!(Arc::ptr_eq(&before, &store.current()) && before.listeners.is_empty());
        assert!(questions.try_recv().is_err());
    }

    #[tokio::test]
    async fn inside_waits_a_second_and_fails_closed() {
        let (store, publisher, mut questions) = Store::new();
        let begun = Instant::now();
        assert_eq!(resolved(&store, "10.96.0.7:80").await, "Refused(ControlPlane)");
        assert!(begun.elapsed() >= PATIENCE, "before the first workload");

        publisher.publish(mesh(1, ExternalTraffic::Pass));
        let begun = Instant::now();
        assert_eq!(resolved(&store, "[::ffff:10.96.0.7]:80").await, "Refused(ControlPlane)");
        assert!(begun.elapsed() >= PATIENCE, "no answer");
        let question = questions.recv().await.unwrap();
        let address = "10.96.0.7:80".parse().unwrap();
        assert_eq!(question.about, About::Address(address));

        let asking = tokio::spawn({
            let store = store.clone();
            async move { resolved(&store, "10.96.0.7:80").await }
        });
        let question = questions.recv().await.unwrap();
        let mut answer = mesh(2, ExternalTraffic::Pass);
        assert_eq!(question.about, About::Address(address));
        answer.listeners.insert(address, Lookup::Absent(super::super::LastUsed::new(0)));
        publisher.publish(answer);
        question.answered.send(()).unwrap();
        assert_eq!(asking.await.unwrap(), "Refused(NoEndpoint)");
        assert_eq!(resolved(&store, "10.96.0.7:80").await, "Refused(NoEndpoint)");
        assert!(questions.try_recv().is_err(), "the answer is remembered");
    }

    #[tokio::test(start_paused = true)]
    async fn without_ranges_private_networks_are_asked_for_and_what_nobody_has_passes() {
        let (store, publisher, mut questions) = Store::new();
        let unsaid = |generation| {
            let ranges = Vec::new();
            let workload = Workload { mesh_ranges: ranges, ..workload(ExternalTraffic::Pass) };
            Mesh { generation, workload: Some(Arc::new(workload)), ..Mesh::default() }
        };
        publisher.publish(unsaid(1));
        for public in ["192.0.2.1:443", "[2001:db8::1]:443", "100.128.0.1:80", "172.32.0.1:80"] {
            assert_eq!(resolved(&store, public).await, "External", "{public}");
        }
        assert!(questions.try_recv().is_err(), "the internet costs no question");
        for private in ["10.96.0.7:80", "172.16.0.1:80", "100.64.0.1:80", "[fd00::7]:80"] {
            let address = private.parse().unwrap();
            // Nobody can say that it is none of the mesh's.
            assert_eq!(resolved(&store, private).await, "Refused(ControlPlane)", "{private}");
            assert_eq!(questions.recv().await.unwrap().about, About::Address(address));
            let mut answer = unsaid(2);
            answer.listeners.insert(address, Lookup::Absent(super::super::LastUsed::new(0)));
            publisher.publish(answer);
            assert_eq!(resolved(&store, private).await, "External", "{private}");
        }
    }

    #[tokio::test]
    async fn a_name_is_asked_for_once() {
        let (store, publisher, mut questions) = Store::new();
        let asking = tokio::spawn({
            let store = store.clone();
            async move { store.resolve_host("web.shop.svc.cluster.local").await }
        });
        let question = questions.recv().await.unwrap();
        let About::Host(name) = &question.about else { panic!("{question:?}") };
        let host = Arc::new(Host {
            name: name.to_string(),
            addresses: vec!["10.96.0.7".parse().unwrap()],
            origin: tulle_xds::model::Origin::default(),
        });
        let named = |host| super::super::Named { host, used: super::super::LastUsed::new(0) };
        let hosts =
            [(Arc::clone(name), named(Some(Arc::clone(&host)))), ("no".into(), named(None))];
        publisher.publish(Mesh { hosts: Arc::new(hosts.into()), ..Mesh::default() });
        question.answered.send(()).unwrap();
        assert_eq!(asking.await.unwrap(), Some(Arc::clone(&host)));
        assert_eq!(store.resolve_host(&host.name).await, Some(host));
        assert_eq!(store.resolve_host("no").await, None);
        assert!(questions.try_recv().is_err(), "both answers are remembered");
        // Nobody answers.
        let begun = Instant::now();
        assert_eq!(store.resolve_host("later").await, None);
        assert!(begun.elapsed() >= PATIENCE);
    }

    #[tokio::test]
    async fn a_full_writer_refuses_at_once() {
        let (store, publisher, questions) = Store::new();
        publisher.publish(mesh(1, ExternalTraffic::Pass));
        drop(questions);
        let begun = Instant::now();
        assert_eq!(resolved(&store, "10.96.0.7:80").await, "Refused(ControlPlane)");
        assert!(begun.elapsed() < PATIENCE);
    }
}
