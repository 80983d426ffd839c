//! May it go on? What is told, and the pod's end, may have come since a connection was accepted:
//! requests are checked one by one, opaque connections whenever something was told.

use tulle_runtime::drain::{Drain, Stage};
use tulle_xds::model::{MtlsMode, Workload};

use super::{Connection, Side};
use crate::{
    error::{Error, Reason},
    mesh::Resolution,
    tls::Peer,
};

/// The kind that says who may come in without mTLS, and from which trust domains.
pub const MESH_TLS: &str = "MeshTLS";
/// The object that says who may leave the mesh.
pub const MESH_CONFIG: &str = "MeshConfig/default";

/// Whether a new request from `peer` may go to the application.
///
/// # Errors
/// Policy forbids it; or the pod is about to end, and the caller's sidecar can do better.
pub fn request(connection: &Connection, peer: Option<&Peer>, drain: &Drain) -> Result<(), Error> {
    if peer.is_some_and(|peer| peer.sidecar) && drain.stage() >= Stage::Refusing {
        return Err(ending());
    }
    caller(workload(connection)?.as_ref(), connection.destination.port(), peer)
}

/// Why another sidecar is sent elsewhere: the application will have closed its port at any moment, and
/// what it had not read by then could not be told from what it had.
pub fn ending() -> Error {
    Error::new(Reason::Connect, "this pod is ending, its application gets nothing new").never_sent()
}

/// Resolves when an open connection must not go on, with the reason. Cancel safe.
pub async fn revoked(connection: &Connection) -> Error {
    let mut generation = connection.cx.store.watch();
    loop {
        if let Err(error) = open(connection) {
            return error;
        }
        if generation.changed().await.is_err() {
            // Nothing will be told any more.
            std::future::pending::<()>().await;
        }
    }
}

/// Whether a connection may stay open.
fn open(connection: &Connection) -> Result<(), Error> {
    match &connection.side {
        Side::Inbound { peer, .. } => {
            caller(workload(connection)?.as_ref(), connection.destination.port(), peer.as_deref())
        }
        // Whatever became of a destination in the mesh, what runs there may end in peace.
        Side::Outbound => match connection.cx.store.known(connection.destination) {
            Some(Resolution::Refused(Reason::ExternalRefused)) => {
                let detail = "MeshConfig refuses traffic to outside of the mesh by now";
                Err(Error::new(Reason::ExternalRefused, detail).forbidden_by(MESH_CONFIG))
            }
            _ => Ok(()),
        },
    }
}

fn workload(connection: &Connection) -> Result<std::sync::Arc<Workload>, Error> {
    let detail = "the control plane has not said what this workload is";
    let workload = connection.cx.store.current().workload.clone();
    workload.ok_or_else(|| Error::new(Reason::ControlPlane, detail))
}

fn caller(workload: &Workload, port: u16, peer: Option<&Peer>) -> Result<(), Error> {
    let mtls = workload.port(port).map_or(workload.default_mtls, |port| port.mtls);
    match peer {
        None if mtls == MtlsMode::Strict => {
            let detail = format!("port {port} wants mTLS (MeshTLS strict)");
            Err(Error::new(Reason::Denied, detail).forbidden_by(MESH_TLS))
        }
        Some(peer) if !workload.trust_domains.iter().any(|d| d == peer.id.trust_domain()) => {
            let id = &peer.id;
            let detail = format!("{id} is of no trust domain that is allowed");
            Err(Error::new(Reason::Denied, detail).forbidden_by(MESH_TLS))
        }
        _ => Ok(()),
    }
}
