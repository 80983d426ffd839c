use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Destination, Lookup, Mesh};
use crate::upstream::Cluster;

/// A snapshot as JSON, exactly as requests read it, with the origin of each value.
pub fn dump(mesh: &Mesh) -> Value {
    let listeners: BTreeMap<_, _> = mesh
        .listeners
        .iter()
        .map(|(address, lookup)| {
            let value = match lookup {
                Lookup::Known(destination) => destination_json(destination),
                Lookup::Absent(used) => json!({ "absent": true, "used_at": used.seconds() }),
            };
            (address.to_string(), value)
        })
        .collect();
    let hosts: BTreeMap<_, _> = mesh
        .hosts
        .iter()
        .map(|(name, named)| {
            (&**name, json!({ "host": named.host.as_deref(), "used_at": named.used.seconds() }))
        })
        .collect();
    json!({
        "generation": mesh.generation,
        "workload": mesh.workload.as_deref(),
        "destinations": listeners,
        "hosts": hosts,
    })
}

fn destination_json(destination: &Destination) -> Value {
    let clusters: BTreeMap<_, _> =
        destination.clusters.iter().map(|(name, cluster)| (name, cluster_json(cluster))).collect();
    json!({
        "listener": destination.listener,
        "route": destination.route.as_deref(),
        "clusters": clusters,
        "used_at": destination.used.seconds(),
    })
}

fn cluster_json(cluster: &Cluster) -> Value {
    let set = cluster.endpoints();
    let endpoints: Vec<_> = set
        .all()
        .iter()
        .map(|state| {
            let eligible = set.eligible().iter().any(|other| other.id() == state.id());
            let ejected = cluster.out(state).map(|out| {
                let left = out.time.saturating_sub(out.since.elapsed());
                json!({ "cause": out.cause.as_str(), "times": out.times, "seconds_left": left.as_secs() })
            });
            json!({
                "endpoint": *state.told(),
                "active": state.active(),
                "eligible": eligible,
                "ejected": ejected,
            })
        })
        .collect();
    json!({ "cluster": *cluster.settings(), "endpoints": endpoints })
}
