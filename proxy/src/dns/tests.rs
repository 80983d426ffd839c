use std::{collections::HashMap, time::Duration};

use hickory_proto::{
    op::{Message, Query},
    rr::{Name, RecordType},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tulle_runtime::metrics::Registry;
use tulle_xds::model::{Host, Origin, Workload};

use super::*;
use crate::mesh::{LastUsed, Mesh, Named, Publisher};

const WEB: &str = "web.shop.svc.cluster.local";
const NOBODY: &str = "nobody.shop.svc.cluster.local";

/// The sidecar's DNS, with a resolver behind it.
struct Served {
    address: SocketAddr,
    /// Also answers, with the bytes of the question in reverse after its number.
    _resolver: (SocketAddr, tokio::task::JoinHandle<()>),
    publisher: Publisher,
    registry: Registry,
}

async fn serve() -> Served {
    let (store, publisher, _questions) = Store::new();
    let registry = Registry::default();
    let dns = Dns::new(store, Metrics::new(&registry), &[]);
    let (address, udp, tcp) = one_port().await;
    let resolver = resolver().await;
    tokio::spawn(udp::serve(dns.clone(), udp, resolver.0));
    tokio::spawn(tcp::serve(dns, tcp, resolver.0));
    Served { address, _resolver: resolver, publisher, registry }
}

impl Served {
    fn counted(&self, by: &str) -> bool {
        let metrics = self.registry.render();
        metrics.contains(&format!("tulle_dns_questions_total{{answered_by=\"{by}\"}} 1\n"))
    }

    /// Both names of the test are answered, one of them with "there is none".
    fn told(&self, addresses: u8) {
        let host = Host {
            name: WEB.to_owned(),
            addresses: (0..addresses).map(|n| [10, 96, 1, n].into()).collect(),
            origin: Origin::default(),
        };
        let named = |host| Named { host, used: LastUsed::new(0) };
        let hosts = [(WEB, named(Some(Arc::new(host)))), (NOBODY, named(None))];
        let hosts: HashMap<Arc<str>, Named> =
            hosts.into_iter().map(|(name, named)| (name.into(), named)).collect();
        let workload = Workload {
            name: "shop/cart-0".to_owned(),
            uid: String::new(),
            identity: "spiffe://cluster.local/ns/shop/sa/cart".parse().unwrap(),
            owner_kind: "Pod".to_owned(),
            owner_name: "cart-0".to_owned(),
            revision: String::new(),
            addresses: Vec::new(),
            ports: Vec::new(),
            default_mtls: tulle_xds::model::MtlsMode::Permissive,
            mesh_ranges: Vec::new(),
            external_traffic: tulle_xds::model::ExternalTraffic::Pass,
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
        };
        let workload = Some(Arc::new(workload));
        self.publisher.publish(Mesh { workload, hosts: Arc::new(hosts), ..Mesh::default() });
    }

    async fn ask(&self, question: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(question, self.address).await.unwrap();
        let mut answer = vec![0; 4096];
        let received = timeout(Duration::from_secs(10), socket.recv_from(&mut answer)).await;
        let (length, from) = received.expect("an answer").unwrap();
        assert_eq!(from, self.address, "the kernel would not translate it back");
        answer.truncate(length);
        answer
    }
}

/// A port for both protocols. What is free for one may be taken for the other, by whatever
/// runs beside this test; and no other listener shares it, as one of [`listen::bind`] could.
async fn one_port() -> (SocketAddr, UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = udp.local_addr().unwrap();
        if let Ok(tcp) = TcpListener::bind(address).await {
            return (address, udp, tcp);
        }
    }
}

fn mirrored(question: &[u8]) -> Vec<u8> {
    let (number, rest) = question.split_at(2);
    number.iter().chain(rest.iter().rev()).copied().collect()
}

async fn resolver() -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let (address, udp, tcp) = one_port().await;
    let served = tokio::spawn(async move {
        let mut bytes = vec![0; 4096];
        loop {
            tokio::select! {
                received = udp.recv_from(&mut bytes) => {
                    let (length, from) = received.unwrap();
                    // A stray answer to somebody else's question comes first.
                    udp.send_to(&[0xff; 40], from).await.unwrap();
                    udp.send_to(&mirrored(&bytes[..length]), from).await.unwrap();
                }
                accepted = tcp.accept() => {
                    let (mut stream, _) = accepted.unwrap();
                    let length = stream.read_u16().await.unwrap();
                    let mut question = vec![0; length.into()];
                    stream.read_exact(&mut question).await.unwrap();
                    stream.write_u16(length).await.unwrap();
                    stream.write_all(&mirrored(&question)).await.unwrap();
                }
            }
        }
    });
    (address, served)
}

fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = 7;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

fn answers(bytes: &[u8]) -> Vec<String> {
    let message = Message::from_vec(bytes).unwrap();
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

#[tokio::test]
async fn the_mesh_answers_for_its_names() {
    let served = serve().await;
    served.told(1);
    assert_eq!(answers(&served.ask(&query(WEB, RecordType::A)).await), ["10.96.1.0"]);
    assert!(served.counted("mesh"));
    assert!(answers(&served.ask(&query(WEB, RecordType::AAAA)).await).is_empty());
}

#[tokio::test]
async fn what_the_mesh_does_not_know_goes_to_the_resolver_as_it_is() {
    let served = serve().await;
    let before_any_workload = query(WEB, RecordType::A);
    assert_eq!(served.ask(&before_any_workload).await, mirrored(&before_any_workload));
    assert!(served.counted("resolver"));
    served.told(1);
    let passed = [
        query(NOBODY, RecordType::A),
        query(WEB, RecordType::SRV),
        query("www.example.com", RecordType::A),
        b"this is no DNS".to_vec(),
    ];
    for question in passed {
        assert_eq!(served.ask(&question).await, mirrored(&question));
    }
}

#[tokio::test]
async fn what_was_truncated_is_whole_over_tcp() {
    let served = serve().await;
    served.told(200);
    let question = query(WEB, RecordType::A);
    let short = Message::from_vec(&served.ask(&question).await).unwrap();
    assert!(short.metadata.truncation);
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let other = query("www.example.com", RecordType::A);
    // Two questions at once, of which one is passed on.
    for question in [&question, &other] {
        stream.write_u16(question.len().try_into().unwrap()).await.unwrap();
        stream.write_all(question).await.unwrap();
    }
    let mut got = Vec::new();
    for _ in 0..2 {
        let mut answer = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut answer).await.unwrap();
        got.push(answer);
    }
    assert_eq!(answers(&got[0]).len(), 200);
    assert_eq!(got[1], mirrored(&other));
}

#[tokio::test]
async fn strangers_are_not_answered() {
    let (store, _publisher, _questions) = Store::new();
    let own = "10.244.0.7".parse().unwrap();
    let dns = Dns::new(store, Metrics::new(&Registry::default()), &[own]);
    for (from, may) in [
        ("127.0.0.1", true),
        ("::1", true),
        ("10.244.0.7", true),
        ("::ffff:10.244.0.7", true),
        ("10.244.0.8", false),
        ("fd00::1", false),
    ] {
        assert_eq!(dns.admit(from.parse().unwrap()).is_some(), may, "{from}");
    }
    let held: Vec<_> = std::iter::from_fn(|| dns.admit(own)).collect();
    assert_eq!(held.len(), AT_ONCE);
}

#[test]
fn and_only_loopback_is_listened_on() {
    for resolver in ["10.96.0.10", "192.0.2.53", "fd00::53"] {
        let resolver: IpAddr = resolver.parse().unwrap();
        let on = loopback(resolver);
        assert!(on.is_loopback() && on.is_ipv4() == resolver.is_ipv4(), "{on}");
    }
}
