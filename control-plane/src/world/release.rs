//! Releases: which pods are of which version.

mod hindrance;
mod touch;

use std::{collections::BTreeSet, sync::Arc};

use tulle_api::ReleasePhase as Phase;

pub use self::hindrance::Hindrance;
use super::{
    World,
    attach::age,
    objects::{Kind, Name, ObjectRef, Pod, Service, Workload},
    own_addresses,
};
use crate::release::{Course, Plan, Pods, Share, Step};

/// A Release.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// Its name.
    pub name: Name,
    /// Its uid: another object of the same name begins anew.
    pub uid: String,
    /// `metadata.creationTimestamp`, as written.
    pub created: String,
    /// What is released.
    pub target: Target,
    /// The Services through which it is called; all that select its pods, if there are none.
    pub services: Vec<String>,
    /// What shall happen.
    pub plan: Plan,
    /// Where it is, as its status remembers it; none before the first.
    pub course: Option<Arc<Course>>,
}

/// What is released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The Deployment of this name: its templates are the versions.
    Deployment(String),
    /// Two workloads, by kind and name, which are the versions.
    Two {
        /// The one that is replaced.
        stable: (String, String),
        /// The one that replaces it.
        canary: (String, String),
    },
}

/// How a pod's containers are, without the sidecar's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Life {
    /// All of them are ready, and the pod does not end: it could serve, if its sidecar let it.
    pub serving: bool,
    /// The pod is ready: its sidecar has let it in.
    pub ready: bool,
    /// When the last of them began, in seconds since 1970; 0: not known.
    pub since: u64,
    /// How often they have ended and been started again, in all.
    pub restarts: u32,
}

/// A ReplicaSet of a Deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaSet {
    /// Its name.
    pub name: Name,
    /// The Deployment that it belongs to.
    pub deployment: String,
    /// `pod-template-hash`: which template its pods are of.
    pub hash: String,
    /// `deployment.kubernetes.io/revision`: the highest one of a Deployment has the template that is wanted.
    pub revision: u64,
    /// `deployment.kubernetes.io/desired-replicas`: how many pods the Deployment shall have in all.
    pub wanted: u32,
}

/// Of which version a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// Of the one that is replaced, or of no release at all.
    Stable,
    /// Of the one that replaces it.
    Canary,
    /// Of one that nobody has let in, or of one that is out of service.
    Neither,
}

/// Pods of a released target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Versions {
    /// The canary's. For how long they have been serving is not known here.
    pub canary: Pods,
    /// The stable version's.
    pub stable: Pods,
    /// When the last of the canary's pods that serve began, in seconds since 1970.
    pub youngest: u64,
    /// How often containers of the canary's pods have been started again.
    pub restarts: u32,
    /// Whether there are pods of other versions than the canary's.
    pub others: bool,
    /// Whether pods that are left over serve with the stable version's: these alone are fewer than are wanted.
    pub helped: bool,
}

/// How a Service's endpoints are divided.
#[derive(Debug, Clone, Copy)]
pub struct Split<'a> {
    /// By whom.
    pub release: &'a Arc<Release>,
    /// Where that is.
    pub course: &'a Course,
    /// What of the requests the canary gets.
    pub share: Share,
    /// The step that it is in, as long as somebody serves what that gives to the canary besides.
    pub step: Option<&'a Step>,
    /// Whether [pods that are left over](Release::is_left_over) serve with the stable version's.
    pub helped: bool,
}

/// What of a release serves at a Service.
#[derive(Debug, Clone, Copy, Default)]
struct At {
    /// So many of the canary's pods.
    canary: u32,
    /// Some that serve what is not the canary's.
    stable: bool,
}

impl Split<'_> {
    /// Whether there is a canary that may get something, or has.
    pub fn is_open(&self) -> bool {
        is_open(self.course)
    }

    /// Whether the canary gets nothing any more.
    pub fn is_over(&self) -> bool {
        self.course.phase == Phase::Held && self.share == Share::NONE
    }
}

fn is_open(course: &Course) -> bool {
    let over = [Phase::Idle, Phase::Promoted, Phase::RolledBack];
    !course.canary.is_empty() && !over.contains(&course.phase)
}

impl Pod {
    /// Whether requests can be sent to it, whatever its sidecar says.
    fn is_serving(&self) -> bool {
        !self.ended && self.life.serving && !self.ips.is_empty()
    }
}

impl Release {
    /// Which version a pod of its target is of.
    pub fn version(&self, pod: &Pod) -> String {
        match &self.target {
            Target::Deployment(_) => pod.revision().to_owned(),
            Target::Two { .. } => pod.workload().name,
        }
    }

    /// The workloads whose pods are its versions.
    pub fn workloads(&self) -> impl Iterator<Item = Workload> {
        let deployment = |name: &String| ("Deployment".to_owned(), name.clone());
        let both = match &self.target {
            Target::Deployment(name) => [Some(deployment(name)), None],
            Target::Two { stable, canary } => [Some(stable.clone()), Some(canary.clone())],
        };
        let namespace = &self.name.namespace;
        both.into_iter().flatten().map(|(kind, name)| Workload {
            namespace: Arc::clone(namespace),
            kind,
            name,
        })
    }

    /// Whether a pod is of no version that counts, and was let in before: the Deployment's controller has taken another one away for
    /// it. Its version was stopped, or left for another one, while it took over.
    pub fn is_left_over(&self, pod: &Pod) -> bool {
        let of_deployment = matches!(self.target, Target::Deployment(_));
        of_deployment && pod.life.ready && pod.is_serving() && self.arm(pod) == Arm::Neither
    }

    /// Of which version a pod of its target is.
    fn arm(&self, pod: &Pod) -> Arm {
        let Some(course) = self.course.as_ref().filter(|course| !course.stable.is_empty()) else {
            // Nobody has looked at it yet.
            return Arm::Stable;
        };
        let version = self.version(pod);
        let old = || {
            matches!(self.target, Target::Deployment(_))
                && course.trusted.iter().any(|trusted| *trusted == version)
        };
        if version == course.canary {
            Arm::Canary
        } else if version == course.stable || old() {
            Arm::Stable
        } else {
            Arm::Neither
        }
    }

    /// Whether proxies are to do the same by it as by another one.
    fn acts_as(&self, other: &Self) -> bool {
        let same = match (&self.course, &other.course) {
            (Some(one), Some(other)) => one.acts_as(other),
            (None, None) => true,
            _ => false,
        };
        same && *self == Self { course: self.course.clone(), ..other.clone() }
    }

    /// Kind and name.
    pub fn reference(&self) -> ObjectRef {
        ObjectRef { kind: Kind::Release, name: self.name.clone() }
    }
}

impl World {
    /// How often what the control plane makes of an object by itself has changed; `None` of objects of which it makes nothing.
    pub fn turn(&self, object: &ObjectRef) -> Option<u64> {
        let release = self.release(&object.name).filter(|_| object.kind == Kind::Release)?;
        Some(release.course.as_ref().map_or(0, |course| course.turn))
    }

    /// A Release.
    pub fn release(&self, name: &Name) -> Option<&Arc<Release>> {
        self.releases.get(name)
    }

    /// All of them.
    pub fn releases(&self) -> impl Iterator<Item = &Arc<Release>> {
        self.releases.values()
    }

    /// The Release that a workload's versions are of: of several the oldest, then by name.
    pub fn release_of(&self, workload: &Workload) -> Option<&Arc<Release>> {
        let all = self.releases_by_workload.get(workload);
        let all = all.filter_map(|name| self.releases.get(name));
        all.min_by_key(|release| (age(&release.created), &release.name))
    }

    /// The Release that comes before this one, because it is about the same workload and older.
    pub fn release_before(&self, release: &Release) -> Option<&Arc<Release>> {
        let first = |workload| self.release_of(&workload).filter(|one| one.name != release.name);
        release.workloads().find_map(first)
    }

    /// Of which version a pod is, and of which release.
    pub fn arm(&self, pod: &Pod) -> (Arm, Option<&Arc<Release>>) {
        if self.releases.is_empty() {
            return (Arm::Stable, None);
        }
        let release = self.release_of(&pod.workload());
        (release.map_or(Arm::Stable, |release| release.arm(pod)), release)
    }

    /// Why a pod shall not become ready, though it could; empty: it may. Only of a Deployment: its controller waits for new pods
    /// before it takes old ones away. Of two workloads nobody waits for either.
    pub fn hold(&self, pod: &Pod) -> String {
        let (arm, Some(release)) = self.arm(pod) else { return String::new() };
        let takes_over = |course: &Arc<Course>| course.phase == Phase::Promoting;
        let held = match arm {
            Arm::Stable => false,
            Arm::Canary => !release.course.as_ref().is_some_and(takes_over),
            Arm::Neither => true,
        };
        if !held || pod.life.ready || !matches!(release.target, Target::Deployment(_)) {
            return String::new();
        }
        format!("Release {}: version {} has not taken over", release.name, release.version(pod))
    }

    /// Whether a pod is of a target that is being released.
    pub fn is_being_released(&self, pod: &Pod) -> bool {
        let release = self.arm(pod).1;
        release.is_some_and(|release| release.course.as_deref().is_some_and(is_open))
    }

    /// The pods of a release, by their version.
    pub fn versions(&self, release: &Release) -> Versions {
        let (mut versions, mut left_over) = (Versions::default(), 0);
        for pod in self.released_pods(release).filter(|pod| !pod.ended) {
            let serving = u32::from(pod.is_serving());
            let let_in = pod.life.ready && matches!(release.target, Target::Deployment(_));
            let of = match release.arm(pod) {
                Arm::Canary => {
                    versions.restarts = versions.restarts.saturating_add(pod.life.restarts);
                    if serving > 0 {
                        versions.youngest = versions.youngest.max(pod.life.since);
                    }
                    &mut versions.canary
                }
                Arm::Stable => &mut versions.stable,
                Arm::Neither => {
                    versions.others = true;
                    left_over += u32::from(release.is_left_over(pod));
                    continue;
                }
            };
            of.wanted += 1;
            of.serving += serving;
            of.let_in += u32::from(let_in);
        }
        versions.others |= versions.stable.wanted > 0;
        if let Some(newest) = self.newest_set(release) {
            versions.stable.wanted = newest.wanted;
        }
        versions.helped = left_over > 0 && versions.stable.serving < versions.stable.wanted;
        versions.stable.serving += if versions.helped { left_over } else { 0 };
        versions
    }

    /// The version that is wanted, if that is known.
    pub fn template(&self, release: &Release) -> Option<String> {
        let Target::Two { stable, canary } = &release.target else {
            return self.newest_set(release).map(|set| set.hash.clone());
        };
        if release.course.as_ref().is_none_or(|course| course.stable.is_empty()) {
            // Whatever runs: that is what the user calls stable.
            return Some(stable.1.clone());
        }
        let there = |(kind, name): &(String, String)| {
            let (kind, name) = (kind.clone(), name.clone());
            let workload = Workload { namespace: Arc::clone(&release.name.namespace), kind, name };
            let mut pods = self.pods_by_workload.get(&workload);
            pods.any(|pod| self.pods.get(pod).is_some_and(|pod| !pod.ended))
        };
        [canary, stable].into_iter().find(|one| there(one)).map(|(_, name)| name.clone())
    }

    /// Versions of a Deployment that have pods, without that which is wanted.
    pub fn older(&self, release: &Release) -> BTreeSet<String> {
        let wanted = self.template(release);
        let versions = self.released_pods(release).filter(|pod| !pod.ended);
        let versions = versions.map(|pod| release.version(pod));
        versions.filter(|version| Some(version) != wanted.as_ref()).collect()
    }

    /// How a Service's endpoints are divided, if a release does that: of several the oldest.
    pub fn split(&self, service: &Service) -> Option<Split<'_>> {
        let all = self.releases_by_namespace.get(&service.name.namespace);
        let all = all.filter_map(|name| self.releases.get(name));
        let about = all.filter(|release| {
            release.course.is_some()
                && self.is_called_by(release, service)
                && self.idle_because(release).is_none()
        });
        let release = about.min_by_key(|release| (age(&release.created), &release.name))?;
        let course = release.course.as_ref()?;
        let Versions { canary, stable, helped, .. } = self.versions(release);
        let at = self.serving_at(release, service, helped);
        let canary = Pods { serving: at.canary, ..canary };
        let stable = match at.stable {
            true => stable,
            false => Pods { serving: 0, ..stable },
        };
        let step = course.in_step(&release.plan).filter(|_| canary.serving > 0);
        Some(Split { release, course, share: course.share(canary, stable), step, helped })
    }

    /// What serves at a Service, which may select one of the versions alone: pods among its endpoints, where they may come a little
    /// later than they serve, or never.
    fn serving_at(&self, release: &Release, service: &Service, helped: bool) -> At {
        let is_listed = |pod: &Pod| {
            let by_address = own_addresses(pod).flat_map(|ip| self.services_by_endpoint.get(&ip));
            let mut of = self.services_by_pod.get(&pod.name).chain(by_address);
            of.any(|name| *name == service.name)
        };
        let mut at = At::default();
        for pod in self.released_pods(release).filter(|pod| pod.is_serving() && is_listed(pod)) {
            match release.arm(pod) {
                Arm::Canary => at.canary += 1,
                Arm::Stable => at.stable = true,
                Arm::Neither => at.stable |= helped && release.is_left_over(pod),
            }
        }
        at
    }

    /// Whether a Service is one through which a release's target is called.
    fn is_called_by(&self, release: &Release, service: &Service) -> bool {
        if !release.services.is_empty() {
            return release.services.iter().any(|name| **name == *service.name.name);
        }
        self.released_pods(release).any(|pod| super::matches(&service.selector, pod))
    }

    /// The Services through which a release's target is called.
    pub fn called_by(&self, release: &Release) -> BTreeSet<Name> {
        if !release.services.is_empty() {
            let named = release.services.iter();
            return named.map(|name| Name::new(&release.name.namespace, name)).collect();
        }
        let pods = self.released_pods(release);
        let services = pods.flat_map(|pod| self.services_selecting(pod));
        services.map(|service| service.name.clone()).collect()
    }

    /// The pods of a release's target.
    pub fn released_pods(&self, release: &Release) -> impl Iterator<Item = &Arc<Pod>> {
        let names = release.workloads().flat_map(|one| {
            // The index cannot be borrowed by a workload that is made here.
            self.pods_by_workload.get(&one).cloned().collect::<Vec<_>>()
        });
        names.filter_map(|name| self.pods.get(&name))
    }

    /// The ReplicaSet whose template is wanted.
    fn newest_set(&self, release: &Release) -> Option<&Arc<ReplicaSet>> {
        let Target::Deployment(_) = release.target else { return None };
        let deployment = release.workloads().next()?;
        let sets = self.sets_by_workload.get(&deployment);
        let sets = sets.filter_map(|name| self.replica_sets.get(name));
        sets.max_by_key(|set| set.revision)
    }
}
