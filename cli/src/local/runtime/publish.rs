//! What others see of the cluster: object files for the control plane, rules for the kernel, names for
//! DNS, ConfigMaps for pods, the overview for commands. Only what changed is written.

use std::{collections::BTreeMap, fs, sync::Arc};

use k8s_openapi::api::{
    apps::v1::{ReplicaSet, ReplicaSetSpec, ReplicaSetStatus},
    core::v1::{ConfigMap, Pod, Service},
    discovery::v1::EndpointSlice,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use serde::Serialize;
use tokio::sync::watch;

use super::cluster::{Cluster, Member};
use crate::local::{
    controllers::{Id, Labels, endpoints::ByService, services},
    dns::Zone,
    network::{self, rules::Rules},
    objects::Note,
    overview::{ContainerLine, DeploymentLine, Overview, PodLine, ServiceLine},
    pod::{
        ConfigMaps, Context,
        status::{Role, why_not_ready},
    },
    state::write_atomically,
    verdict::Verdict,
};

/// Where the results go.
#[derive(Debug)]
pub(super) struct Outlets {
    pub(super) config_maps: watch::Sender<Arc<ConfigMaps>>,
    pub(super) zone: watch::Sender<Arc<Zone>>,
    pub(super) overview: watch::Sender<Arc<Overview>>,
}

/// What is to be published, worked out from the cluster.
pub(super) struct View {
    files: BTreeMap<String, String>,
    /// How Services are reached, by address and by name; none where that is as it was.
    reach: Option<(Rules, Zone)>,
    overview: Overview,
}

impl View {
    pub(super) fn of(cluster: &Cluster) -> Self {
        let slices = cluster.objects.slices.values().chain(cluster.slices.values());
        let slices: ByService<'_> = slices.collect();
        let services = || cluster.services.iter();
        let reach = || (Rules::of(services(), &slices), Zone::of(services(), &slices));
        Self {
            files: files(cluster),
            reach: cluster.moved.then(reach),
            overview: overview(cluster, &slices),
        }
    }
}

/// Remembers what was published.
pub(super) struct Publisher {
    cx: Arc<Context>,
    out: Outlets,
    /// What the control plane says.
    verdict: watch::Receiver<Verdict>,
    /// Files of Services: thousands of them are worked out when they change and not at each news of a pod.
    services: BTreeMap<String, String>,
    /// Files that are written.
    written: BTreeMap<String, String>,
    /// Rules as they shall be.
    rules: Option<Arc<Rules>>,
    /// Rules as the kernel has them, if that is known.
    in_force: Option<Arc<Rules>>,
    /// Why the kernel does not follow, if it does not.
    fault: Option<String>,
    user_maps: BTreeMap<Id, ConfigMap>,
    produced_maps: BTreeMap<Id, ConfigMap>,
}

impl Publisher {
    pub(super) fn new(cx: Arc<Context>, out: Outlets, verdict: watch::Receiver<Verdict>) -> Self {
        Self {
            cx,
            out,
            verdict,
            services: BTreeMap::new(),
            written: BTreeMap::new(),
            rules: None,
            in_force: None,
            fault: None,
            user_maps: BTreeMap::new(),
            produced_maps: BTreeMap::new(),
        }
    }

    pub(super) fn user_config_maps(&mut self, maps: BTreeMap<Id, ConfigMap>) {
        self.user_maps = maps;
        self.send_config_maps();
    }

    /// The Services, filled.
    pub(super) fn services(&mut self, services: &BTreeMap<Id, Service>) {
        self.services =
            services.iter().filter_map(|(id, s)| file(3, "Service", "v1", id, s)).collect();
    }

    /// What the control plane writes wins: a user's map of the same name would be overwritten by it on
    /// Kubernetes too.
    pub(super) fn produced_config_maps(&mut self, maps: BTreeMap<Id, ConfigMap>) {
        self.produced_maps = maps;
        self.send_config_maps();
    }

    fn send_config_maps(&self) {
        let mut all = self.user_maps.clone();
        all.extend(self.produced_maps.clone());
        self.out.config_maps.send_if_modified(|maps| {
            let changed = **maps != all;
            *maps = Arc::new(all);
            changed
        });
    }

    /// Writes what changed, and says whether all of it could be. Rules come first: when the control plane tells others
    /// of an address, it works.
    pub(super) async fn publish(&mut self, mut view: View) -> bool {
        if let Some((rules, zone)) = view.reach {
            self.rules = Some(Arc::new(rules));
            self.out.zone.send_if_modified(|last| {
                let changed = **last != zone;
                *last = Arc::new(zone);
                changed
            });
        }
        if let Some(rules) = &self.rules
            && self.rules != self.in_force
        {
            let script = rules.script(self.in_force.take().as_deref());
            match network::translate(&self.cx.programs, &script).await {
                Ok(()) => (self.in_force, self.fault) = (self.rules.clone(), None),
                Err(error) => {
                    tracing::error!(%error, "service addresses keep their old targets");
                    self.fault = Some(error.to_string());
                }
            }
        }
        view.overview.problems.extend(self.fault.iter().map(|fault| Note {
            object: "the mesh's network".to_owned(),
            place: view.overview.name.clone(),
            field: None,
            message: fault.clone(),
        }));
        let overview = &view.overview;
        let known: Vec<&Note> = overview.problems.iter().chain(&overview.not_honoured).collect();
        let verdict = self.verdict.borrow_and_update().clone();
        let told = verdict.problems(&overview.directory, &known);
        view.overview.problems.extend(told);
        view.overview.objects = verdict.objects(&view.overview.directory);
        let written = self.write_files(view.files);
        self.out.overview.send_if_modified(|overview| {
            let changed = **overview != view.overview;
            *overview = Arc::new(view.overview);
            changed
        });
        written && self.fault.is_none()
    }

    fn write_files(&mut self, live: BTreeMap<String, String>) -> bool {
        let Self { services, written, .. } = self;
        let directory = self.cx.state.objects();
        let (live, mut all) = (&live, true);
        // In the order of their names, whichever map they are in.
        let new: BTreeMap<&String, &String> = live
            .iter()
            .chain(&*services)
            .filter(|(name, text)| written.get(*name) != Some(text))
            .collect();
        for (name, text) in new {
            match write_atomically(&directory.join(name), text.as_bytes()) {
                Ok(()) => {
                    written.insert(name.clone(), text.clone());
                }
                Err(error) => {
                    tracing::error!(name, %error, "object is not written");
                    all = false;
                }
            }
        }
        written.retain(|name, _| {
            if live.contains_key(name) || services.contains_key(name) {
                return true;
            }
            let removed = fs::remove_file(directory.join(name))
                .inspect_err(|error| tracing::error!(name, %error, "object stays"))
                .is_ok();
            all &= removed;
            !removed
        });
        all
    }
}

/// Objects that follow pods. File names begin with the kind, so pods are known before the slices that lead to them.
fn files(cluster: &Cluster) -> BTreeMap<String, String> {
    let sets = cluster.sets.iter();
    let sets =
        sets.map(|(id, set)| file(1, "ReplicaSet", "apps/v1", id, &replica_set(cluster, id, set)));
    let pods = cluster.pods.iter().map(|(id, pod)| file(2, "Pod", "v1", id, &pod.object()));
    // The user's own slices are in his directory, those of the mesh itself nowhere else.
    let own = cluster.objects.slices.iter().filter(|(id, _)| id.namespace == "kube-system");
    let slices = cluster.slices.iter().chain(own);
    let slices =
        slices.map(|(id, slice)| file(4, "EndpointSlice", "discovery.k8s.io/v1", id, slice));
    sets.chain(pods).chain(slices).flatten().collect()
}

/// Name and content of an object's file.
fn file(
    order: u8,
    kind: &str,
    version: &str,
    id: &Id,
    object: &impl Serialize,
) -> Option<(String, String)> {
    let name = format!("{order}-{}_{}_{}.yaml", kind.to_lowercase(), id.namespace, id.name);
    match yaml(object, version, kind) {
        Ok(text) => Some((name, text)),
        Err(error) => {
            tracing::error!(name, %error, "object is not written");
            None
        }
    }
}

/// k8s-openapi's types do not write version and kind by themselves.
fn yaml(
    object: &impl Serialize,
    version: &str,
    kind: &str,
) -> Result<String, serde_yaml_ng::Error> {
    let mut value = serde_yaml_ng::to_value(object)?;
    if let Some(map) = value.as_mapping_mut() {
        map.insert("apiVersion".into(), version.into());
        map.insert("kind".into(), kind.into());
    }
    tulle_api::yaml::to_string(&value)
}

fn replica_set(cluster: &Cluster, id: &Id, set: &super::cluster::Set) -> ReplicaSet {
    let members: Vec<&Member> =
        cluster.pods.values().filter(|member| member.owner.as_ref() == Some(id)).collect();
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let ready = number(members.iter().filter(|member| member.news.ready).count());
    let deployment = set.deployment.as_ref().and_then(|id| cluster.objects.deployments.get(id));
    let wanted = deployment.and_then(|one| one.spec.as_ref()).and_then(|spec| spec.replicas);
    let annotations = deployment.map(|_| {
        [
            ("revision", set.serial.to_string()),
            ("desired-replicas", wanted.unwrap_or(1).to_string()),
        ]
        .map(|(name, value)| (format!("deployment.kubernetes.io/{name}"), value))
        .into()
    });
    let labels: Labels =
        set.template.metadata.clone().unwrap_or_default().labels.unwrap_or_default();
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(id.name.clone()),
            namespace: Some(id.namespace.clone()),
            uid: Some(set.uid.clone()),
            labels: Some(labels.clone()),
            annotations,
            owner_references: set.deployment.as_ref().map(|deployment| {
                vec![OwnerReference {
                    api_version: "apps/v1".to_owned(),
                    kind: "Deployment".to_owned(),
                    name: deployment.name.clone(),
                    uid: crate::local::token::stable_uid(&format!("Deployment/{deployment}")),
                    controller: Some(true),
                    block_owner_deletion: Some(true),
                }]
            }),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(set.replicas),
            selector: LabelSelector { match_labels: Some(labels), ..LabelSelector::default() },
            template: Some(set.template.clone()),
            ..ReplicaSetSpec::default()
        }),
        status: Some(ReplicaSetStatus {
            replicas: number(members.len()),
            ready_replicas: Some(ready),
            ..ReplicaSetStatus::default()
        }),
    }
}

fn overview(cluster: &Cluster, slices: &ByService<'_>) -> Overview {
    let deployments = cluster.progress().into_iter().map(|(id, wanted, ready, old)| {
        DeploymentLine { namespace: id.namespace, name: id.name, wanted, ready, old }
    });
    let deployments: Vec<_> = deployments.collect();
    let pods: Vec<PodLine> = cluster.pods.iter().map(|(id, member)| pod_line(id, member)).collect();
    let done = |pod: &PodLine| pod.ready || pod.phase == "Succeeded";
    let settled = cluster.loaded
        && cluster.rejected.is_empty()
        && deployments.iter().all(|d| d.ready >= d.wanted && d.old == 0)
        && pods.iter().all(|pod| done(pod) && !pod.terminating)
        && cluster.objects.pods.keys().all(|id| cluster.pods.contains_key(id));
    Overview {
        name: cluster.name.clone(),
        directory: cluster.directory.clone(),
        settled,
        deployments,
        pods,
        services: cluster
            .services
            .iter()
            .map(|(id, s)| service_line(slices.of(id), id, s))
            .collect(),
        objects: Vec::new(),
        problems: cluster.problems(),
        not_honoured: cluster.objects.notes.clone(),
        remarks: vec![
            "Containers are host processes: `image` and `imagePullPolicy` have no effect."
                .to_owned(),
            "Restarts back off from 1 s, where Kubernetes begins with 10 s.".to_owned(),
        ],
    }
}

fn pod_line(id: &Id, member: &Member) -> PodLine {
    let metadata: &Pod = &member.pod;
    let status = &member.news.status;
    let done = member.news.ready || status.phase.as_deref() == Some("Succeeded");
    let mut waiting = if done { vec![] } else { why_not_ready(&member.news.reports) };
    if let Some(message) = &status.message {
        waiting = vec![message.clone()];
    }
    let containers = member.news.reports.iter().map(|report| ContainerLine {
        name: report.name.clone(),
        role: match report.role {
            Role::Init => "init",
            Role::Sidecar => "sidecar",
            Role::App => "app",
        }
        .to_owned(),
        ready: report.ready,
        restarts: report.restarts,
        pid: report.pid,
    });
    PodLine {
        namespace: id.namespace.clone(),
        name: id.name.clone(),
        uid: metadata.metadata.uid.clone().unwrap_or_default(),
        phase: status.phase.clone().unwrap_or_default(),
        ready: member.news.ready,
        terminating: member.ending.is_some(),
        ip: status.pod_ip.clone().unwrap_or_default(),
        ready_after_ms: member.ready_after.and_then(|after| u64::try_from(after.as_millis()).ok()),
        waiting,
        containers: containers.collect(),
    }
}

fn service_line(slices: &[&EndpointSlice], id: &Id, service: &Service) -> ServiceLine {
    // A pod of two families is one endpoint.
    let family = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref()?.first());
    let slices =
        slices.iter().filter(|slice| family.is_none_or(|family| *family == slice.address_type));
    let endpoints = slices.flat_map(|slice| slice.endpoints.iter().flatten());
    let ready = endpoints.filter(|endpoint| {
        endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
    });
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ServiceLine {
        namespace: id.namespace.clone(),
        name: id.name.clone(),
        addresses: services::addresses(service).iter().map(ToString::to_string).collect(),
        ports: ports.map(|port| port.port).collect(),
        ready_endpoints: ready.count(),
    }
}
