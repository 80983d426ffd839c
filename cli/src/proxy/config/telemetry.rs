//! What a Telemetry set, in its own words.

use serde_json::Value;

use super::{items, text};

/// The value in force of a field of Telemetry, `spec.logs.format`.
pub(super) fn value(workload: &Value, field: &str) -> String {
    let of = &workload["telemetry"];
    let (traces, logs, metrics) = (&of["traces"], &of["logs"], &of["metrics"]);
    match field.strip_prefix("spec.").unwrap_or(field) {
        // Those who would get spans are not told of where they shall not.
        "traces.disabled" => (items(&traces["destinations"]).next().is_none()).to_string(),
        "traces.sampling" => {
            let ppm = traces["sampling_ppm"].as_u64().and_then(|ppm| u32::try_from(ppm).ok());
            tulle_api::Percent::of_ppm(ppm.unwrap_or_default()).to_string()
        }
        "traces.propagation" => match traces["b3"] == true {
            true => "W3C, B3".to_owned(),
            false => "W3C".to_owned(),
        },
        "traces.destinations" => destinations(&traces["destinations"]),
        "traces.tags" => tags(&traces["tags"]),
        "logs.format" => match text(&logs["format"]).as_str() {
            "Json" => "JSON".to_owned(),
            "Off" => "None".to_owned(),
            other => other.to_owned(),
        },
        "logs.filter" => text(&logs["filter"]),
        "logs.fields" => tags(&logs["fields"]),
        "logs.destinations" => destinations(&logs["destinations"]),
        "metrics.disabled" => text(&metrics["off"]),
        "metrics.destinations" => destinations(&metrics["destinations"]),
        "metrics.interval" => {
            let millis = metrics["interval_ms"].as_u64().unwrap_or_default();
            tulle_api::Duration::from_millis(millis).to_string()
        }
        "metrics.tags" => joined(items(&metrics["tags"]).map(|one| {
            let (tag, most) = (tag(one), one["max_values"].as_u64().unwrap_or_default());
            format!("{tag} ({most} values)")
        })),
        _ => String::new(),
    }
}

fn destinations(all: &Value) -> String {
    joined(items(all).map(|one| {
        let protocol = text(&one["protocol"]).to_uppercase();
        format!("{} ({protocol})", text(&one["endpoint"]))
    }))
}

fn tags(all: &Value) -> String {
    joined(items(all).map(tag))
}

fn tag(one: &Value) -> String {
    format!("{} = {}", text(&one["name"]), text(&one["expression"]))
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<_> = parts.collect();
    if parts.is_empty() { "(none)".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use tulle_xds::model::{LogFormat, Logs, Metrics, Otlp, OtlpProtocol, Tag, Telemetry, Traces};

    use super::*;

    #[test]
    fn what_the_proxy_dumps_is_shown_as_it_was_written() {
        let otlp = |endpoint: &str, protocol| Otlp {
            endpoint: endpoint.to_owned(),
            protocol,
            headers: BTreeMap::from([("token".to_owned(), "hidden".to_owned())]),
        };
        let tag = |name: &str| Tag {
            name: name.to_owned(),
            expression: "route".to_owned(),
            max_values: 10,
        };
        let telemetry = Telemetry {
            traces: Traces {
                sampling_ppm: 1500,
                b3: true,
                destinations: vec![otlp("http://a:1", OtlpProtocol::Grpc)],
                tags: vec![tag("a"), tag("b")],
            },
            logs: Logs {
                format: LogFormat::Off,
                filter: "failed".to_owned(),
                destinations: vec![otlp("https://b:2", OtlpProtocol::Http)],
                fields: Vec::new(),
            },
            metrics: Metrics {
                off: true,
                interval_ms: 90_000,
                tags: vec![tag("c")],
                ..Metrics::default()
            },
        };
        let workload = json!({"telemetry": telemetry});
        for (field, expected) in [
            ("spec.traces.disabled", "false"),
            ("spec.traces.sampling", "0.15%"),
            ("spec.traces.propagation", "W3C, B3"),
            ("spec.traces.destinations", "http://a:1 (GRPC)"),
            ("spec.traces.tags", "a = route, b = route"),
            ("spec.logs.format", "None"),
            ("spec.logs.filter", "failed"),
            ("spec.logs.fields", "(none)"),
            ("spec.logs.destinations", "https://b:2 (HTTP)"),
            ("spec.metrics.disabled", "true"),
            ("spec.metrics.destinations", "(none)"),
            ("spec.metrics.interval", "1m30s"),
            ("spec.metrics.tags", "c = route (10 values)"),
        ] {
            assert_eq!(value(&workload, field), expected, "{field}");
        }
        assert!(!workload.to_string().contains("hidden"));
    }
}
