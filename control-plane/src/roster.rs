//! Which pods there are: the little of the world that proving an identity needs.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;

use crate::world::objects::{Name, Pod};

/// Which pods there are. `publish` writes it, the CA and the stream server read it. Clones share.
#[derive(Debug, Clone, Default)]
pub struct Roster(Arc<RwLock<HashMap<Name, Member>>>);

/// A pod, as far as its identity goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Uid of the pod.
    pub uid: String,
    /// Its ServiceAccount.
    pub service_account: String,
}

impl Roster {
    /// The pod of this name.
    pub fn get(&self, name: &Name) -> Option<Member> {
        self.0.read().get(name).cloned()
    }

    /// Notes what became of a pod. One that has ended has no identity any more.
    pub fn set(&self, name: &Name, pod: Option<&Pod>) {
        let member = pod.filter(|pod| !pod.ended).map(|pod| Member {
            uid: pod.uid.clone(),
            service_account: pod.service_account.clone(),
        });
        match member {
            Some(member) => self.0.write().insert(name.clone(), member),
            None => self.0.write().remove(name),
        };
    }
}
