//! Kubernetes: what the control plane reads from the API server, and what it writes to it.
//!
//! ```text
//! watch, one per kind ──► source: object → Event ──► publish ──► status::follow ──► statuses ──┐
//!                            └──► book: what the server holds of our statuses ─────────────────┴─► API server
//! Secret tulle-ca ──► root   ·   TokenReview ──► identity   ·   Lease ──► who writes
//! ```
//!
//! Invariants: only the holder of the Lease writes what others could write too; nothing is read that the mesh has no use
//! for, no Secret but our own; what cannot be reached changes nothing, the last good state stays.

mod access;
mod authority;
mod bare;
mod book;
mod events;
mod kinds;
mod lease;
mod named;
mod overlap;
mod raw;
mod releases;
mod roots;
mod source;
mod statuses;
mod token;
mod watch;
mod webhooks;

use std::time::Duration;

use kube::{Client, Config, config::KubeConfigOptions};
use tokio::sync::{mpsc, watch as channel};
use tulle_runtime::{drain::Drain, ready::Readiness};

use self::events::Events;
pub use self::{
    access::Reviews,
    authority::{AuthorityError, SECRET},
    bare::Bare,
    book::Book,
    lease::LEASE,
    releases::Statuses,
    token::TokenReviews,
    webhooks::configuration as webhook_configuration,
};
use crate::{
    ca::{overlap::Terms, roots::Roots},
    inject::Webhook,
    output::Report,
    replicas::Replica,
    source::Batch,
    world::objects::Name,
};

/// Who writes, as the API server notes it beside each field.
const MANAGER: &str = "tulle-control-plane";

/// Longest wait between two tries.
const MOST: Duration = Duration::from_secs(10);
/// First wait.
const LEAST: Duration = Duration::from_millis(100);

/// How long it takes to connect to the API server, at most.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may be silent, but for those to watches.
const SILENT: Duration = Duration::from_secs(30);

/// A cluster, seen from one of its namespaces.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// For watches, which may be silent for long.
    watching: Client,
    /// The control plane's own.
    namespace: String,
    /// This replica's name.
    identity: String,
}

/// Who learns who writes.
#[derive(Debug)]
pub struct Elected {
    /// Which pod does.
    pub leader: channel::Sender<Option<Name>>,
    /// This one's replica.
    pub replica: Replica,
    /// Whether that does, and knows what the others know.
    pub knows: channel::Sender<bool>,
}

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
#[error("Kubernetes: {0}; does the pod have a ServiceAccount token, or is KUBECONFIG set?")]
pub struct NoCluster(String);

impl Cluster {
    /// The cluster that this pod is in; elsewhere the one that `KUBECONFIG` or `~/.kube/config` says.
    ///
    /// # Errors
    /// If none is said. Whether it can be reached is found out later.
    pub async fn connect(namespace: String, identity: String) -> Result<Self, NoCluster> {
        let mut config = match Config::incluster() {
            Ok(config) => config,
            Err(outside) => {
                let found = Config::from_kubeconfig(&KubeConfigOptions::default()).await;
                found.map_err(|error| NoCluster(format!("{outside}; {error}")))?
            }
        };
        config.connect_timeout = Some(CONNECT);
        let client =
            |config: Config| Client::try_from(config).map_err(|error| NoCluster(error.to_string()));
        let watching = client(config.clone())?;
        config.read_timeout = Some(SILENT);
        Ok(Self { client: client(config)?, watching, namespace, identity })
    }

    /// The root that signs: from the Secret, which is made if it is not there.
    ///
    /// # Errors
    /// If it cannot be had or cannot sign.
    pub async fn roots(&self, trust_domain: &str) -> Result<Roots, AuthorityError> {
        authority::load_or_make(&self.client, &self.namespace, trust_domain).await
    }

    /// Where releases are is written in their objects.
    pub fn statuses(&self, book: Book) -> Statuses {
        Statuses { client: self.client.clone(), book }
    }

    /// This replica's pod.
    pub fn pod(&self) -> Name {
        Name::new(&self.namespace, &self.identity)
    }

    /// Proves identities by asking the API server.
    pub fn tokens(&self, audience: String) -> TokenReviews {
        TokenReviews::new(self.client.clone(), audience)
    }

    /// Everything that is there as the first batch, then what changes.
    ///
    /// # Errors
    /// If there is no thread for it.
    pub fn source(
        &self,
        noted: (Book, Bare),
        readiness: Readiness,
    ) -> std::io::Result<mpsc::Receiver<Batch>> {
        source::start((&self.watching, &self.namespace), noted, readiness)
    }

    /// Follows the roots for as long as it is polled. Writes statuses, roots and the webhook's configuration for as long as
    /// this replica holds the Lease; gives it back when the drain starts. Says which pod holds it.
    pub async fn write(
        self,
        (statuses, webhook): (channel::Receiver<Report>, Option<Webhook>),
        (roots, terms): (Roots, Terms),
        (book, bare): (Book, Bare),
        Elected { leader, replica, knows }: Elected,
        drain: Drain,
    ) {
        let Self { client, watching, namespace, identity } = self;
        let (holds, leads) = channel::channel(false);
        let events = Events::new(client.clone(), identity.clone());
        let told_by = (client.clone(), namespace.clone(), identity.clone());
        let election = lease::Election::new(client.clone(), &namespace, identity);
        let writes = knows.subscribe();
        tokio::join!(
            election.run(holds, leader, drain),
            listen_first(leads.clone(), replica, knows),
            statuses::write((client.clone(), events), statuses.clone(), book, writes),
            roots::write(
                (client.clone(), namespace.clone()),
                statuses,
                roots.watch(),
                leads.clone()
            ),
            bare::write(told_by, webhook.clone(), bare, leads.clone()),
            webhooks::write(
                client.clone(),
                namespace.clone(),
                roots.watch(),
                webhook,
                leads.clone()
            ),
            overlap::follow((client, watching), namespace, (roots, terms), leads),
        );
    }
}

/// Says `knows` while this replica leads and has heard the others.
async fn listen_first(
    mut leads: channel::Receiver<bool>,
    replica: Replica,
    knows: channel::Sender<bool>,
) {
    while leads.wait_for(|leads| *leads).await.is_ok() {
        tokio::select! {
            () = replica.all_heard() => {}
            _ = leads.wait_for(|leads| !leads) => continue,
        }
        knows.send_replace(true);
        let lost = leads.wait_for(|leads| !leads).await;
        knows.send_replace(false);
        if lost.is_err() {
            return;
        }
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// Waits between tries: twice as long each time, up to [`MOST`], and each time a little different, so that replicas that
/// lost the same server do not come back at the same moment.
#[derive(Debug)]
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(LEAST)
    }
}

impl Pause {
    async fn wait(&mut self) {
        let factor = 0.5 + rand::random::<f64>();
        tokio::time::sleep(self.0.mul_f64(factor)).await;
        self.0 = (self.0 * 2).min(MOST);
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

/// Whether the API server says that there is no such thing.
fn not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Whether somebody else has written in the meantime.
fn conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}
