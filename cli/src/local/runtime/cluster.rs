//! Everything wanted and everything there, in one place; [`Cluster::reconcile`] brings them together.

mod workloads;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        core::v1::{Pod, PodTemplateSpec, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use tokio::time::Instant;
use tulle_control_plane::inject::DataPlane;

use super::publish::Publisher;
use crate::local::{
    controllers::{
        Id, deployment, endpoints,
        endpoints::Backend,
        services::{Allocator, Refused},
    },
    directory::Content,
    network::{PodAddresses, PodRange},
    objects::{Document, Note, Objects},
    pod::{Context, Handle, News},
    state::Launch,
    system,
};

/// When to try again what failed.
const RETRY: Duration = Duration::from_secs(1);
/// How long `down` waits for a pod that takes its time.
const DOWN_GRACE: Duration = Duration::from_secs(5);

/// The state of the mesh. Owned by one task.
pub(super) struct Cluster {
    pub(super) cx: Arc<Context>,
    pub(super) name: String,
    pub(super) directory: String,
    pub(super) data_plane: DataPlane,
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
    /// What Services and pods make; the user's own are among the objects.
    pub(super) slices: BTreeMap<Id, EndpointSlice>,
    /// Services or slices are not those that were published last.
    pub(super) moved: bool,
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
    pub(super) serial: u64,
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
        self.news.ready && self.ready_since.is_some_and(|since| since.elapsed() >= min_ready)
    }
}

impl Cluster {
    pub(super) fn new(
        cx: Arc<Context>,
        launch: &Launch,
        system: Vec<Document>,
        publisher: Publisher,
    ) -> Self {
        let objects = Objects::read(&system, &Objects::default());
        let mut cluster = Self {
            publisher,
            cx,
            name: launch.name.clone(),
            directory: launch.directory.display().to_string(),
            data_plane: launch.data_plane,
            system,
            content: Content::default(),
            objects: Objects::default(),
            loaded: false,
            sets: BTreeMap::new(),
            pods: BTreeMap::new(),
            services: BTreeMap::new(),
            refused: Vec::new(),
            slices: BTreeMap::new(),
            moved: true,
            rejected: BTreeMap::new(),
            allocator: Allocator::new(launch.families),
            range: PodRange::new(launch.families),
            serial: 0,
            ending: false,
        };
        cluster.declare(objects);
        cluster
    }

    fn declare(&mut self, objects: Objects) {
        // Most edits are of something else, and thousands of Services take their time.
        let services = objects.services != self.objects.services;
        if services {
            (self.services, self.refused) = self.allocator.fill(objects.services.iter());
            self.publisher.services(&self.services);
        }
        self.moved |= services || objects.slices != self.objects.slices;
        self.objects = objects;
    }

    /// The user's directory says something new.
    pub(super) fn declared(&mut self, content: Content) {
        let mut documents = self.system.clone();
        documents.extend(content.documents.iter().cloned());
        self.declare(Objects::read(&documents, &self.objects));
        self.content = content;
        self.loaded = true;
        self.publisher.user_config_maps(self.objects.config_maps.clone());
    }

    /// The control plane wrote something.
    pub(super) fn produced(&mut self, content: &Content) {
        self.publisher.produced_config_maps(
            Objects::read(&content.documents, &Objects::default()).config_maps,
        );
    }

    /// Everything shall end.
    pub(super) fn end(&mut self) {
        self.ending = true;
    }

    /// Everything has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ending && self.pods.is_empty()
    }

    /// Takes the next steps towards what is wanted, and publishes what is. Says when there is more to do though nothing
    /// happens until then.
    pub(super) async fn reconcile(&mut self) -> Option<Instant> {
        self.take_news();
        if self.ending {
            self.end_all();
        } else {
            self.reconcile_deployments();
            self.reconcile_sets();
            self.reconcile_own_pods();
        }
        let slices = self.made_slices();
        self.moved |= slices != self.slices;
        self.slices = slices;
        let view = super::publish::View::of(self);
        self.moved = false;
        let published = self.publisher.publish(view).await;
        let again = (!published || !self.rejected.is_empty()).then(|| Instant::now() + RETRY);
        self.next_available().into_iter().chain(again).min()
    }

    /// When the next pod has been ready for as long as its ReplicaSet wants.
    fn next_available(&self) -> Option<Instant> {
        let due = self.pods.values().filter_map(|member| {
            let set = self.sets.get(member.owner.as_ref()?)?;
            Some(member.ready_since? + set.min_ready)
        });
        let now = Instant::now();
        due.filter(|due| *due > now).min()
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
        for id in ids.iter().filter(|id| !others || id.namespace != system::NAMESPACE) {
            self.end_pod(id);
        }
    }

    fn made_slices(&self) -> BTreeMap<Id, EndpointSlice> {
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
        let made = self.services.iter().flat_map(|(id, s)| endpoints::slices(id, s, &backends));
        let made = made.map(|slice| {
            let ObjectMeta { namespace, name, .. } = slice.metadata.clone();
            (Id::new(namespace.unwrap_or_default(), name.unwrap_or_default()), slice)
        });
        made.filter(|(id, _)| !self.objects.slices.contains_key(id)).collect()
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
        let refused =
            self.refused.iter().map(|r| note(format!("Service {}", r.service), &r.reason));
        let rejected = self.rejected.iter().map(|(id, why)| note(format!("pods of {id}"), why));
        let mut problems: Vec<Note> =
            self.content.problems.iter().chain(&self.objects.problems).cloned().collect();
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
