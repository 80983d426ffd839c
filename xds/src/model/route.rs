mod decode;
mod encode;

pub(super) use encode::{GRPC_NAMES, header_match};

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::Serialize;

use super::{Origin, Setter};

/// Rules for HTTP requests to one Service port, named like the cluster,
/// `service/NAMESPACE/NAME/PORT`. One virtual host, `*`: in a mesh the address decides, not the
/// host (GEP-1294).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RouteConfiguration {
    /// The resource's name.
    pub name: String,
    /// The first that matches wins; none matching is 404 with reason `route_not_found`.
    pub rules: Vec<Rule>,
}

/// One rule: what it matches, what it changes, where it sends.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rule {
    /// All of its conditions must hold.
    pub matches: Match,
    /// Applied in this order: at most one of each kind, in the order of [`Filter`]'s variants. A
    /// rewrite only for [`Action::Forward`].
    pub filters: Vec<Filter>,
    /// What happens to a request that matches.
    pub action: Action,
    /// Bounds on time; all `None` by default, and for any action but [`Action::Forward`].
    pub timeouts: Timeouts,
    /// Retries; `None` retries only what was never sent. Only for [`Action::Forward`].
    pub retry: Option<Retry>,
    /// What decides which backend gets a request, in place of chance. Only for [`Action::Forward`].
    pub stick: Option<Stick>,
    /// Copies of the request whose answers are thrown away. Only for [`Action::Forward`].
    pub mirrors: Vec<Mirror>,
    /// The rule of the object that this one comes from.
    pub origin: Origin,
    /// What of timeouts and retries the object or policies set, by field.
    pub setters: Vec<Setter>,
}

/// Conditions of a [`Rule`], all of which must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Match {
    /// On the path.
    pub path: PathMatch,
    /// On the method.
    #[serde(serialize_with = "as_text_option")]
    pub method: Option<Method>,
    /// On headers.
    pub headers: Vec<HeaderMatch>,
    /// On query parameters.
    pub query: Vec<QueryMatch>,
}

/// On the path, without its query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum PathMatch {
    /// Exactly this path.
    Exact(String),
    /// This path or below, by whole segments (`/a` matches `/a` and `/a/b`, not `/ab`). No slash at
    /// the end, so that `/` is empty and matches all.
    Prefix(String),
    /// The whole path matches.
    Regex(Regex),
}

impl Default for PathMatch {
    fn default() -> Self {
        Self::Prefix(String::new())
    }
}

/// On a header's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeaderMatch {
    /// Name of the header.
    #[serde(serialize_with = "as_text")]
    pub name: HeaderName,
    /// Condition on its value; several values are joined by `,` (RFC 9110, 5.2).
    pub value: StringMatch,
}

/// On a query parameter's value, percent-decoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueryMatch {
    /// Name of the parameter.
    pub name: String,
    /// Condition on its first value.
    pub value: StringMatch,
}

/// On a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum StringMatch {
    /// Exactly this.
    Exact(String),
    /// The whole text matches.
    Regex(Regex),
}

/// A regular expression that compiles, RE2 syntax, always a full match.
#[derive(Clone)]
pub struct Regex {
    source: String,
    compiled: regex::Regex,
}

impl Regex {
    /// Compiles `source`.
    ///
    /// # Errors
    /// What is wrong with it, or that its program would exceed 256 KiB.
    pub fn new(source: &str) -> Result<Self, regex::Error> {
        let compiled =
            regex::RegexBuilder::new(&format!("^(?:{source})$")).size_limit(256 << 10).build()?;
        Ok(Self { source: source.to_owned(), compiled })
    }

    /// The expression as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether all of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }
}

impl std::fmt::Debug for Regex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.source)
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Regex {}

impl Serialize for Regex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

/// A change to request or response.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Filter {
    /// Changes the request's headers; not empty.
    RequestHeaders(HeaderModifier),
    /// Changes the response's headers; not empty.
    ResponseHeaders(HeaderModifier),
    /// Changes host or path before the request is sent; at least one of them.
    Rewrite {
        /// New `Host` (`:authority`).
        host: Option<String>,
        /// New path.
        path: Option<PathRewrite>,
    },
}

/// Header changes: `set` replaces, `add` appends, `remove` removes, in this order.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct HeaderModifier {
    /// Replaces all values.
    #[serde(serialize_with = "as_text_pairs")]
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Adds a value.
    #[serde(serialize_with = "as_text_pairs")]
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Removes all values.
    #[serde(serialize_with = "as_text_list")]
    pub remove: Vec<HeaderName>,
}

/// A new path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum PathRewrite {
    /// The whole path, without its query.
    Full(String),
    /// What the rule's prefix matched, only with [`PathMatch::Prefix`]: by whole segments, and
    /// without a slash at the end, as there. So `/a` to the empty text makes `/a/b` to `/b`, and
    /// `/a` to `/`.
    Prefix(String),
}

/// What happens to a request that matches.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Action {
    /// One of the backends gets it, by weight. The weights' sum is between 1 and 2^32-1.
    Forward(Vec<Backend>),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// It is answered with this status and no body: what a rule with an invalid backend does
    /// (Gateway API: 500).
    #[serde(serialize_with = "as_status")]
    Fail(StatusCode),
}

/// What of a request decides which backend gets it: Envoy's hash policy of this name for weighted
/// clusters. The hash of its value, modulo the weights' sum, is within one backend's range; the ranges
/// follow each other in the backends' order. So while the sum stays what it is and the first backend's
/// weight grows, nobody who went there goes elsewhere. A request that has no such value goes by chance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Stick {
    /// The value of this header.
    #[serde(serialize_with = "as_text")]
    Header(HeaderName),
    /// The value of this cookie, which has a name.
    Cookie(String),
    /// The address of the client, without its port.
    SourceIp,
}

/// A share of the traffic.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Backend {
    /// Name of a [`Cluster`](super::Cluster), or [`Backend::INVALID`].
    pub cluster: String,
    /// Relative to the other backends' weights; 0 gets nothing.
    pub weight: u32,
    /// Applied after the rule's own filters; as those, but a rewrite changes the host only.
    pub filters: Vec<Filter>,
}

impl Backend {
    /// In place of a cluster's name: there never is one, and this share is answered with 500, as
    /// Gateway API wants it for one invalid backend among valid ones.
    pub const INVALID: &str = "invalid";

    /// Whether it names a cluster.
    pub fn is_valid(&self) -> bool {
        self.cluster != Self::INVALID
    }
}

/// A redirect (Gateway API `HTTPRequestRedirectFilter`); `None` keeps what the request had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// New host.
    pub host: Option<String>,
    /// New port, not 0.
    pub port: Option<u16>,
    /// New path.
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    #[serde(serialize_with = "as_status")]
    pub status: StatusCode,
}

/// Bounds on time; `None` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Timeouts {
    /// From the request's arrival to the end of the response, all tries included.
    pub request: Option<Duration>,
    /// For each try.
    pub per_try: Option<Duration>,
    /// Without a byte in either direction; at least 1 ms.
    pub idle: Option<Duration>,
}

/// When a try may be followed by another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Retry {
    /// Tries after the first.
    pub attempts: u32,
    /// Status codes that are retried, for idempotent methods.
    #[serde(serialize_with = "as_status_list")]
    pub statuses: Vec<StatusCode>,
    /// grpc-status codes that are retried, ascending: some of [`Retry::GRPC_STATUSES`].
    pub grpc_statuses: Vec<u32>,
    /// Whether a connection that could not be made is retried.
    pub on_connect: bool,
    /// Whether that, a reset, and a try that took too long are retried; the latter two for
    /// idempotent methods.
    pub on_reset: bool,
    /// First pause; it doubles, with full jitter. At least 1 ms.
    pub base_backoff: Duration,
    /// Longest pause, not below `base_backoff`.
    pub max_backoff: Duration,
}

impl Retry {
    /// The codes that may be retried, which are those that Envoy and proxyless gRPC can retry:
    /// CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE.
    pub const GRPC_STATUSES: [u32; 5] = [1, 4, 8, 13, 14];
}

/// A copy of the request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mirror {
    /// Name of a [`Cluster`](super::Cluster).
    pub cluster: String,
    /// Share of requests in millionths, 0 to 1,000,000.
    pub millionths: u32,
}

fn as_text<T: AsRef<str>, S: serde::Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(value.as_ref())
}

fn as_text_option<T: AsRef<str>, S: serde::Serializer>(
    value: &Option<T>,
    to: S,
) -> Result<S::Ok, S::Error> {
    value.as_ref().map(AsRef::as_ref).serialize(to)
}

fn as_text_list<T: AsRef<str>, S: serde::Serializer>(list: &[T], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(list.iter().map(AsRef::as_ref))
}

fn as_text_pairs<S: serde::Serializer>(
    pairs: &[(HeaderName, HeaderValue)],
    to: S,
) -> Result<S::Ok, S::Error> {
    to.collect_map(pairs.iter().map(|(n, v)| (n.as_str(), String::from_utf8_lossy(v.as_bytes()))))
}

fn as_status<S: serde::Serializer>(status: &StatusCode, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u16(status.as_u16())
}

fn as_status_list<S: serde::Serializer>(list: &[StatusCode], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(list.iter().map(StatusCode::as_u16))
}
