//! Who somebody is and what he may do, as the API server says: TokenReview and SubjectAccessReview,
//! <https://kubernetes.io/docs/reference/access-authn-authz/authorization/>.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec},
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    core::v1::ConfigMap,
};
use kube::{Api, Client, api::PostParams};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio::{sync::watch, time::sleep};

use super::Cluster;
use crate::console::gate::{Access, Unproven, User, Verb};

/// Where the API server publishes by which authority it knows clients.
const NAMESPACE: &str = "kube-system";
const CONFIG_MAP: &str = "extension-apiserver-authentication";
const KEY: &str = "client-ca-file";
/// It changes seldom, and nobody is told.
const AGAIN: Duration = Duration::from_secs(60);
/// Until then nobody can come with a certificate.
const SOON: Duration = Duration::from_secs(2);

/// Asks the API server.
#[derive(Clone)]
pub struct Reviews(Client);

impl Cluster {
    /// Knows whoever the API server knows.
    pub fn reviews(&self) -> Reviews {
        Reviews(self.client.clone())
    }

    /// The certificates by which the API server knows its clients, for as long as somebody wants to know; none until they could
    /// be read, and where it knows none by certificate.
    pub async fn client_authority(self, current: watch::Sender<Arc<[CertificateDer<'static>]>>) {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), NAMESPACE);
        while !current.is_closed() {
            let pause = match api.get(CONFIG_MAP).await {
                Ok(map) => {
                    let pem = map.data.unwrap_or_default().remove(KEY).unwrap_or_default();
                    let read = CertificateDer::pem_slice_iter(pem.as_bytes());
                    let read: Arc<[_]> = read.filter_map(Result::ok).collect();
                    if *current.borrow() != read {
                        current.send_replace(read);
                    }
                    AGAIN
                }
                Err(error) => {
                    tracing::warn!(
                        %error,
                        "ConfigMap {NAMESPACE}/{CONFIG_MAP} cannot be read: client certificates open nothing new"
                    );
                    if current.borrow().is_empty() { SOON } else { AGAIN }
                }
            };
            sleep(pause).await;
        }
    }
}

#[tonic::async_trait]
impl Access for Reviews {
    async fn who(&self, token: &str) -> Result<User, Unproven> {
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), audiences: None },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.0.clone());
        let asked = api.create(&PostParams::default(), &review).await;
        let status = asked.map_err(|error| Unproven::Unavailable(error.to_string()))?.status;
        let status = status.unwrap_or_default();
        let user = status.user.unwrap_or_default();
        match (status.authenticated, user.username.filter(|name| !name.is_empty())) {
            (Some(true), Some(name)) => Ok(User {
                name,
                uid: user.uid.unwrap_or_default(),
                groups: user.groups.unwrap_or_default(),
                extra: user.extra.unwrap_or_default(),
            }),
            _ => {
                let why = status.error.unwrap_or_else(|| "it is not authentic".to_owned());
                Err(Unproven::Refused(why))
            }
        }
    }

    async fn may(&self, user: &User, verb: Verb, namespace: Option<&str>) -> Result<bool, String> {
        let User { name, uid, groups, extra } = user.clone();
        let (group, resource) = verb.resource();
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(name),
                uid: Some(uid),
                groups: Some(groups),
                extra: Some(extra),
                resource_attributes: Some(ResourceAttributes {
                    group: Some(group.to_owned()),
                    resource: Some(resource.to_owned()),
                    verb: Some(verb.as_str().to_owned()),
                    namespace: namespace.map(str::to_owned),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.0.clone());
        let asked = api.create(&PostParams::default(), &review).await;
        let status = asked.map_err(|error| error.to_string())?.status.unwrap_or_default();
        Ok(status.allowed && status.denied != Some(true))
    }
}

impl std::fmt::Debug for Reviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Reviews").finish()
    }
}
