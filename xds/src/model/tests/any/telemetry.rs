use proptest::{collection::vec, prelude::*};

use super::{super::super::*, any_text};

prop_compose! {
    fn otlp()(endpoint in any_text(), http: bool, headers in prop::collection::btree_map(any_text(), any_text(), 0..3)) -> Otlp {
        let protocol = if http { OtlpProtocol::Http } else { OtlpProtocol::Grpc };
        Otlp { endpoint, protocol, headers }
    }
}

prop_compose! {
    fn tag()(name in any_text(), expression in any_text(), max_values: u32) -> Tag {
        Tag { name, expression, max_values }
    }
}

prop_compose! {
    pub(super) fn telemetry()(
        (sampling_ppm, b3, off, interval_ms) in any::<(u32, bool, bool, u32)>(),
        destinations in vec(vec(otlp(), 0..2), 3),
        tags in vec(vec(tag(), 0..2), 3),
        format in prop::sample::select(vec![LogFormat::Json, LogFormat::Envoy, LogFormat::Off]),
        filter in any_text(),
    ) -> Telemetry {
        let [of_traces, of_logs, of_metrics] = destinations.try_into().unwrap();
        let [tags, fields, labels] = tags.try_into().unwrap();
        Telemetry {
            traces: Traces { sampling_ppm, b3, destinations: of_traces, tags },
            logs: Logs { format, filter, destinations: of_logs, fields },
            metrics: Metrics { off, destinations: of_metrics, tags: labels, interval_ms },
        }
    }
}
