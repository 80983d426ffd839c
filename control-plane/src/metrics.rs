//! What the control plane counts.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};
use tulle_xds::server::Pushed;

/// What the control plane counts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Requests for certificates, by outcome.
    pub certificates: Family<OutcomeLabel, Counter>,
    /// Pods that the API server asked about, by what was decided.
    pub admissions: Family<AdmissionLabel, Counter>,
    /// Objects that are known, by kind.
    pub objects: Family<KindLabel, Gauge>,
    /// Problems with what somebody wrote.
    pub problems: Gauge,
    /// Events that the source yielded.
    pub events: Counter,
    /// Resources that were compiled.
    pub compiled: Counter,
    /// Resources whose bytes changed, so that they were published.
    pub published: Counter,
    /// Connections whose TLS handshake failed.
    pub handshake_failures: Counter,
    /// Connections that were closed because there were too many.
    pub connections_refused: Counter,
    /// Changes so far.
    pub generation: Gauge,
    /// Open streams, by dialect.
    pub streams: Family<DialectLabel, Gauge>,
    /// Resources that a proxy has rejected and not taken since, by kind.
    pub rejected: Family<KindLabel, Gauge>,
    /// Time from a change to its being in force on every proxy that holds something of it.
    pub pushed_within: InForce,
    /// Changes that were not in force everywhere within 5 s.
    pub stalled: Counter,
}

/// Seconds until a change is in force.
#[derive(Debug, Clone)]
pub struct InForce(pub Histogram);

impl Default for InForce {
    fn default() -> Self {
        Self(Histogram::new([0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]))
    }
}

/// The label `dialect`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DialectLabel {
    /// What a client understands.
    pub dialect: &'static str,
}

/// What became of a request for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(missing_docs, reason = "each is what it says")]
pub enum Outcome {
    Issued,
    Refused,
}

/// The label `outcome`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    outcome: Outcome,
}

impl From<Outcome> for OutcomeLabel {
    fn from(outcome: Outcome) -> Self {
        Self { outcome }
    }
}

/// What was decided about a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(missing_docs, reason = "each is what it says")]
pub enum Admission {
    Injected,
    Skipped,
    Refused,
}

/// The label `outcome` of admissions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AdmissionLabel {
    outcome: Admission,
}

impl From<Admission> for AdmissionLabel {
    fn from(outcome: Admission) -> Self {
        Self { outcome }
    }
}

/// The label `kind`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    /// Kind of the objects.
    pub kind: &'static str,
}

impl Metrics {
    /// Shows everything in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "tulle_push_duration",
            "Time from a change to its being in force on every proxy that holds something of it",
            Unit::Seconds,
            self.pushed_within.0.clone(),
        );
        registry.register(
            "tulle_xds_streams",
            "Open streams of proxies, by what they understand",
            self.streams.clone(),
        );
        let registry = registry.sub_registry_with_prefix("tulle_control_plane");
        // There from the start: an increase from nothing is none to Prometheus.
        for outcome in [Outcome::Issued, Outcome::Refused] {
            drop(self.certificates.get_or_create(&outcome.into()));
        }
        registry.register(
            "certificates",
            "Requests for certificates, by outcome",
            self.certificates.clone(),
        );
        registry.register(
            "admissions",
            "Pods that the API server asked about, by outcome",
            self.admissions.clone(),
        );
        registry.register("objects", "Objects that are known, by kind", self.objects.clone());
        registry.register("problems", "Problems with what somebody wrote", self.problems.clone());
        registry.register("events", "Changes that the source yielded", self.events.clone());
        registry.register("compiled", "Resources that were compiled", self.compiled.clone());
        registry.register(
            "published",
            "Resources whose bytes changed, so that they were published",
            self.published.clone(),
        );
        registry.register(
            "handshake_failures",
            "Connections whose TLS handshake failed",
            self.handshake_failures.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections that were closed because there were too many",
            self.connections_refused.clone(),
        );
        registry.register("generation", "Changes so far", self.generation.clone());
        registry.register(
            "rejected_resources",
            "Resources that a proxy has rejected and not taken since, by kind",
            self.rejected.clone(),
        );
        registry.register(
            "changes_stalled",
            "Changes that were not in force everywhere within 5 s",
            self.stalled.clone(),
        );
    }
}

/// Shows what proxies are sent, counted where it is sent.
#[derive(Debug)]
pub struct Pushes(pub Pushed);

impl Collector for Pushes {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Bytes of configuration that proxies were sent";
        let unit = Some(&Unit::Bytes);
        let family = to.encode_descriptor("tulle_push", help, unit, MetricType::Counter)?;
        ConstCounter::new(self.0.bytes()).encode(family)?;
        let help =
            "Responses with configuration that proxies have neither accepted nor rejected yet";
        let family = to.encode_descriptor("tulle_push_pending", help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::try_from(self.0.pending()).unwrap_or(i64::MAX)).encode(family)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;

    #[test]
    fn outcomes_are_told_apart_and_certificates_are_counted_from_nothing() {
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        metrics.register(&mut registry);
        metrics.admissions.get_or_create(&Admission::Injected.into()).inc();
        let mut rendered = String::new();
        text::encode(&mut rendered, &registry).unwrap();
        for line in [
            "admissions_total{outcome=\"Injected\"} 1",
            "certificates_total{outcome=\"Issued\"} 0",
            "certificates_total{outcome=\"Refused\"} 0",
        ] {
            assert!(rendered.contains(&format!("tulle_control_plane_{line}\n")), "{rendered}");
        }
    }
}
