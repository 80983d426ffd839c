//! The store's answers as JSON: what the terminal and the dashboard read.
//!
//! ```text
//! GET /telemetry/stat    how workloads do
//! GET /telemetry/edges   who calls whom
//! GET /telemetry/routes  by which rule a workload or Service is called
//! GET /telemetry/chart   how a workload did over time
//!     ?namespace=shop    only there (default: everywhere)
//!     &name=reviews      only this workload or Service
//!     &window=60         seconds, at most two hours; with a Prometheus 31 days
//!     &watch=true        who asks goes on looking: sidecars report every second for half a minute
//! GET /telemetry/tap     what ended lately: docs/tap.md has its words
//! ```

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Response, StatusCode, Uri};
use serde::Serialize;
use tulle_runtime::http::{answer, text};

use super::{
    Ask, Of, Query, Scope, tap,
    view::{self, TREND, TREND_POINT},
};

/// Longest window, in seconds; and where a Prometheus is asked about what is older.
const LONGEST: u64 = 7200;
const LONGEST_WITH_PROMETHEUS: u64 = 31 * 86_400;
/// So far back there are slots of ten seconds.
const FINE: Duration = Duration::from_secs(900);
/// Points of a chart.
const MOST_POINTS: u32 = 120;
/// Where nothing is said.
const WINDOW: Duration = Duration::from_secs(60);

/// What a question says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Question {
    of: Of,
    window: Duration,
    watch: bool,
}

/// Answers a `GET` below `/telemetry/` to somebody who may see this much. `None`: it is no question of this kind.
pub async fn respond(query: &Query, uri: &Uri, scope: &Scope) -> Option<Response<Bytes>> {
    if uri.path() == "/telemetry/tap" {
        return Some(match tap::Question::read(uri.query().unwrap_or_default()) {
            Ok(question) => tapped(query, &question, scope).await,
            Err(problem) => text(StatusCode::BAD_REQUEST, format!("{problem}\n")),
        });
    }
    let longest = if query.prometheus.is_some() { LONGEST_WITH_PROMETHEUS } else { LONGEST };
    let question = match Question::read(uri.query().unwrap_or_default(), longest) {
        Ok(question) => question,
        Err(problem) => return Some(text(StatusCode::BAD_REQUEST, format!("{problem}\n"))),
    };
    let Question { of, window, watch } = question;
    // Whoever may not see a workload may not make its sidecars report more often either.
    let watch = watch && of.is_within(scope);
    let ask = |routes| Ask { of: of.clone(), window, points: 1, routes, durations: true };
    let seen = async |ask: Ask| query.ask(&ask, watch).await.within(scope);
    Some(match uri.path() {
        "/telemetry/stat" => {
            let minutes = Duration::from_secs((TREND * TREND_POINT).into());
            let trend = Ask { window: minutes, points: TREND, durations: false, ..ask(false) };
            let (mut now, trend) = tokio::join!(seen(ask(false)), query.ask(&trend, false));
            let unheard = trend.unheard.iter().filter(|name| !now.unheard.contains(name));
            now.unheard.extend(unheard.cloned().collect::<Vec<_>>());
            as_json(&view::stat(&now, &trend.within(scope), window))
        }
        "/telemetry/edges" => as_json(&view::edges(&seen(ask(false)).await, window)),
        "/telemetry/routes" => as_json(&view::routes(&seen(ask(true)).await, &of, window)),
        "/telemetry/chart" if !matches!(of, Of::Named(..)) => {
            let told = "a chart is of one workload: namespace=…&name=…\n";
            text(StatusCode::BAD_REQUEST, told)
        }
        "/telemetry/chart" => {
            let (points, step) = points(window);
            let window = Duration::from_secs((points * step).into());
            let asked = Ask { points, window, ..ask(false) };
            as_json(&view::chart(&seen(asked).await, (points, step), SystemTime::now()))
        }
        _ => return None,
    })
}

/// What proxies say to this question, which is about one namespace.
async fn tapped(query: &Query, question: &tap::Question, scope: &Scope) -> Response<Bytes> {
    let namespace = &question.namespace;
    if !scope.has(namespace) {
        let told = format!("you may not tap workloads of namespace {namespace}\n");
        return text(StatusCode::FORBIDDEN, told);
    }
    match query.tap(question).await {
        Ok(page) => as_json(&page),
        Err(refused) => text(StatusCode::NOT_FOUND, format!("{refused}\n")),
    }
}

/// Points of a chart, and seconds of each: as much as slots of time tell apart that go back so far.
fn points(window: Duration) -> (u32, u32) {
    let seconds = u32::try_from(window.as_secs()).unwrap_or(u32::MAX);
    let slot = if window <= FINE { 10 } else { 60 };
    let step = seconds.div_ceil(MOST_POINTS).next_multiple_of(slot);
    ((seconds / step).max(1), step)
}

impl Question {
    fn read(query: &str, longest: u64) -> Result<Self, String> {
        let (mut namespace, mut name) = (String::new(), String::new());
        let (mut window, mut watch) = (WINDOW, false);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "namespace" => namespace = label(key, value)?,
                "name" => name = label(key, value)?,
                "window" => {
                    let seconds =
                        value.parse().ok().filter(|seconds| (1..=longest).contains(seconds));
                    let seconds = seconds.ok_or_else(|| too_long(value, longest))?;
                    window = Duration::from_secs(seconds);
                }
                "watch" => watch = value == "true",
                _ => {
                    return Err(format!("{key}: there are namespace, name, window and watch"));
                }
            }
        }
        let of = match (namespace.is_empty(), name.is_empty()) {
            (true, true) => Of::All,
            (false, true) => Of::Namespace(namespace),
            (false, false) => Of::Named(namespace, name),
            (true, false) => return Err(format!("name={name}: its namespace is missing")),
        };
        Ok(Self { of, window, watch })
    }
}

fn too_long(window: &str, longest: u64) -> String {
    let more = match longest {
        LONGEST => {
            "; for more the control plane needs a Prometheus (--prometheus, in the chart controlPlane.prometheus)"
        }
        _ => "",
    };
    format!("window={window}: it is a number of seconds from 1 to {longest}{more}")
}

/// Whether it can be a name of Kubernetes, which needs no escapes in a question.
pub fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    text.chars().all(allowed) && text.len() <= 253
}

fn label(key: &str, value: &str) -> Result<String, String> {
    match is_name(value) {
        true => Ok(value.to_owned()),
        false => Err(format!("{key}={value}: that is no name of Kubernetes")),
    }
}

pub(crate) fn as_json(value: &impl Serialize) -> Response<Bytes> {
    match serde_json::to_vec(value) {
        Ok(json) => answer(StatusCode::OK, "application/json", json),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_or_refused_with_a_reason() {
        let seconds = Duration::from_secs;
        let named = |namespace: &str, name: &str| Of::Named(namespace.to_owned(), name.to_owned());
        for (query, of, window, watch) in [
            ("", Of::All, WINDOW, false),
            ("namespace=&window=5", Of::All, seconds(5), false),
            ("namespace=shop&watch=true", Of::Namespace("shop".to_owned()), WINDOW, true),
            ("name=cart&namespace=shop&window=7200", named("shop", "cart"), seconds(7200), false),
        ] {
            assert_eq!(
                Question::read(query, LONGEST),
                Ok(Question { of, window, watch }),
                "{query}"
            );
        }
        let minutes = |count: u64| points(Duration::from_secs(60 * count));
        let charts = [minutes(1), minutes(15), minutes(16), minutes(120), minutes(1440)];
        assert_eq!(charts, [(6, 10), (90, 10), (16, 60), (120, 60), (120, 720)]);
        for (query, problem) in [
            ("name=cart", "name=cart: its namespace is missing"),
            ("window=0", "window=0: it is a number of seconds from 1 to 7200"),
            ("window=1h", "window=1h: it is a number of seconds from 1 to 7200"),
            ("namespace=a%2Fb", "namespace=a%2Fb: that is no name of Kubernetes"),
            ("flux=1", "flux: there are namespace, name, window and watch"),
        ] {
            let refused = Question::read(query, LONGEST).unwrap_err();
            assert!(refused.starts_with(problem), "{query}: {refused}");
        }
    }
}
