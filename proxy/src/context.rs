//! What a connection can reach: one [`Shared`] per process, one [`Context`] per worker.

mod tuned;

pub use tuned::Tuned;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use tulle_runtime::log::Lines;
use tulle_xds::model::ClientCert;

use crate::{
    mesh,
    net::{
        capture::Capture,
        detect::{Callers, Seen},
        guard::scan::Bounds,
        listen::ConnectionLimit,
    },
    request::{
        lane::{Flights, Lanes},
        mirror::Mirrors,
    },
    telemetry::{self, Metrics, Wanted, trace::Tracing},
    tls,
    upstream::{local::LocalClusters, pool::Pool, retire},
};

/// What all workers share.
pub struct Shared {
    /// What this proxy was told.
    pub store: mesh::Store,
    /// The certificates of this proxy.
    pub certs: tls::Certs,
    /// Where access log lines go.
    pub lines: Lines,
    /// The data path's metrics.
    pub metrics: Metrics,
    /// Bounds and addresses.
    tuned: Arc<Tuned>,
    /// Open connections from clients.
    pub connections: Connections,
    /// Addresses at which clients spoke HTTP first.
    pub seen: Seen,
    /// Who has called the application.
    pub callers: Callers,
    /// The application's ports, each as a cluster of one endpoint.
    pub locals: LocalClusters,
    /// Copies of requests under way.
    pub mirrors: Mirrors,
    /// Which requests to the application are in which lane.
    pub flights: Arc<Flights>,
}

/// What one worker has: everything shared, its own connections to upstreams, and what it has counted.
#[derive(Debug)]
pub struct Context {
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// Connections to upstreams, used by this worker alone.
    pub pool: Arc<Pool>,
    /// What it has counted.
    pub counts: telemetry::Worker,
}

/// Bounds and addresses of the data path. The default is what a sidecar has.
#[derive(Clone)]
pub struct Settings {
    /// How an accepted connection's original destination is found.
    pub capture: Capture,
    /// Source addresses of connections to the application, so that it never sees a loopback
    /// address for a remote caller. `None` lets the kernel choose.
    pub application_source: Option<(Ipv4Addr, Ipv6Addr)>,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
    /// Open connections from clients, in each direction.
    pub max_connections: usize,
    /// Once a client has begun to speak, the time in which its protocol must show.
    pub detect_timeout: Duration,
    /// Time for the head of an HTTP/1 request from its first byte on, and of a TLS handshake.
    pub head_timeout: Duration,
    /// An HTTP connection on which no request comes for so long is closed, and so is one on which
    /// nothing ever came.
    pub client_idle_timeout: Duration,
    /// Bytes of a request's or response's head.
    pub max_head_bytes: usize,
    /// Bytes of an HTTP/1 request line; of path and authority in HTTP/2.
    pub max_uri_bytes: usize,
    /// Header fields of an HTTP/1 head.
    pub max_headers: usize,
    /// Bytes of a request's body; `None` is no bound.
    pub max_body_bytes: Option<u64>,
    /// What applications are told of who calls.
    pub client_cert: ClientCert,
    /// HTTP/1 header names keep the case in which they were sent. Requests between sidecars then
    /// travel as HTTP/1.1, which costs more than HTTP/2.
    pub preserve_header_case: bool,
    /// Streams that a peer may have open on one HTTP/2 connection.
    pub max_streams: u32,
    /// An upstream connection is closed after it was idle for so long.
    pub idle_timeout: Duration,
    /// What is open to a version that was rolled back is ended after so long.
    pub retired_within: Duration,
    /// Idle HTTP/1 connections that one worker keeps per endpoint.
    pub max_idle: usize,
    /// Time to connect to the application.
    pub application_connect_timeout: Duration,
    /// Of requests and connections that ended well one in so many has a line in the access log; with
    pub access_log_sample: u32,
    /// What else is told of traffic, and how.
    pub wanted: Arc<Wanted>,
    /// Whether what comes to the application is told of as to a version that is being released.
    pub counted: bool,
    /// What is done about traces.
    pub tracing: Tracing,
    /// The lanes in which requests are carried on; `None`: there is none.
    pub lanes: Option<Arc<Lanes>>,
}

/// Open connections from clients: strangers, who come in, never take the application's places.
#[derive(Debug, Clone)]
pub struct Connections {
    /// To the application.
    pub inbound: ConnectionLimit,
    /// From the application.
    pub outbound: ConnectionLimit,
}

impl Connections {
    /// At most `most` at once, of each.
    pub fn new(most: usize) -> Self {
        Self { inbound: ConnectionLimit::new(most), outbound: ConnectionLimit::new(most) }
    }

    /// At most `most` from now on. What is open stays.
    fn bound(&self, most: usize) {
        self.inbound.bound(most);
        self.outbound.bound(most);
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            capture: Capture::original_destination(),
            application_source: Some((
                Ipv4Addr::new(169, 254, 41, 1),
                Ipv6Addr::new(0xfd00, 0x7475, 0x6c6c, 0x65, 0, 0, 0, 1),
            )),
            addresses: Vec::new(),
            max_connections: 20_000,
            detect_timeout: Duration::from_secs(5),
            head_timeout: Duration::from_secs(30),
            client_idle_timeout: Duration::from_secs(3600),
            max_head_bytes: 64 << 10,
            max_uri_bytes: 32 << 10,
            max_headers: 128,
            max_body_bytes: None,
            client_cert: ClientCert::default(),
            preserve_header_case: false,
            max_streams: 256,
            idle_timeout: Duration::from_secs(60),
            retired_within: retire::GRACE,
            max_idle: 64,
            application_connect_timeout: Duration::from_secs(10),
            access_log_sample: 1000,
            wanted: Arc::default(),
            counted: false,
            tracing: Tracing::default(),
            lanes: None,
        }
    }
}

impl Settings {
    /// What an HTTP/1 message may be.
    pub fn http1_bounds(&self) -> Bounds {
        Bounds {
            head_bytes: self.max_head_bytes,
            uri_bytes: self.max_uri_bytes,
            fields: self.max_headers,
        }
    }

    /// The source address for the application at `destination`.
    pub fn source_for(&self, destination: IpAddr) -> Option<IpAddr> {
        let (v4, v6) = self.application_source?;
        Some(if destination.is_ipv4() { v4.into() } else { v6.into() })
    }

    /// The pod's address of the other IP version, if `address` is one of the pod's.
    pub fn other_version(&self, address: IpAddr) -> Option<IpAddr> {
        let mut others = self.addresses.iter().filter(|ip| ip.is_ipv4() != address.is_ipv4());
        others.next().filter(|_| self.addresses.contains(&address)).copied()
    }
}

impl Shared {
    /// The state that all workers of a process share.
    pub fn new(
        store: mesh::Store,
        certs: tls::Certs,
        lines: Lines,
        metrics: Metrics,
        settings: Settings,
    ) -> Arc<Self> {
        let connections = Connections::new(settings.max_connections);
        Arc::new(Self {
            tuned: Arc::new(Tuned::new(settings, store.clone(), connections.clone())),
            store,
            certs,
            lines,
            metrics,
            connections,
            seen: Seen::default(),
            callers: Callers::default(),
            locals: LocalClusters::default(),
            mirrors: Mirrors::default(),
            flights: Arc::default(),
        })
    }

    /// Bounds and addresses, as they are now.
    pub fn settings(&self) -> Arc<Settings> {
        self.tuned.now()
    }
}

impl Context {
    /// The context of one more worker.
    pub fn new(shared: Arc<Shared>) -> Arc<Self> {
        let pool = Arc::new(Pool::new(Arc::clone(&shared.tuned)));
        let counts = shared.metrics.worker();
        Arc::new(Self { shared, pool, counts })
    }
}

impl std::ops::Deref for Context {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("settings", &self.tuned).finish_non_exhaustive()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("application_source", &self.application_source)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}
