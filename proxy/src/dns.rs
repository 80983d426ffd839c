//! DNS for the application: names of the cluster are answered here, every other question goes to the
//! resolver that the application chose.
//!
//! ```text
//!  application ── UDP, TCP :53 ──► redirect ──► 127.0.0.1:15053 ── a name of the mesh ──► mesh::Store
//!                 its resolver      (port + n for the n-th resolver)  └── any other ──► the n-th resolver
//! ```
//!
//! The kernel does not tell where a redirected datagram was going (`SO_ORIGINAL_DST` is for TCP), so
//! each resolver of `/etc/resolv.conf` has a port of its own: `tulle-proxy redirect` and this room read
//! the same file in the same pod. Questions to other servers are not redirected at all.
//!
//! What the mesh does not know, cannot ask for within a second, or is not asked as a plain question for
//! addresses is passed on byte by byte, and so is the answer: aliases, SRV, other zones, and names that
//! do not exist are the resolver's to tell. So while the control plane is away, names that were used
//! stay answered from what was told last, and all others go to the resolver.
//!
//! **Invariants.** It listens on loopback alone and answers no address but the pod's own. Whatever the
//! bytes are, they are answered or passed on; nothing here panics. Questions in flight are bounded.

pub mod message;
mod tcp;
mod udp;

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use tokio::{
    net::{TcpListener, UdpSocket},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tulle_runtime::seldom::Seldom;

pub use tulle_redirect::resolvers::{MOST, Resolvers};

use crate::{mesh::Store, net::listen, telemetry::Dns as Metrics};
use message::Question;

/// Questions and TCP connections at once. A resolver that does not answer holds a question for some
/// seconds; beyond, questions are dropped, as a network would, and asked again.
const AT_ONCE: usize = 512;

/// Each datagram of a stranger could be a line.
static STRANGERS: Seldom = Seldom::new();

/// The sidecar's DNS.
#[derive(Clone)]
pub struct Dns {
    store: Store,
    metrics: Metrics,
    /// The pod's addresses.
    own: Arc<[IpAddr]>,
    room: Arc<Semaphore>,
}

impl Dns {
    /// DNS for the pod with these addresses.
    pub fn new(store: Store, metrics: Metrics, own: &[IpAddr]) -> Self {
        Self { store, metrics, own: own.into(), room: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Serves each of the `resolvers` on its port from `port` on, on the loopback address of its IP
    /// version. Returns once it listens; ends with the process.
    ///
    /// # Errors
    /// The address that cannot be bound.
    pub async fn serve(
        self,
        port: u16,
        resolvers: &Resolvers,
    ) -> Result<(), (SocketAddr, io::Error)> {
        for (port, resolver) in resolvers.ports(port) {
            let address = SocketAddr::new(loopback(resolver), port);
            let (udp, listener) = bind(address).await.map_err(|error| (address, error))?;
            let resolver = SocketAddr::new(resolver, 53);
            tracing::info!(%address, %resolver, "answering DNS");
            tokio::spawn(udp::serve(self.clone(), udp, resolver));
            tokio::spawn(tcp::serve(self.clone(), listener, resolver));
        }
        Ok(())
    }

    /// The answer to a question in these bytes, of at most `limit` bytes; `None` if the resolver is to
    /// be asked.
    async fn answer(&self, bytes: &[u8], limit: usize) -> Option<Vec<u8>> {
        let question = Question::read(bytes)?;
        let workload = self.store.current().workload.clone()?;
        let name = message::cluster_name(question.name(), &workload.cluster_domain)?;
        let host = self.store.resolve_host(&name).await?;
        question.answer(&host.addresses, limit)
    }

    /// Room for one more question or connection of the application: not for strangers, and not without
    /// bound.
    fn admit(&self, from: IpAddr) -> Option<OwnedSemaphorePermit> {
        let from = from.to_canonical();
        if !from.is_loopback() && !self.own.contains(&from) {
            if let Some(unsaid) = STRANGERS.now() {
                tracing::warn!(%from, unsaid, "a stranger asked for a name: not answered");
            }
            return None;
        }
        let room = Arc::clone(&self.room).try_acquire_owned().ok();
        if room.is_none() {
            self.metrics.dropped();
        }
        room
    }
}

async fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    Ok((UdpSocket::bind(address).await?, listen::bind(address)?))
}

/// Not the wildcard: behind a redirect, answers from another address than the one that was asked are
/// lost.
fn loopback(resolver: IpAddr) -> IpAddr {
    if resolver.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns").field("own", &self.own).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
