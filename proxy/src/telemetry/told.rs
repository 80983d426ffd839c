use std::fmt;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Unit,
};
use tulle_runtime::metrics::Registry;
use tulle_xds::model::Kind;

/// Metrics of what this proxy is told: configuration and certificate. Clones share them.
#[derive(Clone)]
pub struct Told {
    generation: Gauge,
    rejected: Family<KindLabel, Counter>,
    connected: Gauge,
    begins: Gauge,
    ends: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

impl Told {
    /// Registers them.
    pub fn new(registry: &Registry) -> Self {
        let metrics = Self {
            generation: Gauge::default(),
            rejected: Family::default(),
            connected: Gauge::default(),
            begins: Gauge::default(),
            ends: Gauge::default(),
        };
        registry.register(|r| {
            r.register(
                "tulle_config_generation",
                "Generation of the configuration in force, counted since the start of this proxy",
                metrics.generation.clone(),
            );
            r.register(
                "tulle_config_rejected",
                "Resources of the control plane that were not understood; the last good ones stay",
                metrics.rejected.clone(),
            );
            r.register(
                "tulle_control_plane_connected",
                "Whether there is a stream to the control plane",
                metrics.connected.clone(),
            );
            r.register_with_unit(
                "tulle_cert_not_before",
                "When the certificate in force began, in seconds since 1970; 0 without one",
                Unit::Seconds,
                metrics.begins.clone(),
            );
            r.register_with_unit(
                "tulle_cert_not_after",
                "When the certificate in force ends, in seconds since 1970; 0 without one",
                Unit::Seconds,
                metrics.ends.clone(),
            );
        });
        metrics
    }

    /// This generation is in force.
    pub fn generation(&self, generation: u64) {
        self.generation.set(generation.try_into().unwrap_or(i64::MAX));
    }

    /// A resource was rejected.
    pub fn rejected(&self, kind: Kind) {
        let kind = match kind {
            Kind::Workload => "workload",
            Kind::Cluster => "cluster",
            Kind::Endpoints => "endpoints",
            Kind::Listener => "listener",
            Kind::Route => "route",
            Kind::Host => "host",
        };
        self.rejected.get_or_create(&KindLabel { kind }).inc();
    }

    /// There is a stream to the control plane, or none any more.
    pub fn connected(&self, connected: bool) {
        self.connected.set(connected.into());
    }

    /// The certificate in force begins and ends then, in seconds since 1970.
    pub fn certificate(&self, not_before: i64, not_after: i64) {
        self.begins.set(not_before);
        self.ends.set(not_after);
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_understood_is_counted_by_kind() {
        let registry = Registry::default();
        let told = Told::new(&registry);
        [Kind::Route, Kind::Host, Kind::Route].into_iter().for_each(|kind| told.rejected(kind));
        let text = registry.render();
        for (kind, times) in [("route", 2), ("host", 1)] {
            let line = format!("tulle_config_rejected_total{{kind=\"{kind}\"}} {times}\n");
            assert!(text.contains(&line), "{text}");
        }
    }
}
