//! What there is of a release in the world.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    release::Course,
    telemetry::versions::Target,
    world::{
        World,
        objects::{Name, Release},
        release::{Hindrance, Versions},
    },
};

/// A release, its pods and its templates.
#[derive(Debug, Clone)]
pub struct Sight {
    /// The object, and where it is as all replicas know.
    pub release: Arc<Release>,
    /// Its pods.
    pub versions: Versions,
    /// The version that is wanted, if that is known.
    pub template: Option<String>,
    /// Versions that have pods, without that one.
    pub older: BTreeSet<String>,
    /// The Services through which it is called.
    pub services: BTreeSet<Name>,
    /// Why it does nothing.
    pub idle_because: Option<Hindrance>,
    /// What of the object is wrong; of the world nobody learns that.
    pub problems: Vec<String>,
}

impl Sight {
    /// Of all releases.
    pub fn all(world: &World) -> Vec<Self> {
        let of = |release: &Arc<Release>| Self {
            release: Arc::clone(release),
            versions: world.versions(release),
            template: world.template(release),
            older: world.older(release),
            services: world.called_by(release),
            idle_because: world.idle_because(release),
            problems: Vec::new(),
        };
        world.releases().map(of).collect()
    }

    /// Where it is.
    pub fn course(&self) -> Option<&Course> {
        self.release.course.as_deref()
    }

    /// Whether there is something to judge.
    pub fn is_under_way(&self) -> bool {
        self.idle_because.is_none() && self.course().is_some_and(Course::is_under_way)
    }

    /// The workloads of which proxies are asked.
    pub fn targets(&self) -> impl Iterator<Item = Target> {
        self.release.workloads().map(|one| (one.namespace.to_string(), one.name))
    }
}
