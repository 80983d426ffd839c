//! Telemetry.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;
use tulle_api::{Destination, Header, MetricTag, Propagation, Protocol};
use tulle_xds::model::{LogFormat, Otlp, OtlpProtocol, Tag};

use super::{Fault, Name, mesh::scope, metadata::created, typed::read_ours};
use crate::world::objects::{Object, Said, Telemetry};

/// Values of a label that are told apart where nothing is said.
const MAX_VALUES: u32 = 10;

pub(super) fn convert(
    system: &str,
    name: &Name,
    value: &Value,
    faults: &mut Vec<Fault>,
) -> Option<Object> {
    let telemetry: tulle_api::Telemetry = read_ours(value, faults)?;
    let tulle_api::TelemetrySpec { selector, traces, logs, metrics } = telemetry.spec;
    let traces = traces.unwrap_or_default();
    let logs = logs.unwrap_or_default();
    let metrics = metrics.unwrap_or_default();
    let b3 = |formats: BTreeSet<_>| formats.contains(&Propagation::B3);
    Some(Object::Telemetry(Arc::new(Telemetry {
        name: name.clone(),
        created: created(value),
        scope: scope(system, name, selector),
        said: Said {
            traces_disabled: traces.disabled,
            sampling_ppm: traces.sampling.map(tulle_api::Percent::ppm),
            b3: traces.propagation.map(b3),
            traces_to: traces.destinations.map(destinations),
            attributes: traces.tags.map(tags),
            format: logs.format.map(format),
            filter: logs.filter,
            fields: logs.fields.map(tags),
            logs_to: logs.destinations.map(destinations),
            metrics_disabled: metrics.disabled,
            metrics_to: metrics.destinations.map(destinations),
            interval_ms: metrics
                .interval
                .map(|interval| u32::try_from(interval.get().as_millis()).unwrap_or(u32::MAX)),
            labels: metrics.tags.map(|tags| tags.into_iter().map(label).collect()),
        },
    })))
}

fn destinations(all: Vec<Destination>) -> Vec<Otlp> {
    let one = |Destination { endpoint, protocol, headers }| Otlp {
        endpoint,
        protocol: match protocol {
            Protocol::Grpc => OtlpProtocol::Grpc,
            Protocol::Http => OtlpProtocol::Http,
        },
        headers: headers.into_iter().map(|Header { name, value }| (name, value)).collect(),
    };
    all.into_iter().map(one).collect()
}

fn tags(all: Vec<tulle_api::Tag>) -> Vec<Tag> {
    let one = |tulle_api::Tag { name, value }| Tag { name, expression: value, max_values: 0 };
    all.into_iter().map(one).collect()
}

fn label(MetricTag { name, value, max_values }: MetricTag) -> Tag {
    Tag { name, expression: value, max_values: max_values.unwrap_or(MAX_VALUES) }
}

fn format(format: tulle_api::LogFormat) -> LogFormat {
    match format {
        tulle_api::LogFormat::Json => LogFormat::Json,
        tulle_api::LogFormat::Envoy => LogFormat::Envoy,
        tulle_api::LogFormat::None => LogFormat::Off,
    }
}
