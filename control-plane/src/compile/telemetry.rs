//! What a pod tells of its traffic: the Telemetries that are about it, merged field by field.

use std::collections::BTreeMap;

use tulle_xds::model::{Logs, Metrics, Origin, Setter, Telemetry, Traces};

use super::port;
use crate::world::{
    World,
    objects::{Kind, Pod, Said},
};

/// The defaults that the texts of Telemetry promise.
const SAMPLING_PPM: u32 = 10_000;
const INTERVAL_MS: u32 = 60_000;

/// The field of Telemetry that proxies must understand.
pub(super) const FIELD: &str = "spec";

/// What it tells, and who said so.
pub(super) fn of(world: &World, pod: &Pod) -> (Telemetry, Vec<Setter>) {
    let mut said = Said::default();
    let mut setters: BTreeMap<&'static str, Origin> = BTreeMap::new();
    for telemetry in world.telemetry_for(pod) {
        let name = &telemetry.name;
        let origin = || port::origin(Kind::Telemetry.as_str(), &name.namespace, &name.name);
        for path in telemetry.said.paths() {
            setters.entry(path).or_insert_with(origin);
        }
        said = said.over(&telemetry.said);
    }
    let setter = |(field, origin): (&str, _)| Setter { field: field.to_owned(), origin };
    (settled(said), setters.into_iter().map(setter).collect())
}

fn settled(said: Said) -> Telemetry {
    let traces_to = match said.traces_disabled {
        Some(true) => Vec::new(),
        Some(false) | None => said.traces_to.unwrap_or_default(),
    };
    let sampling_ppm = match traces_to.is_empty() {
        true => 0,
        false => said.sampling_ppm.unwrap_or(SAMPLING_PPM),
    };
    let metrics_to = said.metrics_to.unwrap_or_default();
    let interval_ms = match metrics_to.is_empty() {
        true => 0,
        false => said.interval_ms.unwrap_or(INTERVAL_MS),
    };
    Telemetry {
        traces: Traces {
            sampling_ppm,
            b3: said.b3.unwrap_or_default(),
            destinations: traces_to,
            tags: said.attributes.unwrap_or_default(),
        },
        logs: Logs {
            format: said.format.unwrap_or_default(),
            filter: said.filter.unwrap_or_default(),
            destinations: said.logs_to.unwrap_or_default(),
            fields: said.fields.unwrap_or_default(),
        },
        metrics: Metrics {
            off: said.metrics_disabled.unwrap_or_default(),
            destinations: metrics_to,
            tags: said.labels.unwrap_or_default(),
            interval_ms,
        },
    }
}
