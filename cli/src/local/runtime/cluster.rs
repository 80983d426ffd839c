//! Everything wanted and everything there, in one place; [`Cluster::reconcile`] brings them together.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Pod, PodTemplateSpec, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
    jiff::Timestamp,
};
use tokio::time::Instant;

use super::publish::{Outlets, Publisher};
use crate::local::{
    admission,
    controllers::{
        Id, deployment, endpoints,
        endpoints::Backend,
        replica_set, safe_name,
        services::{Allocator, Refused},
    },
    directory::Content,
    network::{PodAddresses, PodRange},
    objects::{Document, Note, Objects},
    pod::{self, Context, Handle, News},
    state::Launch,
    system,
};

/// How long `down` waits for a pod that takes its time.
const DOWN_GRACE: Duration = Duration::from_secs(5);

/// The state of the mesh. Owned by one task.
pub(super) struct Cluster {
    pub(super) cx: Arc<Context>,
    pub(super) name: String,
    pub(super) directory: String,
    /// What the mesh itself needs, before what the user wants.
    system: Vec<Document>,
    pub(super) content: Content,
    pub(super) objects: Objects,
    /// The directory has been read once.
    pub(super) loaded: bool,
    pub(super) sets: BTreeMap<Id, Set>,
    pub(super) pods: BTreeMap<Id, Member>,
    pub(super) services: BTreeMap<Id, Service>,
    pub(super) refused: Vec<Refused>,
    pub(super) slices: BTreeMap<Id, EndpointSlice>,
    /// Pods that could not be made, by their owner.
    pub(super) rejected: BTreeMap<Id, String>,
    allocator: Allocator,
    range: PodRange,
    serial: u64,
    ending: bool,
    publisher: Publisher,
}

/// A ReplicaSet.
pub(super) struct Set {
    /// Its Deployment; none for one of the user's.
    pub(super) deployment: Option<Id>,
    pub(super) hash: String,
    pub(super) uid: String,
    pub(super) replicas: i32,
    pub(super) min_ready: Duration,
    pub(super) template: PodTemplateSpec,
    serial: u64,
}

/// A pod.
pub(super) struct Member {
    /// As it was started, injected.
    pub(super) pod: Pod,
    /// Its ReplicaSet; none for one of the user's.
    pub(super) owner: Option<Id>,
    /// What the user wrote, for a pod of his.
    source: Option<Pod>,
    handle: Handle,
    addresses: PodAddresses,
    pub(super) news: News,
    pub(super) ending: Option<Timestamp>,
    ready_since: Option<Instant>,
    pub(super) ready_after: Option<Duration>,
    made: Instant,
    serial: u64,
}

impl Member {
    /// Counts for its ReplicaSet: neither ending nor ended.
    fn is_active(&self) -> bool {
        let phase = self.news.status.phase.as_deref();
        self.ending.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
    }

    fn is_available(&self, min_ready: Duration) -> bool {
        self.news.ready
            && self
                .ready_since
                .is_some_and(|since| since.elapsed() >= min_ready)
    }
}

impl Cluster {
    pub(super) fn new(
        cx: Arc<Context>,
        launch: &Launch,
        system: Vec<Document>,
        out: Outlets,
    ) -> Self {
        let objects = Objects::read(&system);
        Self {
            publisher: Publisher::new(Arc::clone(&cx), out),
            cx,
            name: launch.name.clone(),
            directory: launch.directory.display().to_string(),
            system,
            content: Content::default(),
            objects,
            loaded: false,
            sets: BTreeMap::new(),
            pods: BTreeMap::new(),
            services: BTreeMap::new(),
            refused: Vec::new(),
            slices: BTreeMap::new(),
            rejected: BTreeMap::new(),
            allocator: Allocator::default(),
            range: PodRange::new(),
            serial: 0,
            ending: false,
        }
    }

    /// The user's directory says something new.
    pub(super) fn declared(&mut self, content: Content) {
        let mut documents = self.system.clone();
        documents.extend(content.documents.iter().cloned());
        self.objects = Objects::read(&documents);
        self.content = content;
        self.loaded = true;
        self.publisher
            .user_config_maps(self.objects.config_maps.clone());
    }

    /// The control plane wrote something.
    pub(super) fn produced(&mut self, content: &Content) {
        self.publisher
            .produced_config_maps(Objects::read(&content.documents).config_maps);
    }

    /// Everything shall end.
    pub(super) fn end(&mut self) {
        self.ending = true;
    }

    /// Everything has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ending && self.pods.is_empty()
    }

    /// Takes the next steps towards what is wanted, and publishes what is.
    pub(super) async fn reconcile(&mut self) {
        self.take_news();
        if self.ending {
            self.end_all();
        } else {
            self.reconcile_deployments();
            self.reconcile_sets();
            self.reconcile_own_pods();
        }
        let declared = self.objects.services.iter();
        (self.services, self.refused) = self.allocator.fill(declared);
        self.slices = self.wanted_slices();
        let view = super::publish::View::of(self);
        self.publisher.publish(view).await;
    }

    fn take_news(&mut self) {
        for member in self.pods.values_mut() {
            member.news = member.handle.news();
            if member.news.ready {
                member.ready_since.get_or_insert_with(Instant::now);
                let after = member.made.elapsed();
                member.ready_after.get_or_insert(after);
            } else {
                member.ready_since = None;
            }
        }
        let range = &mut self.range;
        self.pods.retain(|_, member| {
            if member.news.gone {
                range.free(member.addresses);
            }
            !member.news.gone
        });
    }

    fn end_all(&mut self) {
        // The control plane last: others still ask it while they end.
        let others = self.pods.keys().any(|id| id.namespace != system::NAMESPACE);
        let ids: Vec<Id> = self.pods.keys().cloned().collect();
        for id in ids
            .iter()
            .filter(|id| !others || id.namespace != system::NAMESPACE)
        {
            self.end_pod(id);
        }
    }

    fn reconcile_deployments(&mut self) {
        let deployments = self.objects.deployments.clone();
        self.sets.values_mut().for_each(|set| {
            let gone = set
                .deployment
                .as_ref()
                .is_some_and(|id| !deployments.contains_key(id));
            if gone {
                set.replicas = 0;
            }
        });
        for (id, deployment) in &deployments {
            let wanted = deployment::Wanted::of(deployment);
            for action in deployment::plan(&wanted, &self.sets_of(id)) {
                self.apply(id, deployment, &wanted.hash, action);
            }
        }
        let orphaned = |set: &Set| {
            set.deployment
                .as_ref()
                .is_some_and(|id| !deployments.contains_key(id))
        };
        let pods = &self.pods;
        self.sets.retain(|id, set| {
            !orphaned(set)
                || pods
                    .values()
                    .any(|member| member.owner.as_ref() == Some(id))
        });
    }

    fn sets_of(&self, deployment: &Id) -> Vec<deployment::Set> {
        let sets = self
            .sets
            .iter()
            .filter(|(_, set)| set.deployment.as_ref() == Some(deployment));
        let mut sets: Vec<_> = sets
            .map(|(id, set)| {
                let members = self.pods.values().filter(|m| m.owner.as_ref() == Some(id));
                let available = members
                    .clone()
                    .filter(|m| m.is_active() && m.is_available(set.min_ready));
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

    fn apply(&mut self, id: &Id, from: &Deployment, hash: &str, action: deployment::Action) {
        let named = |hash: &str| Id::new(&*id.namespace, format!("{}-{hash}", id.name));
        match action {
            deployment::Action::Create { replicas } => {
                let spec = from.spec.clone().unwrap_or_default();
                let mut template = spec.template;
                let labels = template
                    .metadata
                    .get_or_insert_default()
                    .labels
                    .get_or_insert_default();
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

    fn reconcile_sets(&mut self) {
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

    fn reconcile_own_pods(&mut self) {
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
        spec.node_name
            .get_or_insert_with(|| system::NODE.to_owned());
        spec.service_account_name
            .get_or_insert_with(|| "default".to_owned());
        let subject = owner.clone().unwrap_or_else(|| id.clone());
        let labels = self.objects.namespaces.get(&Id::new("", &*id.namespace));
        let labels = labels.and_then(|namespace| namespace.metadata.labels.clone());
        let pod = match admission::admit(pod, &labels.unwrap_or_default()) {
            Ok(pod) => pod,
            Err(reason) => {
                self.rejected.insert(subject, reason);
                return;
            }
        };
        self.rejected.remove(&subject);
        let Some(addresses) = self.range.take() else {
            self.rejected
                .insert(subject, "all pod addresses are in use".to_owned());
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

    fn end_pod(&mut self, id: &Id) {
        let Some(member) = self.pods.get_mut(id) else {
            return;
        };
        let grace = pod::grace(&member.pod);
        let grace = if self.ending {
            grace.min(DOWN_GRACE)
        } else {
            grace
        };
        let hurry = self.ending && !member.handle.is_told_within(grace);
        if member.ending.is_none() || hurry {
            member.ending.get_or_insert_with(Timestamp::now);
            member.handle.end(grace);
        }
    }

    fn wanted_slices(&self) -> BTreeMap<Id, EndpointSlice> {
        let backends: Vec<(Pod, bool, bool)> = self
            .pods
            .values()
            .filter(|member| member.news.status.pod_ip.is_some())
            // Ended for good: it has an address no more.
            .filter(|m| !matches!(m.news.status.phase.as_deref(), Some("Succeeded" | "Failed")))
            .map(|member| (member.object(), member.news.ready, member.ending.is_some()))
            .collect();
        let backends: Vec<Backend<'_>> = backends
            .iter()
            .map(|(pod, ready, terminating)| Backend {
                pod,
                ready: *ready,
                terminating: *terminating,
            })
            .collect();
        let made = self
            .services
            .iter()
            .flat_map(|(id, s)| endpoints::slices(id, s, &backends));
        let mut slices: BTreeMap<Id, EndpointSlice> = made
            .map(|slice| {
                let namespace = slice.metadata.namespace.clone().unwrap_or_default();
                (
                    Id::new(namespace, slice.metadata.name.clone().unwrap_or_default()),
                    slice,
                )
            })
            .collect();
        for (id, slice) in &self.objects.slices {
            let mut slice = slice.clone();
            slice.metadata.namespace = Some(id.namespace.clone());
            slices.insert(id.clone(), slice);
        }
        slices
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Deployments with how many pods are wanted, ready, and of old templates.
    pub(super) fn progress(&self) -> Vec<(Id, i32, i32, i32)> {
        let deployments = self.objects.deployments.iter();
        deployments
            .map(|(id, deployment)| {
                let wanted = deployment::Wanted::of(deployment);
                let (mut ready, mut old) = (0, 0);
                for set in self.sets_of(id) {
                    if set.hash == wanted.hash {
                        ready += set.available;
                    } else {
                        old += set.pods;
                    }
                }
                (id.clone(), wanted.replicas, ready, old)
            })
            .collect()
    }

    /// Everything wrong with what the user wrote.
    pub(super) fn problems(&self) -> Vec<Note> {
        let note = |object: String, message: &str| Note {
            object,
            place: self.directory.clone(),
            field: None,
            message: message.to_owned(),
        };
        let refused = self
            .refused
            .iter()
            .map(|r| note(format!("Service {}", r.service), &r.reason));
        let rejected = self
            .rejected
            .iter()
            .map(|(id, why)| note(format!("pods of {id}"), why));
        let mut problems: Vec<Note> = self
            .content
            .problems
            .iter()
            .chain(&self.objects.problems)
            .cloned()
            .collect();
        problems.extend(refused);
        problems.extend(rejected);
        problems
    }
}

impl Member {
    /// The Pod as the API server would show it.
    pub(super) fn object(&self) -> Pod {
        let mut pod = self.pod.clone();
        pod.metadata.deletion_timestamp = self.ending.map(Time);
        pod.status = Some(self.news.status.clone());
        pod
    }
}

fn min_ready(seconds: Option<i32>) -> Duration {
    Duration::from_secs(seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(0))
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
