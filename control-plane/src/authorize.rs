//! Who may open a stream: the pod that its certificate names, if that pod exists.

use futures_util::{FutureExt as _, future::BoxFuture};
use tonic::{
    Code, Extensions, Status,
    transport::server::{TcpConnectInfo, TlsConnectInfo},
};
use tulle_xds::{
    model::{Here, SpiffeId},
    server::{Authorize, Caller, Node},
    text::bounded,
};

use crate::{
    ca::{attest::Attested, peer},
    roster::{Left, Roster},
    world::objects::Name,
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
    fn admit(&self, extensions: &Extensions) -> Result<(), Status> {
        let admitted = self.caller(extensions);
        admitted.map(drop).inspect_err(|status| match status.code() {
            // Whoever can connect can have as many of these as it likes.
            Code::Unauthenticated => tracing::debug!(%status, "a stream was refused"),
            _ => tracing::warn!(%status, "a stream was refused"),
        })
    }

    fn authorize(&self, extensions: &Extensions, node: &Node) -> Result<Caller, Status> {
        let caller = self.caller(extensions)?;
        if node.id != caller.pod {
            return Err(Status::permission_denied(format!(
                "node id is {:?}, but the client's certificate is for pod {}",
                bounded(&node.id, 200),
                caller.pod
            )));
        }
        Ok(caller)
    }

    fn revoked(&self, extensions: &Extensions, caller: &Caller) -> BoxFuture<'static, Status> {
        let roster = self.roster.clone();
        match peer_of(extensions) {
            Ok(peer) => {
                let left = roster.left(peer.pod, peer.pod_uid, caller.here.clone());
                left.map(|left| match left {
                    Left::Gone => Status::permission_denied("this pod does not exist any more"),
                    Left::Elsewhere => Status::unavailable(
                        "this pod's node is said to be elsewhere: connect again",
                    ),
                })
                .boxed()
            }
            // Who has no certificate was not let in.
            Err(refused) => std::future::ready(refused).boxed(),
        }
    }
}

impl Pods {
    fn caller(&self, extensions: &Extensions) -> Result<Caller, Status> {
        let (pod, identity, here) = self.pod(extensions)?;
        Ok(Caller { pod: pod.to_string(), namespace: pod.namespace.to_string(), identity, here })
    }

    /// The pod that the certificate names, if it exists, its identity, and where it is.
    pub(crate) fn pod(&self, extensions: &Extensions) -> Result<(Name, SpiffeId, Here), Status> {
        let peer = peer_of(extensions)?;
        let pod = peer.pod.to_string();
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
        Ok((peer.pod, identity, member.here))
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
