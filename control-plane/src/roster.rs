//! Which pods there are: the little of the world that proving an identity needs.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use parking_lot::RwLock;
use tokio::sync::watch;
use tulle_xds::model::{Here, SpiffeId};

use crate::{
    ca::attest::Attested,
    telemetry::Workload,
    world::objects::{Name, Pod},
};

/// Which pods there are. `publish` writes it, the CA and the stream server read it. Clones share.
#[derive(Debug, Clone, Default)]
pub struct Roster(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    members: RwLock<HashMap<Name, Member>>,
    /// Pods whose proxies count nothing of their edges, and the Telemetry by which.
    uncounted: RwLock<HashMap<Name, Name>>,
    /// Counts what was taken out or replaced.
    left: watch::Sender<u64>,
}

/// A pod, as far as its identity goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Uid of the pod.
    pub uid: String,
    /// Its ServiceAccount.
    pub service_account: String,
    /// Kind and name of the workload that it is of.
    pub owner: (String, String),
    /// Which template it is of; empty: nobody says.
    pub revision: String,
    /// Where it runs; without a node until that is decided.
    pub here: Here,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Whether it is ready, of replicas of the control plane.
    pub ready: bool,
}

/// The pods of a workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pods {
    /// How many there are.
    pub all: usize,
    /// Those whose proxies count nothing of their edges.
    pub uncounted: usize,
    /// The Telemetries by which.
    pub uncounted_by: BTreeSet<Name>,
}

/// What became of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// It does not exist any more.
    Gone,
    /// More is known of where it is, or its node has moved to another zone.
    Elsewhere,
}

impl Member {
    /// The workload that it is of.
    pub fn workload(&self, namespace: &str) -> Workload {
        let (kind, name) = self.owner.clone();
        Workload { namespace: namespace.to_owned(), kind, name }
    }

    /// What this pod of ours would prove.
    pub fn attested(self, pod: &Name, trust_domain: &str) -> Attested {
        let identity =
            SpiffeId::service_account(trust_domain, &pod.namespace, &self.service_account);
        Attested { identity, pod: pod.clone(), pod_uid: self.uid, workload: self.owner.1 }
    }
}

impl Roster {
    /// The pod of this name.
    pub fn get(&self, name: &Name) -> Option<Member> {
        self.0.members.read().get(name).cloned()
    }

    /// The other pods of the ServiceAccount of `own` that have an address: replicas of what it is; and whether they are ready.
    pub fn siblings(&self, own: &Name) -> Vec<(Name, bool)> {
        let members = self.0.members.read();
        let account = members.get(own).map(|own| &own.service_account);
        let same = members.iter().filter(|(name, member)| {
            name.namespace == own.namespace
                && *name != own
                && Some(&member.service_account) == account
                && !member.ips.is_empty()
        });
        let mut found: Vec<_> = same.map(|(name, member)| (name.clone(), member.ready)).collect();
        // They are named in statuses, always in the same order.
        found.sort();
        found
    }

    /// Whether there is a pod in this namespace.
    pub fn has(&self, namespace: &str) -> bool {
        self.0.members.read().keys().any(|pod| *pod.namespace == *namespace)
    }

    /// The pods of each workload.
    pub fn workloads(&self) -> BTreeMap<Workload, Pods> {
        let mut all: BTreeMap<_, Pods> = BTreeMap::new();
        let uncounted = self.0.uncounted.read();
        for (name, member) in &*self.0.members.read() {
            let pods = all.entry(member.workload(&name.namespace)).or_default();
            pods.all += 1;
            if let Some(by) = uncounted.get(name) {
                pods.uncounted += 1;
                pods.uncounted_by.insert(by.clone());
            }
        }
        all
    }

    /// Notes by which Telemetry a pod's proxy counts nothing of its edges.
    pub fn set_uncounted(&self, name: &Name, by: Option<&Name>) {
        let mut all = self.0.uncounted.write();
        match by {
            Some(by) => drop(all.insert(name.clone(), by.clone())),
            None => drop(all.remove(name)),
        }
    }

    /// The pods of a namespace, and the workload that each is of.
    pub fn pods(&self, namespace: &str) -> BTreeMap<Name, Workload> {
        let members = self.0.members.read();
        let those = members.iter().filter(|(name, _)| &*name.namespace == namespace);
        those.map(|(name, member)| (name.clone(), member.workload(namespace))).collect()
    }

    /// Notes what became of a pod, and the zone of its node. One that has ended has no identity any more.
    pub fn set(&self, name: &Name, pod: Option<&Pod>, zone: &str) {
        let member = pod.filter(|pod| !pod.ended).map(|pod| Member {
            uid: pod.uid.clone(),
            service_account: pod.service_account.clone(),
            owner: {
                let workload = pod.workload();
                (workload.kind, workload.name)
            },
            revision: pod.revision().to_owned(),
            here: Here { node: pod.node.clone(), zone: zone.to_owned() },
            ips: pod.ips.clone(),
            ready: pod.replica,
        });
        let before = match &member {
            Some(member) => self.0.members.write().insert(name.clone(), member.clone()),
            None => self.0.members.write().remove(name),
        };
        if before.is_some() && before != member {
            self.0.left.send_modify(|count| *count += 1);
        }
    }

    /// Resolves once there is no pod of this name and uid any more, or it is not `here`.
    pub async fn left(self, name: Name, uid: String, here: Here) -> Left {
        let mut left = self.0.left.subscribe();
        loop {
            match self.get(&name).filter(|member| member.uid == uid) {
                None => return Left::Gone,
                Some(member) if member.here != here => return Left::Elsewhere,
                Some(_) => {}
            }
            if left.changed().await.is_err() {
                return Left::Gone;
            }
        }
    }
}
