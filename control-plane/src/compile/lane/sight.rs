//! Lanes as people look at them: who enters, and which pods there are.

use std::collections::BTreeSet;

use tulle_xds::model::Match;

use crate::{
    compile::endpoints,
    world::{
        World,
        objects::{Labels, Lane, Name},
    },
};

/// A lane.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneSight {
    /// Its name.
    pub name: Name,
    /// Who enters.
    pub entry: Vec<Match>,
    /// The labels of its pods.
    pub members: Labels,
    /// Its requests go nowhere else.
    pub denies: bool,
    /// The Services that lead to pods of it.
    pub services: Vec<Behind>,
    /// Pods of it to which none does.
    pub strays: Vec<String>,
}

/// The pods of a lane behind one Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// Its name.
    pub service: String,
    /// All of them.
    pub pods: usize,
    /// Those that are ready.
    pub ready: usize,
}

impl LaneSight {
    /// The lanes of a namespace, or of all; those of this name, or of any.
    pub fn all(world: &World, namespace: Option<&str>, name: Option<&str>) -> Vec<Self> {
        let lanes = world.all_lanes(namespace).into_iter();
        let lanes = lanes.filter(|lane| name.is_none_or(|name| *lane.name.name == *name));
        lanes.map(|lane| Self::of(world, lane)).collect()
    }

    fn of(world: &World, lane: &Lane) -> Self {
        let (mut services, mut behind_one) = (Vec::new(), BTreeSet::new());
        for service in world.services_in(&lane.name.namespace) {
            let pods = endpoints::pods_of_lane(world, service, lane);
            if pods.is_empty() {
                continue;
            }
            services.push(Behind {
                service: service.name.name.to_string(),
                pods: pods.len(),
                ready: pods.values().filter(|ready| **ready).count(),
            });
            behind_one.extend(pods.into_keys());
        }
        services.sort_by(|one, other| one.service.cmp(&other.service));
        let strays = world.pods_of_lane(lane).filter(|pod| !behind_one.contains(&pod.name));
        let mut strays: Vec<_> = strays.map(|pod| pod.name.name.to_string()).collect();
        strays.sort();
        Self {
            name: lane.name.clone(),
            entry: lane.entry.clone(),
            members: lane.members.clone(),
            denies: lane.denies,
            services,
            strays,
        }
    }
}
