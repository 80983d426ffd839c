//! Carries plain xDS connections of this pod to the control plane, over mTLS.
//!
//! On loopback, not on a Unix socket: gRPC's C++ implementation makes the socket's path the request's
//! authority, which is none, and which the control plane's HTTP/2 refuses.
//!
//! Bytes, not messages: gRPC speaks HTTP/2 to the control plane itself, which sees this pod's
//! certificate and answers for this pod alone, whoever in it is asking.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};

use crate::tls::{
    Certs,
    control_plane::{As, ControlPlane},
};

/// Connections at once: a process of gRPC has one.
const MOST: usize = 64;

/// Long enough for a file descriptor to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where connections go.
#[derive(Debug, Clone)]
pub(super) struct Relay {
    pub(super) control_plane: ControlPlane,
    pub(super) certs: Certs,
}

impl Relay {
    /// Carries connections without end. Those that come before there is a certificate wait.
    pub(super) async fn run(self, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(MOST));
        self.certs.installed().await;
        while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
            let client = match listener.accept().await {
                Ok((client, _)) => client,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept xDS connections");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let relay = self.clone();
            tokio::spawn(async move {
                relay.carry(client).await;
                drop(permit);
            });
        }
    }

    /// One connection. If the control plane cannot be reached it is closed: gRPC comes again, with
    /// a back-off of its own.
    async fn carry(&self, mut client: TcpStream) {
        let connecting = Box::pin(self.control_plane.open(&self.certs, As::Workload));
        match connecting.await {
            Ok(mut server) => {
                let ended = copy_bidirectional(&mut client, &mut server).await;
                tracing::debug!(?ended, "an xDS connection of the application has ended");
            }
            Err(error) => tracing::warn!(%error, "cannot carry the application's xDS connection"),
        }
    }
}
