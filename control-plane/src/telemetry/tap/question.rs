//! A question, as it stands in a URL.

use tulle_proto::telemetry::v1 as proto;
use tulle_xds::text::{bounded, printable};

use super::{
    cursor::{self, Cursors},
    escape::unescape,
};
use crate::telemetry::api::is_name;

/// Records of an answer, at most, and where nothing is said.
pub const MOST: u32 = 1000;
const USUAL: u32 = 200;
/// Header fields that are asked for, at most.
const MOST_HEADERS: usize = 16;
/// Bytes of a path's beginning, of a header field's value (sidecars keep no more) and of its name.
const MAX_TEXT: usize = 512;
const MAX_FIELD: usize = 128;
/// Seconds that anything can be asked of.
const LONGEST: f64 = 86_400.0;

/// What somebody wants to know: always of one namespace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Question {
    /// Whose pods are asked: whoever asks must be allowed to read these.
    pub namespace: String,
    /// Which of its pods.
    pub target: Target,
    /// Which of their records.
    pub filter: proto::Filter,
    /// How many records, at most: the latest.
    pub most: u32,
    /// Header fields that are told of each.
    pub headers: Vec<String>,
    /// What was told before.
    pub cursors: Cursors,
}

/// Which pods of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// `Deployment`, `Service`, `Pod`, …; empty: any.
    pub kind: String,
    /// Empty: all.
    pub name: String,
}

impl Question {
    /// Reads the query of a URL.
    ///
    /// # Errors
    /// What is wrong with it, for whoever wrote it.
    pub fn read(query: &str) -> Result<Self, String> {
        let mut question = Self { most: USUAL, ..Self::default() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let shown =
                || format!("{}={}", printable(bounded(key, 40)), printable(bounded(value, 200)));
            let value = unescape(value).ok_or_else(|| format!("{}: that is no text", shown()))?;
            question.take(key, &value).map_err(|problem| format!("{}: {problem}", shown()))?;
        }
        match question.namespace.is_empty() {
            true => Err("the namespace is missing: namespace=…".to_owned()),
            false => Ok(question),
        }
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        let filter = &mut self.filter;
        match key {
            "namespace" => self.namespace = name(value)?,
            "kind" => self.target.kind = name(value)?,
            "name" => self.target.name = name(value)?,
            "direction" => {
                let direction = match value {
                    "inbound" => proto::Direction::Inbound,
                    "outbound" => proto::Direction::Outbound,
                    _ => return Err("it is inbound or outbound".to_owned()),
                };
                filter.set_direction(direction);
            }
            "status" => filter.statuses = statuses(value)?,
            "grpc" => filter.grpc = word(&value.to_uppercase(), "UNAVAILABLE")?,
            "slower" => filter.slower_us = scaled(value, 1e6)?,
            "since" => filter.within_ms = scaled(value, 1e3)?.max(1),
            "reason" => filter.reason = word(&value.to_lowercase(), "timeout")?,
            "from" => (filter.from_namespace, filter.from) = workload(value)?,
            "to" => (filter.to_namespace, filter.to) = workload(value)?,
            "method" => filter.method = word(value, "POST")?,
            "path" => filter.path_prefix = text(value)?,
            "failed" => filter.failed = value == "true",
            "header" => {
                let (name, value) = value.split_once('=').unwrap_or((value, ""));
                few(filter.headers.len())?;
                filter.headers.push(proto::Header { name: field(name)?, value: text(value)?, response: false });
            }
            "show" => {
                few(self.headers.len())?;
                self.headers.push(field(value)?);
            }
            "most" => {
                let wrong = || format!("it is a number from 1 to {MOST}");
                let most = value.parse().ok().filter(|most| (1..=MOST).contains(most));
                self.most = most.ok_or_else(wrong)?;
            }
            "cursor" => {
                let wrong = || "it is not what was said as the cursor before".to_owned();
                let known = Some(value).filter(|value| value.len() <= cursor::LONGEST);
                self.cursors = known.and_then(Cursors::read).ok_or_else(wrong)?;
            }
            _ => return Err(
                "there are namespace, kind, name, direction, status, grpc, slower, since, reason, from, to, method, path, failed, header, show, most and cursor".to_owned(),
            ),
        }
        Ok(())
    }
}

/// A name of Kubernetes, or none.
fn name(value: &str) -> Result<String, String> {
    is_name(value)
        .then(|| value.to_owned())
        .ok_or_else(|| "that is no name of Kubernetes".to_owned())
}

/// `NAME`, or `NAMESPACE/NAME`.
fn workload(value: &str) -> Result<(String, String), String> {
    let (namespace, own) = value.split_once('/').unwrap_or(("", value));
    let (namespace, own) = (name(namespace)?, name(own)?);
    if own.is_empty() {
        return Err("it is NAME or NAMESPACE/NAME".to_owned());
    }
    Ok((namespace, own))
}

/// `5xx`, `404`, `400-499`; several with commas.
fn statuses(value: &str) -> Result<Vec<proto::Statuses>, String> {
    let one = |part: &str| {
        let number =
            |text: &str| text.parse::<u32>().ok().filter(|status| (100..=999).contains(status));
        let (first, last) = match (part.strip_suffix("xx"), part.split_once('-')) {
            (Some(class), _) => {
                let class = class.parse::<u32>().ok().filter(|class| (1..=9).contains(class))?;
                (class * 100, class * 100 + 99)
            }
            (None, Some((first, last))) => (number(first)?, number(last)?),
            (None, None) => (number(part)?, number(part)?),
        };
        Some(proto::Statuses { first, last })
    };
    let read: Option<Vec<_>> = value.split(',').take(MOST_HEADERS).map(one).collect();
    read.ok_or_else(|| "it is a status, a class or a range: 404, 5xx, 400-499".to_owned())
}

/// A time in seconds, so many times.
fn scaled(value: &str, times: f64) -> Result<u64, String> {
    let seconds = value.parse().ok().filter(|seconds| (0.0..=LONGEST).contains(seconds));
    let seconds: f64 =
        seconds.ok_or_else(|| format!("it is a number of seconds, {LONGEST} at most"))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is bounded above"
    )]
    Ok((seconds * times).round() as u64)
}

fn word(value: &str, example: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match value.len() <= 64 && value.chars().all(allowed) {
        true => Ok(value.to_owned()),
        false => Err(format!("it is a word, as {example}")),
    }
}

/// A header field's name.
fn field(value: &str) -> Result<String, String> {
    let name = value.to_lowercase().parse::<http::HeaderName>().ok();
    let name = name.filter(|_| value.len() <= MAX_FIELD);
    name.map(|name| name.to_string()).ok_or_else(|| "that is no name of a header field".to_owned())
}

fn text(value: &str) -> Result<String, String> {
    match value.len() <= MAX_TEXT {
        true => Ok(value.to_owned()),
        false => Err(format!("it is longer than {MAX_TEXT} bytes")),
    }
}

fn few(there: usize) -> Result<(), String> {
    match there < MOST_HEADERS {
        true => Ok(()),
        false => Err(format!("{MOST_HEADERS} header fields at most")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn questions_are_read() {
        let question = Question::read(
            "namespace=shop&kind=Deployment&name=pay&direction=inbound&status=5xx,404,301-302&grpc=unavailable&slower=0.2&since=60&reason=Timeout&from=bank/vault&to=cart&method=POST&path=%2Fcharge%20it&failed=true&header=X-Tenant%3Dblue=1&header=x-b&show=User-Agent&most=7&cursor=",
        );
        let text = str::to_owned;
        let statuses = |first, last| proto::Statuses { first, last };
        let header =
            |name, value| proto::Header { name: text(name), value: text(value), response: false };
        let filter = proto::Filter {
            direction: 1,
            statuses: vec![statuses(500, 599), statuses(404, 404), statuses(301, 302)],
            grpc: text("UNAVAILABLE"),
            slower_us: 200_000,
            reason: text("timeout"),
            from_namespace: text("bank"),
            from: text("vault"),
            to_namespace: String::new(),
            to: text("cart"),
            method: text("POST"),
            path_prefix: text("/charge it"),
            headers: vec![header("x-tenant", "blue=1"), header("x-b", "")],
            within_ms: 60_000,
            failed: true,
        };
        let expected = Question {
            namespace: text("shop"),
            target: Target { kind: text("Deployment"), name: text("pay") },
            filter,
            most: 7,
            headers: vec![text("user-agent")],
            cursors: Cursors::default(),
        };
        assert_eq!(question, Ok(expected));
        let least = Question::read("namespace=shop").unwrap();
        assert_eq!((least.most, least.filter), (USUAL, proto::Filter::default()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (query, problem) in [
            ("", "the namespace is missing"),
            ("name=pay", "the namespace is missing"),
            ("namespace=a%2Fb", "no name of Kubernetes"),
            ("namespace=a&status=6x", "404, 5xx, 400-499"),
            ("namespace=a&status=", "404, 5xx, 400-499"),
            ("namespace=a&status=99", "404, 5xx, 400-499"),
            ("namespace=a&slower=fast", "number of seconds"),
            ("namespace=a&slower=NaN", "number of seconds"),
            ("namespace=a&since=-1", "number of seconds"),
            ("namespace=a&direction=up", "inbound or outbound"),
            ("namespace=a&reason=a%20b", "a word"),
            ("namespace=a&from=a/", "NAMESPACE/NAME"),
            ("namespace=a&header=", "header field"),
            ("namespace=a&most=0", "from 1 to 1000"),
            ("namespace=a&most=1001", "from 1 to 1000"),
            ("namespace=a&cursor=xyz", "not what was said"),
            ("namespace=a&path=%ff", "no text"),
            ("namespace=a&flux=%1b", "flux=%1b: there are"),
            ("namespace=a&flux=1", "there are namespace"),
        ] {
            let said = Question::read(query).unwrap_err();
            assert!(said.contains(problem), "{query}: {said}");
        }
        let many = format!("namespace=a{}", "&show=x".repeat(17));
        assert!(Question::read(&many).unwrap_err().contains("16 header fields"));
    }

    proptest! {
        #[test]
        fn whatever_is_asked_is_read_or_refused(query in "[a-z=&%+/0-9A-F\\\\-]{0,80}|.*") {
            if let Err(problem) = Question::read(&query) {
                prop_assert!(problem.chars().all(|c| !c.is_control()), "{problem:?}");
            }
        }
    }
}
