//! Who writes: the replica that holds the Lease.
//!
//! Whoever holds it renews it well before its time is over; the others take it when its time is over by *their own* clock,
//! counted from when they saw it change: no two clocks are compared. Whoever stops gives it back.
//! See <https://kubernetes.io/docs/concepts/architecture/leases/>.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tulle_runtime::drain::Drain;

use super::not_found;
use crate::world::objects::Name;

/// Name of the Lease.
pub const LEASE: &str = "tulle-control-plane";

/// How long it is held without being renewed.
const TERM: Duration = Duration::from_secs(15);
/// How long its holder trusts in it: less, so that it stops before another one begins.
const TRUST: Duration = Duration::from_secs(10);
/// How often it is looked at, and renewed.
const LOOK: Duration = Duration::from_secs(2);

/// One replica's part in it.
#[derive(Debug)]
pub(super) struct Election {
    api: Api<Lease>,
    namespace: String,
    identity: String,
    /// The Lease as last seen, and since when it has been like that.
    seen: Option<(Lease, Instant)>,
}

impl Election {
    pub(super) fn new(client: Client, namespace: &str, identity: String) -> Self {
        let namespace = namespace.to_owned();
        Self { api: Api::namespaced(client, &namespace), namespace, identity, seen: None }
    }

    /// Says whether this replica writes, and which pod does, until the drain starts.
    pub(super) async fn run(
        mut self,
        holds: watch::Sender<bool>,
        leader: watch::Sender<Option<Name>>,
        drain: Drain,
    ) {
        let mut until = None;
        loop {
            tokio::select! {
                () = drain.started() => break,
                () = self.round(&holds, &mut until) => {}
            }
            let now = self.holder();
            leader.send_if_modified(|last| {
                let changed = *last != now;
                *last = now;
                changed
            });
        }
        if holds.send_replace(false) {
            self.give_back().await;
        }
    }

    async fn round(&mut self, holds: &watch::Sender<bool>, until: &mut Option<Instant>) {
        let begun = Instant::now();
        match timeout(LOOK, self.acquire()).await {
            Ok(Ok(true)) => *until = Some(begun + TRUST),
            Ok(Ok(false)) => *until = None,
            Ok(Err(error)) => tracing::debug!(%error, "Lease"),
            Err(_elapsed) => tracing::debug!("Lease: the API server does not answer"),
        }
        let now = until.is_some_and(|until| Instant::now() < until);
        holds.send_if_modified(|held| {
            let changed = *held != now;
            if changed {
                let identity = &self.identity;
                tracing::info!(identity, holds = now, "the Lease, and with it writing statuses");
            }
            *held = now;
            changed
        });
        sleep(LOOK.mul_f64(0.75 + 0.5 * rand::random::<f64>())).await;
    }

    /// Takes or renews it if that is our turn; whether it is ours.
    async fn acquire(&mut self) -> kube::Result<bool> {
        let current = match self.api.get(LEASE).await {
            Ok(lease) => lease,
            Err(error) if not_found(&error) => {
                let new = self.lease(None, &LeaseSpec::default());
                let made = self.api.create(&PostParams::default(), &new).await?;
                self.see(made);
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        let since = self.see(current.clone());
        let spec = current.spec.unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let term = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
        let over = since.elapsed() >= term.map_or(TERM, Duration::from_secs);
        if holder != self.identity && !holder.is_empty() && !over {
            return Ok(false);
        }
        let ours = self.lease(current.metadata.resource_version, &spec);
        // Refused if another one was faster.
        let held = self.api.replace(LEASE, &PostParams::default(), &ours).await?;
        self.see(held);
        Ok(true)
    }

    /// The pod that held the Lease when it was seen last.
    fn holder(&self) -> Option<Name> {
        let holder = self.seen.as_ref()?.0.spec.as_ref()?.holder_identity.as_ref()?;
        (!holder.is_empty()).then(|| Name::new(&self.namespace, holder))
    }

    /// Notes the Lease; since when it has been like this.
    fn see(&mut self, lease: Lease) -> Instant {
        let since = match &self.seen {
            Some((before, since)) if before.spec == lease.spec => *since,
            _ => Instant::now(),
        };
        self.seen = Some((lease, since));
        since
    }

    fn lease(&self, resource_version: Option<String>, before: &LeaseSpec) -> Lease {
        let now = Some(MicroTime(Timestamp::now()));
        let ours = before.holder_identity.as_deref() == Some(self.identity.as_str());
        let transitions = before.lease_transitions.unwrap_or_default() + i32::from(!ours);
        Lease {
            metadata: ObjectMeta {
                name: Some(LEASE.to_owned()),
                resource_version,
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(TERM.as_secs()).ok(),
                acquire_time: if ours { before.acquire_time.clone() } else { now.clone() },
                renew_time: now,
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }

    async fn give_back(&self) {
        let Some((lease, _)) = &self.seen else {
            return;
        };
        let mut free = lease.clone();
        if let Some(spec) = &mut free.spec {
            spec.holder_identity = None;
        }
        let given = timeout(LOOK, self.api.replace(LEASE, &PostParams::default(), &free)).await;
        if !matches!(given, Ok(Ok(_))) {
            tracing::info!(
                "the Lease could not be given back; another replica takes it in {TERM:?}"
            );
        }
    }
}
