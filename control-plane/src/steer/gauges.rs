//! What Prometheus is told of releases, by the replica that steers them.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};
use tulle_api::ReleasePhase as Phase;

use super::view::{GateView, ReleaseView};

/// Where releases are, as of the last second. Empty at replicas that do not steer. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Gauges(Arc<Mutex<Vec<ReleaseView>>>);

/// A value, and by what it differs from others of the same release.
type Valued = (Option<(&'static str, String)>, f64);

impl Gauges {
    pub(super) fn set(&self, releases: Vec<ReleaseView>) {
        *self.0.lock() = releases;
    }
}

impl Collector for Gauges {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let releases = self.0.lock().clone();
        for (name, help, of) in FAMILIES {
            let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
            let values = |release| of(release).into_iter().map(move |value| (release, value));
            for (release, (more, value)) in releases.iter().flat_map(values) {
                let mut labels = vec![
                    ("tulle_namespace", release.namespace.as_str()),
                    ("tulle_release", release.name.as_str()),
                ];
                labels.extend(more.as_ref().map(|(label, value)| (*label, value.as_str())));
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// Name, what it is, and of which values.
type Family = (&'static str, &'static str, fn(&ReleaseView) -> Vec<Valued>);

const FAMILIES: [Family; 9] = [
    ("tulle_release_phase", "1 for the phase that a release is in, 0 for each other", |release| {
        let is = |phase| f64::from(u8::from(release.phase == phase));
        Phase::ALL.map(|phase| (Some(("tulle_phase", format!("{phase:?}"))), is(phase))).into()
    }),
    ("tulle_release_step", "The step that a release is in, from 1 on; 0: in none", |release| {
        vec![(None, whole(release.step))]
    }),
    (
        "tulle_release_weight_ratio",
        "The share of the requests that the canary shall get",
        |release| vec![(None, release.weight / 100.0)],
    ),
    (
        "tulle_release_share_ratio",
        "The share of the requests that the canary gets by the pods that there are",
        |release| vec![(None, release.share / 100.0)],
    ),
    (
        "tulle_release_silent_seconds",
        "For how long too few proxies have told what happens",
        |release| vec![(None, f64::from(release.silent))],
    ),
    ("tulle_release_step_requests", "Requests to a version in this step", |release| {
        by_version(release.errors.canary.all, release.errors.stable.all)
    }),
    ("tulle_release_step_errors", "Requests to a version in this step that failed", |release| {
        by_version(release.errors.canary.bad, release.errors.stable.bad)
    }),
    (
        "tulle_release_evidence_ratio",
        "What speaks against the canary, as a share of what would prove it; 1: it is proven",
        |release| {
            by_gate(release, |gate| match gate.proof {
                proof if proof > 0.0 => (gate.evidence / proof).clamp(0.0, 1.0),
                _ => 0.0,
            })
        },
    ),
    ("tulle_release_gate_state", "What a gate says: 0 green, 1 amber, 2 red", |release| {
        by_gate(release, |gate| match gate.state.as_str() {
            "Green" => 0.0,
            "Amber" => 1.0,
            _ => 2.0,
        })
    }),
];

fn by_version(canary: u64, stable: u64) -> Vec<Valued> {
    [("canary", canary), ("stable", stable)]
        .map(|(version, count)| {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            (Some(("tulle_version", version.to_owned())), whole(count))
        })
        .into()
}

fn by_gate(release: &ReleaseView, value: fn(&GateView) -> f64) -> Vec<Valued> {
    let of = |gate: &GateView| (Some(("tulle_gate", gate.gate.clone())), value(gate));
    release.gates.iter().map(of).collect()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of requests that lose a digit are still right to a billionth"
)]
fn whole(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;
    use crate::release::{Arm, Pair};

    fn rendered(gauges: &Gauges) -> String {
        let (mut registry, mut rendered) = (Registry::default(), String::new());
        registry.register_collector(Box::new(gauges.clone()));
        text::encode(&mut rendered, &registry).unwrap();
        rendered
    }

    fn gate(name: &str, state: &str, evidence: f64, proof: f64) -> GateView {
        let (gate, state) = (name.to_owned(), state.to_owned());
        GateView { gate, state, evidence, proof, ..GateView::default() }
    }

    #[test]
    fn whoever_steers_says_where_each_release_is() {
        let gauges = Gauges::default();
        let arm = |all, bad| Arm { all, bad };
        gauges.set(vec![ReleaseView {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            phase: Phase::Paused,
            step: 2,
            weight: 5.0,
            share: 2.5,
            silent: 7,
            errors: Pair { canary: arm(40, 3), stable: arm(900, 1) },
            gates: vec![
                gate("errors", "Amber", 750.0, 3000.0),
                gate("latency", "Red", f64::INFINITY, 3000.0),
                gate("orders", "Green", 0.0, 0.0),
            ],
            ..ReleaseView::default()
        }]);
        let said = rendered(&gauges);
        let of = r#"tulle_namespace="shop",tulle_release="web""#;
        for line in [
            &format!(r#"phase{{{of},tulle_phase="Paused"}} 1.0"#),
            &format!(r#"phase{{{of},tulle_phase="Held"}} 0.0"#),
            &format!("step{{{of}}} 2.0"),
            &format!("weight_ratio{{{of}}} 0.05"),
            &format!("share_ratio{{{of}}} 0.025"),
            &format!("silent_seconds{{{of}}} 7.0"),
            &format!(r#"step_requests{{{of},tulle_version="canary"}} 40.0"#),
            &format!(r#"step_errors{{{of},tulle_version="stable"}} 1.0"#),
            &format!(r#"evidence_ratio{{{of},tulle_gate="errors"}} 0.25"#),
            &format!(r#"evidence_ratio{{{of},tulle_gate="latency"}} 1.0"#),
            &format!(r#"evidence_ratio{{{of},tulle_gate="orders"}} 0.0"#),
            &format!(r#"gate_state{{{of},tulle_gate="errors"}} 1.0"#),
            &format!(r#"gate_state{{{of},tulle_gate="latency"}} 2.0"#),
        ] {
            assert!(said.contains(&format!("\ntulle_release_{line}\n")), "{line}:\n{said}");
        }
        // Another one steers.
        gauges.set(Vec::new());
        assert!(!rendered(&gauges).contains("shop"));
    }
}
