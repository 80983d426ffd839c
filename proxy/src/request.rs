//! One request in flight.
//!
//! ```text
//! [ serve ] -> [ handle ] -> [ head ] -> [ lane ] -> [ target ], [ route ] -> [ filter ] -> [ retry ] -> upstream::send
//!                  └─ on error: [ respond ]                ├─ [ upgrade ] after a 101
//!                                                          └─ [ mirror ]: copies, by retry as well
//! ```
//!
//! Start reading at [`handle`]. `route`, `filter` and `head` are pure.
//!
//! **Invariants.** Inside of the proxy a request's authority is in `Host` and its URI is a path
//! alone, whatever its version. No `x-tulle-*` header of an application but `x-tulle-lane` crosses a proxy. A body is
//! never collected.

pub mod admit;
pub mod body;
pub mod clock;
pub mod filter;
pub mod handle;
pub mod head;
pub mod lane;
pub mod mirror;
pub mod resets;
pub mod respond;
pub mod retry;
pub mod route;
pub mod serve;
pub mod stick;
pub mod target;
pub mod upgrade;

use std::{net::SocketAddr, sync::Arc};

use tulle_runtime::drain::Drain;

use crate::{
    context::Context,
    telemetry::{Direction, Record, trace::Way},
    tls::Peer,
    upstream::Cluster,
};

/// The client's connection that a request came on.
#[derive(Debug)]
pub struct Connection {
    /// The worker that serves it.
    pub cx: Arc<Context>,
    /// Where it came from.
    pub client: SocketAddr,
    /// Where it was going.
    pub destination: SocketAddr,
    /// Which way.
    pub side: Side,
}

/// Which way a connection goes.
#[derive(Debug)]
pub enum Side {
    /// From our application.
    Outbound,
    /// To our application.
    Inbound {
        /// Who calls, if it came over mTLS.
        peer: Option<Arc<Peer>>,
        /// The application, as a cluster of one endpoint.
        application: Arc<Cluster>,
        /// Says whether the pod is ending.
        drain: Drain,
    },
}

impl Connection {
    /// The record of one more request, or of the connection itself.
    pub fn record(&self) -> Record {
        let (cx, caller) = (Arc::clone(&self.cx), self.peer().cloned());
        Record::new(cx, self.direction(), self.client, self.destination, caller)
    }

    /// Whether it came from a sidecar.
    pub fn from_sidecar(&self) -> bool {
        self.peer().is_some_and(|peer| peer.sidecar)
    }

    /// Between whom its requests are, for traces.
    pub fn way(&self) -> Way {
        match self.direction() {
            Direction::Outbound => Way::FromApplication,
            Direction::Inbound if self.from_sidecar() => Way::FromSidecar,
            Direction::Inbound => Way::FromStranger,
        }
    }

    /// Who it came from, if it came over mTLS.
    pub fn peer(&self) -> Option<&Arc<Peer>> {
        match &self.side {
            Side::Inbound { peer, .. } => peer.as_ref(),
            Side::Outbound => None,
        }
    }

    /// Which way, for logs and labels.
    pub fn direction(&self) -> Direction {
        match self.side {
            Side::Inbound { .. } => Direction::Inbound,
            Side::Outbound => Direction::Outbound,
        }
    }
}
