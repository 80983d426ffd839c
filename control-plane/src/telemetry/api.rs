//! The store's answers as JSON: what the terminal and the dashboard read.
//!
//! ```text
//! GET /telemetry/stat    how workloads do
//! GET /telemetry/edges   who calls whom
//! GET /telemetry/routes  by which rule a workload or Service is called
//!     ?namespace=shop    only there (default: everywhere)
//!     &name=reviews      only this workload or Service
//!     &window=60         seconds, at most two hours
//!     &watch=true        who asks goes on looking: sidecars report every second for half a minute
//! GET /telemetry/tap     what ended lately: docs/tap.md has its words
//! ```

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, Uri};
use serde::Serialize;
use tulle_runtime::http::{answer, text};

use super::{
    Ask, Of, Query, tap,
    view::{self, TREND, TREND_POINT},
};

/// Longest window, in seconds.
const LONGEST: u64 = 7200;
/// Where nothing is said.
const WINDOW: Duration = Duration::from_secs(60);

/// What a question says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Question {
    of: Of,
    window: Duration,
    watch: bool,
}

/// Answers a `GET` below `/telemetry/`.
pub async fn respond(query: &Query, uri: &Uri) -> Response<Bytes> {
    if uri.path() == "/telemetry/tap" {
        return match tap::Question::read(uri.query().unwrap_or_default()) {
            Ok(question) => tapped(query, &question).await,
            Err(problem) => text(StatusCode::BAD_REQUEST, format!("{problem}\n")),
        };
    }
    let question = match Question::read(uri.query().unwrap_or_default()) {
        Ok(question) => question,
        Err(problem) => return text(StatusCode::BAD_REQUEST, format!("{problem}\n")),
    };
    let Question { of, window, watch } = question;
    let ask = |routes| Ask { of: of.clone(), window, points: 1, routes, durations: true };
    match uri.path() {
        "/telemetry/stat" => {
            let minutes = Duration::from_secs((TREND * TREND_POINT).into());
            let trend = Ask { window: minutes, points: TREND, durations: false, ..ask(false) };
            let now = ask(false);
            let (mut now, trend) = tokio::join!(query.ask(&now, watch), query.ask(&trend, false));
            let unheard = trend.unheard.iter().filter(|name| !now.unheard.contains(name));
            now.unheard.extend(unheard.cloned().collect::<Vec<_>>());
            as_json(&view::stat(&now, &trend, window))
        }
        "/telemetry/edges" => as_json(&view::edges(&query.ask(&ask(false), watch).await, window)),
        "/telemetry/routes" => {
            as_json(&view::routes(&query.ask(&ask(true), watch).await, &of, window))
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /telemetry/stat, /telemetry/edges, /telemetry/routes and /telemetry/tap\n",
        ),
    }
}

/// What proxies say to this question, which is about one namespace: whoever asks may read that.
pub async fn tapped(query: &Query, question: &tap::Question) -> Response<Bytes> {
    match query.tap(question).await {
        Ok(page) => as_json(&page),
        Err(refused) => text(StatusCode::NOT_FOUND, format!("{refused}\n")),
    }
}

impl Question {
    fn read(query: &str) -> Result<Self, String> {
        let (mut namespace, mut name) = (String::new(), String::new());
        let (mut window, mut watch) = (WINDOW, false);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "namespace" => namespace = label(key, value)?,
                "name" => name = label(key, value)?,
                "window" => {
                    let seconds =
                        value.parse().ok().filter(|seconds| (1..=LONGEST).contains(seconds));
                    let seconds = seconds.ok_or_else(|| {
                        format!("window={value}: it is a number of seconds from 1 to {LONGEST}")
                    })?;
                    window = Duration::from_secs(seconds);
                }
                "watch" => watch = value == "true",
                _ => return Err(format!("{key}: there are namespace, name, window and watch")),
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

fn as_json(value: &impl Serialize) -> Response<Bytes> {
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
            assert_eq!(Question::read(query), Ok(Question { of, window, watch }), "{query}");
        }
        for (query, problem) in [
            ("name=cart", "name=cart: its namespace is missing"),
            ("window=0", "window=0: it is a number of seconds from 1 to 7200"),
            ("window=1h", "window=1h: it is a number of seconds from 1 to 7200"),
            ("namespace=a%2Fb", "namespace=a%2Fb: that is no name of Kubernetes"),
            ("flux=1", "flux: there are namespace, name, window and watch"),
        ] {
            assert_eq!(Question::read(query), Err(problem.to_owned()), "{query}");
        }
    }
}
