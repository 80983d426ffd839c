//! A question in PromQL.

use crate::telemetry::{Ask, Of};

/// Labels of an edge; the rule comes with them where it is asked.
const EDGE: &str = "namespace, workload, tulle_reporter, tulle_peer_namespace, tulle_peer_workload, server_address, \
     server_port, tulle_security";

/// What a series counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// Requests by how they ended.
    Requests,
    /// Their durations, in classic buckets.
    Buckets,
    /// Their durations, as native histograms.
    Natives,
    /// Attempts by what came of them.
    Tries,
    /// Opaque connections, opened and closed.
    Connections,
    /// Their bytes.
    Bytes,
    /// What policy forbade.
    Denials,
}

impl Counted {
    /// Its metrics, and the labels beside the edge's that tell its series apart.
    fn series(self) -> (&'static str, &'static str) {
        const OF_REQUESTS: &str = "http_client_request_duration_seconds|http_server_request_duration_seconds|\
             rpc_client_call_duration_seconds|rpc_server_call_duration_seconds";
        const COUNTS: &str = "http_client_request_duration_seconds_count|http_server_request_duration_seconds_count|\
             rpc_client_call_duration_seconds_count|rpc_server_call_duration_seconds_count";
        const BUCKETS: &str = "http_client_request_duration_seconds_bucket|http_server_request_duration_seconds_bucket|\
             rpc_client_call_duration_seconds_bucket|rpc_server_call_duration_seconds_bucket";
        match self {
            Self::Requests => (COUNTS, "http_response_status_code, rpc_status_code, error_type"),
            Self::Buckets => (BUCKETS, "le"),
            Self::Natives => (OF_REQUESTS, ""),
            Self::Tries => ("tulle_client_attempts_total", "outcome"),
            Self::Connections => {
                ("tulle_tcp_connections_total", "tulle_connection_state, error_type")
            }
            Self::Bytes => ("tulle_tcp_io_bytes_total", "tulle_io_direction"),
            Self::Denials => ("tulle_denials_total", "tulle_policy, tulle_reason, tulle_mode"),
        }
    }
}

/// A question, as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    /// Below `/api/v1/`.
    pub(super) endpoint: &'static str,
    pub(super) form: String,
}

/// Everything that an answer is made of. Native histograms have their `_count` in themselves: where there are classic ones as
/// well, these count.
pub(super) fn queries(ask: &Ask, now: u64) -> Vec<(Counted, Query)> {
    let wanted = Counted::ALL
        .into_iter()
        .filter(|counts| ask.durations || !matches!(counts, Counted::Buckets | Counted::Natives));
    let (_, points) = step(ask);
    let query = |counts| (counts, asked(&text(counts, ask), (ask, points), now));
    wanted.map(query).collect()
}

/// Since when there is anything: the mesh's own gauge, that each sidecar has, at a hundred points of the window.
pub(super) fn begin(ask: &Ask, now: u64) -> Query {
    asked("count(tulle_config_generation)", (ask, 100), now)
}

/// What an expression comes to now. Nobody waits for it longer than it takes another to be asked.
pub(super) fn instant(text: &str) -> Query {
    Query { endpoint: "query", form: format!("query={}&timeout=5s", encoded(text)) }
}

fn asked(text: &str, (ask, points): (&Ask, u32), now: u64) -> Query {
    let (step, _) = step(&Ask { points, ..ask.clone() });
    let (endpoint, time) = match points {
        1 => ("query", format!("time={now}")),
        points => {
            let start = now.saturating_sub(step * u64::from(points - 1));
            ("query_range", format!("start={start}&end={now}&step={step}"))
        }
    };
    Query { endpoint, form: format!("query={}&{time}", encoded(text)) }
}

/// Seconds of a point, and points.
pub(super) fn step(ask: &Ask) -> (u64, u32) {
    let points = ask.points.max(1);
    (ask.window.as_secs().div_ceil(u64::from(points)).max(1), points)
}

/// Seconds in which something grows that is estimated: in less there may be one sample alone, by which nothing can be told.
pub(super) fn range(ask: &Ask) -> u64 {
    step(ask).0.max(LEAST)
}

/// Five scrapes, where they are a minute apart.
const LEAST: u64 = 300;

/// What grew in each [`range`].
fn text(counts: Counted, ask: &Ask) -> String {
    let range = range(ask);
    let (metrics, labels) = counts.series();
    let mut by = EDGE.to_owned();
    for label in [if ask.routes { "tulle_route" } else { "" }, labels] {
        if !label.is_empty() {
            by = format!("{by}, {label}");
        }
    }
    let sum = |metrics: &str| {
        // The labels that targets have: the same metrics by another way would count twice.
        let ours = r#"tulle_reporter!="", namespace!="", workload!="""#;
        let grown =
            |of: &String| format!("increase({{__name__=~\"{metrics}\", {ours}{of}}}[{range}s])");
        let all: Vec<_> = selectors(&ask.of).iter().map(grown).collect();
        format!("sum by ({by}) ({})", all.join(" or "))
    };
    match counts {
        // Where there are native histograms alone, these count.
        Counted::Requests => {
            let (natives, _) = Counted::Natives.series();
            format!("{} or histogram_count({})", sum(metrics), sum(natives))
        }
        _ => sum(metrics),
    }
}

/// Labels that select what begins or ends there. A series that several select counts once.
fn selectors(of: &Of) -> Vec<String> {
    match of {
        Of::All => vec![String::new()],
        Of::Namespace(namespace) => vec![
            format!(", namespace=\"{namespace}\""),
            format!(", tulle_peer_namespace=\"{namespace}\""),
        ],
        Of::Named(namespace, name) => vec![
            format!(", namespace=\"{namespace}\", workload=\"{name}\""),
            format!(", tulle_peer_namespace=\"{namespace}\", tulle_peer_workload=\"{name}\""),
            // In a regex a dot is any character; in a string a backslash is two.
            format!(", server_address=~\"{}\\\\.{namespace}\\\\..*\"", name.replace('.', "\\\\.")),
        ],
    }
}

/// As a form has it: <https://url.spec.whatwg.org/#application/x-www-form-urlencoded>.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"*-._".contains(&byte);
    text.bytes()
        .map(|byte| match byte {
            b' ' => "+".to_owned(),
            byte if plain(byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ask(of: Of, points: u32) -> Ask {
        Ask { of, window: Duration::from_secs(7200), points, routes: false, durations: true }
    }

    fn bytes(ask: &Ask, now: u64) -> Query {
        let of_bytes = |(counts, query)| matches!(counts, Counted::Bytes).then_some(query);
        queries(ask, now).into_iter().find_map(of_bytes).unwrap()
    }

    #[test]
    fn a_question_names_what_it_is_about() {
        let named = Of::Named("shop".to_owned(), "cart.v1".to_owned());
        let text = text(Counted::Tries, &Ask { routes: true, ..ask(named, 120) });
        let of = |labels: &str| {
            let ours = r#"tulle_reporter!="", namespace!="", workload!="""#;
            let metric = "tulle_client_attempts_total";
            format!("increase({{__name__=~\"{metric}\", {ours}, {labels}}}[300s])")
        };
        let expected = format!(
            "sum by ({EDGE}, tulle_route, outcome) ({} or {} or {})",
            of(r#"namespace="shop", workload="cart.v1""#),
            of(r#"tulle_peer_namespace="shop", tulle_peer_workload="cart.v1""#),
            of(r#"server_address=~"cart\\.v1\\.shop\\..*""#),
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn one_point_is_asked_at_once_and_several_as_a_range() {
        let one = bytes(&ask(Of::All, 1), 10_000);
        assert_eq!(one.endpoint, "query");
        let form = &one.form;
        assert!(form.ends_with("&time=10000") && form.contains("%5B7200s%5D"), "{form}");
        let several = bytes(&ask(Of::All, 60), 10_000);
        assert_eq!(several.endpoint, "query_range");
        assert!(several.form.ends_with("&start=2920&end=10000&step=120"), "{}", several.form);
        let begin = begin(&ask(Of::All, 1), 10_000);
        assert!(begin.form.ends_with("&start=2872&end=10000&step=72"), "{}", begin.form);
        let without = Ask { durations: false, ..ask(Of::All, 1) };
        assert_eq!((queries(&ask(Of::All, 1), 0).len(), queries(&without, 0).len()), (7, 5));
    }
}
