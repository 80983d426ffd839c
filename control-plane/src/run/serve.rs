//! The ports.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tonic::transport::Server;
use tulle_proto::{
    ca::v1::certificate_service_server::CertificateServiceServer,
    replica::v1::replica_service_server::ReplicaServiceServer,
    telemetry::v1::telemetry_service_server::TelemetryServiceServer,
};
use tulle_runtime::{
    drain::Drain,
    http::{Names, serve_tcp, serve_unix},
    room::Room,
    socket::bind_private,
};
use tulle_xds::server::AdsService;

use super::StartError;
use crate::{
    admin::Admin,
    ca::{
        server_certificate::ServerCertificate,
        service::{Certificates, MAX_REQUEST},
        subject::ClientAuthority,
    },
    config::Config,
    console::{Console, Gate},
    inject,
    k8s::Cluster,
    metrics::Metrics,
    replicas,
    server::{
        Incoming,
        https::Https,
        people,
        webhook::{self, Webhook},
    },
    telemetry::Telemetry,
};

/// HTTP/2 pings, so that a proxy whose node vanished does not stay in the list of streams.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// For a request of one answer (a certificate's) to come and to be answered.
const ANSWER: Duration = Duration::from_secs(10);

/// What a client without certificate may have open on its connection: it asks one question.
const STRANGERS_STREAMS: u32 = 4;
/// What it may have sent that was not read yet, in bytes.
const STRANGERS_WINDOW: u32 = 64 << 10;

/// What the gRPC port serves.
pub(super) struct Services {
    pub(super) certificates: Certificates,
    pub(super) ads: AdsService,
    pub(super) telemetry: TelemetryServiceServer<Telemetry>,
    /// Where there can be other replicas.
    pub(super) replicas: Option<ReplicaServiceServer<replicas::Listener>>,
}

impl Services {
    /// Whoever has shown no certificate is served apart: the same services, and less of everything.
    pub(super) fn serve(self, incoming: Incoming, drain: &Drain, tasks: &mut JoinSet<()>) {
        let certificates =
            CertificateServiceServer::new(self.certificates).max_decoding_message_size(MAX_REQUEST);
        let server = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .timeout(ANSWER);
        let proven = server.clone().max_concurrent_streams(64);
        let strangers = server
            .max_concurrent_streams(STRANGERS_STREAMS)
            .initial_stream_window_size(STRANGERS_WINDOW)
            .initial_connection_window_size(STRANGERS_WINDOW);
        for (mut server, connections) in
            [(proven, incoming.proven), (strangers, incoming.strangers)]
        {
            let router = server
                .add_service(certificates.clone())
                .add_service(self.ads.clone().into_server())
                .add_service(self.telemetry.clone())
                .add_optional_service(self.replicas.clone());
            let in_flight = drain.clone();
            tasks.spawn(async move {
                let stop = in_flight.told();
                let served = Box::pin(router.serve_with_incoming_shutdown(connections, stop)).await;
                if let Err(error) = served {
                    tracing::error!(%error, "the gRPC server has ended");
                }
                drop(in_flight);
            });
        }
    }
}

/// The port that the API server asks about pods, if there are settings for them; and the one for people, where a cluster says who
/// they are.
pub(super) async fn https(
    config: &Config,
    (injection, console): (Option<inject::Injection>, Option<People>),
    certificate: Arc<ServerCertificate>,
    counted: (&Arc<Metrics>, &Drain),
    tasks: &mut JoinSet<()>,
) -> Result<(), StartError> {
    if let Some(console) = console {
        people(config, console, Arc::clone(&certificate), counted, tasks).await?;
    }
    match injection {
        Some(injection) => webhook(config, injection, certificate, counted, tasks).await,
        None => Ok(()),
    }
}

/// Who says who they are, and what they look at.
type People = (Cluster, Console);

async fn webhook(
    config: &Config,
    injection: inject::Injection,
    certificate: Arc<ServerCertificate>,
    (metrics, drain): (&Arc<Metrics>, &Drain),
    tasks: &mut JoinSet<()>,
) -> Result<(), StartError> {
    let (listener, _) = bind(config.webhook).await?;
    let (_, tls) = watch::channel(webhook::tls(certificate)?);
    let port = Https {
        name: "webhook",
        handler: Webhook { settings: injection.settings(), metrics: Arc::clone(metrics) },
        tls,
        terms: webhook::terms(),
        // The API server is one address, or a few; others have no business here, and shall not take its place.
        room: Room::new(8192, 64),
        metrics: Arc::clone(metrics),
    };
    tasks.spawn(port.serve(listener, drain.clone()));
    Ok(())
}

async fn people(
    config: &Config,
    (cluster, console): People,
    certificate: Arc<ServerCertificate>,
    (metrics, drain): (&Arc<Metrics>, &Drain),
    tasks: &mut JoinSet<()>,
) -> Result<(), StartError> {
    let (listener, _) = bind(config.console).await?;
    let (vouching, vouches) = watch::channel(ClientAuthority::default());
    let (current, tls) = watch::channel(people::tls(Arc::clone(&certificate), &vouches.borrow())?);
    let port = Https {
        name: "console",
        handler: Gate::new(console, Arc::new(cluster.reviews()), vouches),
        tls,
        terms: people::terms(),
        room: people::room(),
        metrics: Arc::clone(metrics),
    };
    let (authority, known) = watch::channel(Vec::new().into());
    tasks.spawn(cluster.client_authority(authority));
    tasks.spawn(people::follow(known, certificate, (vouching, current)));
    tasks.spawn(port.serve(listener, drain.clone()));
    Ok(())
}

/// The status port, and the Unix socket if one is asked for.
pub(super) fn admin(
    config: &Config,
    admin: Arc<Admin>,
    status: TcpListener,
    drain: Drain,
    tasks: &mut JoinSet<()>,
) -> Result<(), StartError> {
    if let Some(path) = &config.admin_socket {
        let failed = |error| StartError::AdminSocket { path: path.clone(), error };
        let listener = bind_private(path).map_err(failed)?;
        let admin = Arc::clone(&admin);
        let handler = move |request| Arc::clone(&admin).control(request);
        tasks.spawn(serve_unix(listener, handler, drain.clone()));
    }
    let handler = move |request| std::future::ready(admin.status(&request));
    let own = format!("tulle-control-plane.{}", config.namespace);
    let names = Names::within([own, config.cluster_domain.clone()]);
    tasks.spawn(serve_tcp(status, handler, names, drain));
    Ok(())
}

/// Listens there.
pub(super) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen { address, error };
    let listener = match TcpListener::bind(address).await {
        // A kernel without IPv6 cannot do "everywhere" in the way of both versions.
        Err(_) if address.ip() == Ipv6Addr::UNSPECIFIED => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    };
    let listener = listener.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
