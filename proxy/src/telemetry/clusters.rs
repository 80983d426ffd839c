//! What clusters have now, read from where requests read it.

use std::{collections::BTreeMap, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};
use tulle_runtime::metrics::Registry;

use super::metrics::ServerLabels;
use crate::mesh;

/// Counts at each scrape, so that nothing can drift away from what is in force.
#[derive(Debug)]
struct Clusters(mesh::Store);

/// Registers, by Service, endpoints that are left out, and connections.
pub fn register_clusters(registry: &Registry, store: mesh::Store) {
    registry.register(|r| r.register_collector(Box::new(Clusters(store))));
}

/// What the clusters of one Service have together.
#[derive(Default)]
struct Sums {
    /// `None` if nobody is ever left out.
    ejected: Option<usize>,
    active: usize,
    idle: usize,
}

impl Collector for Clusters {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut services: BTreeMap<ServerLabels, Sums> = BTreeMap::new();
        for cluster in self.0.current().clusters().values() {
            let sums = services.entry(ServerLabels::of(cluster)).or_default();
            if cluster.settings().ejection.is_some() {
                *sums.ejected.get_or_insert_default() += cluster.ejected();
            }
            let (active, idle) = cluster.connections().count();
            sums.active += active;
            sums.idle += idle;
        }
        let number = |count| ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
        let help = "Endpoints that are left out now because they failed";
        let mut family =
            to.encode_descriptor("tulle_upstream_ejected", help, None, MetricType::Gauge)?;
        for (service, sums) in &services {
            if let Some(ejected) = sums.ejected {
                number(ejected).encode(family.encode_family(service)?)?;
            }
        }
        let help =
            "Connections for HTTP to endpoints of other services, by whether they carry requests";
        let name = "http_client_open_connections";
        let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (service, Sums { active, idle, .. }) in &services {
            for (state, count) in [("active", *active), ("idle", *idle)] {
                let labels = (service.clone(), [("http_connection_state", state)]);
                number(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
