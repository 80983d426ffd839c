//! How many endpoints are left out now, read from where requests read it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};
use tulle_runtime::metrics::Registry;

use crate::mesh;

/// Counts at each scrape, so that nothing can drift away from what is in force.
#[derive(Debug)]
struct Ejected(mesh::Store);

/// Registers the number of endpoints that are left out, by Service.
pub fn register_ejected(registry: &Registry, store: mesh::Store) {
    registry.register(|r| r.register_collector(Box::new(Ejected(store))));
}

impl Collector for Ejected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut counts: BTreeMap<Arc<str>, i64> = BTreeMap::new();
        for cluster in self.0.current().clusters().values() {
            if cluster.settings().ejection.is_some() {
                *counts.entry(cluster.label()).or_default() +=
                    i64::try_from(cluster.ejected()).unwrap_or(i64::MAX);
            }
        }
        let help = "Endpoints that are left out now because they failed";
        let name = "tulle_upstream_ejected";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (service, count) in counts {
            let labels = [("service", &*service)];
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
