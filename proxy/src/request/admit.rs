//! May it go on? What is told, and the pod's end, may have come since a connection was accepted:
//! requests are checked one by one, opaque connections whenever something was told.

use std::sync::Arc;

use tulle_runtime::drain::{Drain, Stage};
use tulle_xds::model::{MTLS_MODE, MtlsMode, TRUST_DOMAINS, Workload, mtls_port};

use super::{Connection, Side};
use crate::{
    authz::{self, Verdict},
    error::{Error, Reason},
    mesh::Resolution,
    telemetry::route_text,
    tls::Peer,
};

/// The kind that says who may come in without mTLS, and from which trust domains.
const MESH_TLS: &str = "MeshTLS";
/// The object that says who may leave the mesh.
pub const MESH_CONFIG: &str = "MeshConfig/default";

/// The policy that would refuse somebody, were it not only audited.
pub type Audit = Option<Arc<str>>;

/// Whether a new request from `peer` may go to the application.
///
/// # Errors
/// Policy forbids it; or the pod is about to end, and the caller's sidecar can do better.
pub fn request(
    connection: &Connection,
    peer: Option<&Peer>,
    drain: &Drain,
) -> Result<Audit, Error> {
    if peer.is_some_and(|peer| peer.sidecar) && drain.stage() >= Stage::Refusing {
        return Err(ending());
    }
    caller(workload(connection)?.as_ref(), connection.destination.port(), peer)
}

/// Why another sidecar is sent elsewhere: the application will have closed its port at any moment, and
/// what it had not read by then could not be told from what it had.
pub fn ending() -> Error {
    Error::new(Reason::Connect, "this pod is ending, its application gets nothing new").ending()
}

/// Resolves when an open connection must not go on, with the reason. Cancel safe.
pub async fn revoked(connection: &Connection) -> Error {
    ended(connection, true).await
}

/// Resolves when whom policy let in must not go on. Whom it did not let in is told so in answer to each
/// request, and not by this. Cancel safe.
pub async fn withdrawn(connection: &Connection) -> Error {
    match connection.side {
        Side::Inbound { .. } => ended(connection, false).await,
        Side::Outbound => std::future::pending().await,
    }
}

async fn ended(connection: &Connection, mut admitted: bool) -> Error {
    let mut generation = connection.cx.store.watch();
    loop {
        match open(connection) {
            Ok(_audit) => admitted = true,
            Err(error) if admitted => return error,
            Err(_told_by_request) => {}
        }
        if generation.changed().await.is_err() {
            // Nothing will be told any more.
            std::future::pending::<()>().await;
        }
    }
}

/// Whether a connection may be open.
///
/// # Errors
/// Policy forbids it.
pub fn open(connection: &Connection) -> Result<Audit, Error> {
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
            _ => Ok(None),
        },
    }
}

fn workload(connection: &Connection) -> Result<Arc<Workload>, Error> {
    let detail = "the control plane has not said what this workload is";
    let workload = connection.cx.store.current().workload.clone();
    workload.ok_or_else(|| Error::new(Reason::ControlPlane, detail))
}

/// Whether `peer` may connect to `port`; `None` has proven no identity.
///
/// # Errors
/// Policy forbids it.
pub fn caller(workload: &Workload, port: u16, peer: Option<&Peer>) -> Result<Audit, Error> {
    let denied = |detail: String, policy: Arc<str>| {
        Err(Error::new(Reason::Denied, detail).forbidden_by(policy))
    };
    let mtls = workload.port(port).map_or(workload.default_mtls, |port| port.mtls);
    match peer {
        None if mtls == MtlsMode::Strict => {
            let detail = format!(
                "plaintext to port {port}, which wants mTLS (MeshTLS strict): is the caller outside \
                 of the mesh?"
            );
            return denied(detail, mesh_tls(workload, &[&mtls_port(port), MTLS_MODE]));
        }
        Some(peer) if !workload.trust_domains.iter().any(|d| d == peer.id.trust_domain()) => {
            let detail = format!("{} is of no trust domain that is allowed", peer.id);
            return denied(detail, mesh_tls(workload, &[TRUST_DOMAINS]));
        }
        _ => {}
    }
    match authz::check(&workload.access, port, peer.map(|peer| &peer.id)) {
        Verdict::Admitted => Ok(None),
        Verdict::Audited(policy) => Ok(Some(route_text(policy).into())),
        Verdict::Refused(policy) => {
            let policy = route_text(policy);
            let who = match peer {
                Some(peer) => peer.id.as_str(),
                None => "who sends plaintext, and so has no identity,",
            };
            let detail =
                format!("{who} may not connect to port {port}: no rule of {policy} lets it in");
            denied(detail, policy.into())
        }
    }
}

/// The MeshTLS that sets the first of these fields that one sets.
fn mesh_tls(workload: &Workload, fields: &[&str]) -> Arc<str> {
    let setter = fields.iter().find_map(|field| {
        let mut setters = workload.setters.iter();
        setters.find(|setter| setter.origin.kind == MESH_TLS && setter.field == *field)
    });
    setter.map_or_else(|| MESH_TLS.into(), |setter| route_text(&setter.origin).into())
}
