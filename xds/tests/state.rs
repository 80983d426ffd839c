//! State-of-the-world ADS over a loopback socket, spoken by the generated client as gRPC does.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use envoy_types::pb::{
    envoy::{
        config::core::v3::{self as core, node::UserAgentVersionType},
        service::discovery::v3::{
            DiscoveryRequest, DiscoveryResponse,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
    },
    google::rpc,
};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Code, Extensions, Status, Streaming, transport::Server};
use tulle_xds::{
    cache::{Cache, Dialect, Interest, Key, Want},
    model::{Here, Kind, SpiffeId},
    server::{AdsService, Authorize, Caller, Node},
};

struct Anybody;

impl Authorize for Anybody {
    fn authorize(&self, _: &Extensions, node: &Node) -> Result<Caller, Status> {
        let identity = SpiffeId::service_account("cluster.local", "shop", "default");
        Ok(Caller {
            pod: node.id.clone(),
            namespace: "shop".to_owned(),
            identity,
            here: Here::default(),
        })
    }
}

/// A server, and one stream to it.
struct Bench {
    cache: Cache,
    interest: Interest,
    service: AdsService,
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

impl Bench {
    /// `first` is sent with the node of `agent`.
    async fn new(agent: &str, first: DiscoveryRequest) -> Self {
        let (cache, interest) = Cache::new();
        let service = AdsService::new(cache.clone(), Arc::new(Anybody));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder().add_service(service.clone().into_server());
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let client = AggregatedDiscoveryServiceClient::connect(format!("http://{address}"));
        let (requests, outgoing) = mpsc::channel(8);
        let node = core::Node {
            id: "shop/cart-1".to_owned(),
            user_agent_name: agent.to_owned(),
            user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion("1".to_owned())),
            ..core::Node::default()
        };
        requests.send(DiscoveryRequest { node: Some(node), ..first }).await.unwrap();
        let mut client = client.await.unwrap();
        let outgoing = ReceiverStream::new(outgoing);
        let responses = client.stream_aggregated_resources(outgoing).await.unwrap().into_inner();
        Self { cache, interest, service, requests, responses }
    }

    async fn wanted(&mut self) -> Key {
        match timeout(Duration::from_secs(10), self.interest.recv()).await.unwrap() {
            Want::Wanted(key) => key,
            Want::Unwanted(key) => panic!("{key:?} is not wanted any more"),
        }
    }

    async fn response(&mut self) -> DiscoveryResponse {
        let response = timeout(Duration::from_secs(10), self.responses.message()).await;
        response.unwrap().unwrap().unwrap()
    }

    fn put(&self, name: &str, text: &'static str) {
        let key = Key { dialect: Dialect::Grpc, ..Key::new(Kind::Cluster, name) };
        assert!(self.cache.put(key, Some(Bytes::from_static(text.as_bytes()))));
    }

    /// Answers, naming the clusters that are wanted from now on.
    async fn answer(&self, names: &[&str], to: &DiscoveryResponse, error: Option<&str>) {
        let error_detail = error.map(|message| rpc::Status {
            code: Code::InvalidArgument.into(),
            message: message.to_owned(),
            details: Vec::new(),
        });
        let request = DiscoveryRequest {
            version_info: to.version_info.clone(),
            response_nonce: to.nonce.clone(),
            error_detail,
            ..clusters(names)
        };
        self.requests.send(request).await.unwrap();
    }
}

fn clusters(names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: Kind::Cluster.type_url().to_owned(),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DiscoveryRequest::default()
    }
}

fn texts(response: &DiscoveryResponse) -> Vec<&str> {
    let texts = response.resources.iter().map(|any| std::str::from_utf8(&any.value).unwrap());
    texts.collect()
}

#[tokio::test]
async fn a_grpc_client_gets_its_own_dialect_whole_states_and_no_response_to_an_ack() {
    let mut bench = Box::pin(Bench::new("gRPC C-core", clusters(&["a", "b"]))).await;
    for name in ["a", "b"] {
        let key = bench.wanted().await;
        assert_eq!((&*key.name, key.dialect), (name, Dialect::Grpc));
    }
    bench.put("a", "a1");
    bench.put("b", "b1");
    let first = bench.response().await;
    assert_eq!(texts(&first), ["a1", "b1"], "both at once: half of a state would be a removal");
    bench.answer(&["a", "b"], &first, None).await;

    // Were there a response to the ACK, it would come before this one.
    bench.put("b", "b2");
    let second = bench.response().await;
    assert_eq!(texts(&second), ["a1", "b2"]);
    assert_ne!(second.version_info, first.version_info);
    bench.answer(&["b"], &second, Some("b is not what it was")).await;

    bench.put("b", "b3");
    let third = bench.response().await;
    assert_eq!(texts(&third), ["b3"], "what is not wanted any more is not there");
    let status = bench.service.sessions().remove(0);
    assert_eq!(status.dialect, Dialect::Grpc);
    let names = &status.kinds[0].names;
    assert_eq!(names.len(), 1);
    assert_eq!(names[0].rejected.as_deref(), Some("b is not what it was"));
    assert_eq!(names[0].accepted.as_ref().unwrap().as_str().len(), 16);
}

#[tokio::test]
async fn a_grpc_client_that_names_nothing_at_first_is_told_that_there_is_no_wildcard_for_it() {
    let mut bench = Box::pin(Bench::new("gRPC C-core", clusters(&[]))).await;
    let refused = timeout(Duration::from_secs(10), bench.responses.message()).await.unwrap();
    let status = refused.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("wildcard"), "{status}");
}
