//! Who may open a stream: the pod that its certificate names, if that pod exists.

use futures_util::{FutureExt as _, future::BoxFuture};
use tonic::{
    Extensions, Status,
    transport::server::{TcpConnectInfo, TlsConnectInfo},
};
use tulle_xds::{
    model::SpiffeId,
    server::{Authorize, Caller, Node},
};

use crate::{
    ca::{attest::Attested, peer},
    roster::Roster,
};

/// Lets in pods of the mesh.
#[derive(Debug, Clone)]
pub struct Pods {
    /// The pods that there are.
    pub roster: Roster,
    /// Trust domain of their identities.
    pub trust_domain: String,
}

impl Authorize for Pods {
    fn authorize(&self, extensions: &Extensions, node: &Node) -> Result<Caller, Status> {
        let peer = peer_of(extensions)?;
        let pod = peer.pod.to_string();
        if node.id != pod {
            return Err(Status::permission_denied(format!(
                "node id is {:?}, but the client's certificate is for pod {pod}",
                node.id.chars().take(200).collect::<String>()
            )));
        }
        let member = self.roster.get(&peer.pod).filter(|member| member.uid == peer.pod_uid);
        let Some(member) = member else {
            return Err(Status::permission_denied(format!(
                "pod {pod} with uid {} does not exist (any more)",
                peer.pod_uid
            )));
        };
        let identity = SpiffeId::service_account(
            &self.trust_domain,
            &peer.pod.namespace,
            &member.service_account,
        );
        if identity != peer.identity {
            return Err(Status::permission_denied(format!(
                "pod {pod} is {identity}, but the client's certificate is for {}",
                peer.identity
            )));
        }
        Ok(Caller { pod, namespace: peer.pod.namespace.to_string(), identity })
    }

    fn revoked(&self, extensions: &Extensions) -> BoxFuture<'static, ()> {
        let roster = self.roster.clone();
        match peer_of(extensions) {
            Ok(peer) => roster.gone(peer.pod, peer.pod_uid).boxed(),
            // Who has no certificate was not let in.
            Err(_refused) => std::future::ready(()).boxed(),
        }
    }
}

fn peer_of(extensions: &Extensions) -> Result<Attested, Status> {
    let connection = extensions.get::<TlsConnectInfo<TcpConnectInfo>>();
    let certificates = connection.and_then(TlsConnectInfo::peer_certs);
    let leaf = certificates.as_ref().and_then(|chain| chain.first()).ok_or_else(|| {
        Status::unauthenticated("no client certificate; get one from CertificateService first")
    })?;
    peer::read(leaf).map_err(|bad| Status::unauthenticated(bad.to_string()))
}
