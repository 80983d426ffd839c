//! Which pods there are: the little of the world that proving an identity needs.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::RwLock;
use tokio::sync::watch;
use tulle_xds::model::SpiffeId;

use crate::{
    ca::attest::Attested,
    compile::workload,
    world::objects::{Name, Pod},
};

/// Which pods there are. `publish` writes it, the CA and the stream server read it. Clones share.
#[derive(Debug, Clone, Default)]
pub struct Roster(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    members: RwLock<HashMap<Name, Member>>,
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
    /// Name of the workload that it is of.
    pub workload: String,
    /// The node that it runs on; empty until that is decided.
    pub node: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Whether it is ready, of replicas of the control plane.
    pub ready: bool,
}

impl Member {
    /// What this pod of ours would prove.
    pub fn attested(self, pod: &Name, trust_domain: &str) -> Attested {
        let identity =
            SpiffeId::service_account(trust_domain, &pod.namespace, &self.service_account);
        Attested { identity, pod: pod.clone(), pod_uid: self.uid, workload: self.workload }
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

    /// Notes what became of a pod. One that has ended has no identity any more.
    pub fn set(&self, name: &Name, pod: Option<&Pod>) {
        let member = pod.filter(|pod| !pod.ended).map(|pod| Member {
            uid: pod.uid.clone(),
            service_account: pod.service_account.clone(),
            workload: workload::owner(pod).1,
            node: pod.node.clone(),
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

    /// Resolves once there is no pod of this name and uid any more.
    pub async fn gone(self, name: Name, uid: String) {
        let mut left = self.0.left.subscribe();
        while self.get(&name).is_some_and(|member| member.uid == uid) {
            if left.changed().await.is_err() {
                return;
            }
        }
    }
}
