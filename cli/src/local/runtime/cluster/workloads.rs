//! Deployments, ReplicaSets and pods: steps from what is there to what is wanted.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Pod, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
    jiff::Timestamp,
};
use tokio::time::Instant;

use super::{Cluster, DOWN_GRACE, Member, Set};
use crate::local::{
    admission,
    controllers::{Id, deployment, replica_set, safe_name},
    pod, system,
};

impl Cluster {
    pub(super) fn reconcile_deployments(&mut self) {
        let deployments = self.objects.deployments.clone();
        self.sets.values_mut().for_each(|set| {
            let gone = set.deployment.as_ref().is_some_and(|id| !deployments.contains_key(id));
            if gone {
                set.replicas = 0;
            }
        });
        for (id, deployment) in &deployments {
            let wanted = deployment::Wanted::of(deployment);
            self.newest(id, &wanted.hash);
            for action in deployment::plan(&wanted, &self.sets_of(id)) {
                self.apply(id, deployment, &wanted.hash, action);
            }
        }
        let orphaned =
            |set: &Set| set.deployment.as_ref().is_some_and(|id| !deployments.contains_key(id));
        let pods = &self.pods;
        self.sets.retain(|id, set| {
            !orphaned(set) || pods.values().any(|member| member.owner.as_ref() == Some(id))
        });
    }

    pub(super) fn sets_of(&self, deployment: &Id) -> Vec<deployment::Set> {
        let sets = self.sets.iter().filter(|(_, set)| set.deployment.as_ref() == Some(deployment));
        let mut sets: Vec<_> = sets
            .map(|(id, set)| {
                let members = self.pods.values().filter(|m| m.owner.as_ref() == Some(id));
                let available =
                    members.clone().filter(|m| m.is_active() && m.is_available(set.min_ready));
                let state = deployment::Set {
                    hash: set.hash.clone(),
                    desired: set.replicas,
                    pods: number(members.count()),
                    available: number(available.count()),
                };
                (set.serial, state)
            })
            .collect();
        sets.sort_by_key(|(serial, _)| *serial);
        sets.into_iter().map(|(_, set)| set).collect()
    }

    /// The set whose template is wanted is the newest, also where that template was there before.
    fn newest(&mut self, deployment: &Id, hash: &str) {
        let of = |set: &&Set| set.deployment.as_ref() == Some(deployment);
        let all = self.sets.values().filter(of).map(|set| set.serial);
        let latest = all.max().unwrap_or_default();
        let serial = self.serial + 1;
        let mut own = self.sets.values_mut();
        let own = own.find(|set| set.deployment.as_ref() == Some(deployment) && set.hash == hash);
        if let Some(own) = own.filter(|own| own.serial < latest) {
            (own.serial, self.serial) = (serial, serial);
        }
    }

    fn apply(&mut self, id: &Id, from: &Deployment, hash: &str, action: deployment::Action) {
        let named = |hash: &str| Id::new(&*id.namespace, format!("{}-{hash}", id.name));
        match action {
            deployment::Action::Create { replicas } => {
                let spec = from.spec.clone().unwrap_or_default();
                let mut template = spec.template;
                let labels =
                    template.metadata.get_or_insert_default().labels.get_or_insert_default();
                labels.insert("pod-template-hash".to_owned(), hash.to_owned());
                let set = Set {
                    deployment: Some(id.clone()),
                    hash: hash.to_owned(),
                    uid: uuid::Uuid::new_v4().to_string(),
                    replicas,
                    min_ready: min_ready(spec.min_ready_seconds),
                    template,
                    serial: self.next_serial(),
                };
                self.sets.insert(named(hash), set);
            }
            deployment::Action::Scale { hash, replicas } => {
                if let Some(set) = self.sets.get_mut(&named(&hash)) {
                    set.replicas = replicas;
                }
            }
            deployment::Action::Delete { hash } => {
                self.sets.remove(&named(&hash));
            }
        }
        // What follows from this step is looked at right after it.
        self.cx.news.notify_one();
    }

    pub(super) fn reconcile_sets(&mut self) {
        let declared = self.objects.replica_sets.clone();
        for (id, set) in &mut self.sets {
            if set.deployment.is_none() && !declared.contains_key(id) {
                set.replicas = 0;
            }
        }
        for (id, wanted) in declared {
            let spec = wanted.spec.unwrap_or_default();
            let serial = self.next_serial();
            let set = self.sets.entry(id).or_insert_with(|| Set {
                deployment: None,
                hash: String::new(),
                uid: uuid::Uuid::new_v4().to_string(),
                replicas: 0,
                min_ready: Duration::ZERO,
                template: PodTemplateSpec::default(),
                serial,
            });
            set.replicas = spec.replicas.unwrap_or(1);
            set.min_ready = min_ready(spec.min_ready_seconds);
            set.template = spec.template.unwrap_or_default();
        }
        let ids: Vec<Id> = self.sets.keys().cloned().collect();
        for id in ids {
            let members = self
                .pods
                .iter()
                .filter(|(_, member)| member.owner.as_ref() == Some(&id) && member.is_active());
            let members = members.map(|(id, member)| replica_set::Member {
                name: id.name.clone(),
                ready: member.news.ready,
                age_rank: member.serial,
            });
            let replicas = self.sets.get(&id).map_or(0, |set| set.replicas);
            match replica_set::plan(replicas, members.collect()) {
                Some(replica_set::Action::Create(number)) => {
                    (0..number).for_each(|_| self.make_member(&id));
                }
                Some(replica_set::Action::End(names)) => {
                    for name in names {
                        self.end_pod(&Id::new(&*id.namespace, name));
                    }
                }
                None => {}
            }
        }
    }

    fn make_member(&mut self, owner: &Id) {
        let Some(set) = self.sets.get(owner) else {
            return;
        };
        let template = set.template.clone();
        let name = format!("{}-{}", owner.name, safe_name(rand::random(), 5));
        let metadata = template.metadata.unwrap_or_default();
        let pod = Pod {
            metadata: ObjectMeta {
                name: Some(name),
                generate_name: Some(format!("{}-", owner.name)),
                namespace: Some(owner.namespace.clone()),
                labels: metadata.labels,
                annotations: metadata.annotations,
                owner_references: Some(vec![OwnerReference {
                    api_version: "apps/v1".to_owned(),
                    kind: "ReplicaSet".to_owned(),
                    name: owner.name.clone(),
                    uid: set.uid.clone(),
                    controller: Some(true),
                    block_owner_deletion: Some(true),
                }]),
                ..ObjectMeta::default()
            },
            spec: template.spec,
            ..Pod::default()
        };
        self.start_pod(pod, Some(owner.clone()), None);
    }

    pub(super) fn reconcile_own_pods(&mut self) {
        let declared = self.objects.pods.clone();
        for (id, wanted) in &declared {
            match self.pods.get(id) {
                // A pod cannot be changed: an edit means another pod, once this one has gone.
                Some(member) if member.source.as_ref() != Some(wanted) => self.end_pod(id),
                Some(_) => {}
                None => {
                    let mut pod = wanted.clone();
                    pod.metadata.namespace = Some(id.namespace.clone());
                    self.start_pod(pod, None, Some(wanted.clone()));
                }
            }
        }
        let lost = self.pods.iter().filter(|(id, member)| match &member.owner {
            None => !declared.contains_key(id),
            Some(owner) => !self.sets.contains_key(owner),
        });
        for id in lost.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.end_pod(&id);
        }
    }

    fn start_pod(&mut self, mut pod: Pod, owner: Option<Id>, source: Option<Pod>) {
        let metadata = &mut pod.metadata;
        metadata.uid = Some(uuid::Uuid::new_v4().to_string());
        metadata.creation_timestamp = Some(Time(Timestamp::now()));
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let id = Id::new(namespace, metadata.name.clone().unwrap_or_default());
        let spec = pod.spec.get_or_insert_default();
        spec.node_name.get_or_insert_with(|| system::NODE.to_owned());
        spec.service_account_name.get_or_insert_with(|| "default".to_owned());
        let subject = owner.clone().unwrap_or_else(|| id.clone());
        let labels = self.objects.namespaces.get(&Id::new("", &*id.namespace));
        let labels = labels.and_then(|namespace| namespace.metadata.labels.clone());
        let pod = match admission::admit(pod, &labels.unwrap_or_default(), self.data_plane) {
            Ok(pod) => pod,
            Err(reason) => {
                self.rejected.insert(subject, reason);
                return;
            }
        };
        self.rejected.remove(&subject);
        let Some(addresses) = self.range.take() else {
            self.rejected.insert(subject, "all pod addresses are in use".to_owned());
            return;
        };
        let handle = pod::start(Arc::clone(&self.cx), pod.clone(), addresses);
        let member = Member {
            pod,
            owner,
            source,
            news: handle.news(),
            handle,
            addresses,
            ending: None,
            ready_since: None,
            ready_after: None,
            made: Instant::now(),
            serial: self.next_serial(),
        };
        self.pods.insert(id, member);
    }

    pub(super) fn end_pod(&mut self, id: &Id) {
        let Some(member) = self.pods.get_mut(id) else {
            return;
        };
        let grace = pod::grace(&member.pod);
        let grace = if self.ending { grace.min(DOWN_GRACE) } else { grace };
        let hurry = self.ending && !member.handle.is_told_within(grace);
        if member.ending.is_none() || hurry {
            member.ending.get_or_insert_with(Timestamp::now);
            member.handle.end(grace);
        }
    }
}

fn min_ready(seconds: Option<i32>) -> Duration {
    Duration::from_secs(seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(0))
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
