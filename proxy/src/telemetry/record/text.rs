//! A record as a line in Envoy's default format, for those whose tools read that:
//! <https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage>, "Default Format String".

use std::{borrow::Cow, fmt::Write as _, sync::atomic::Ordering};

use http::{Method, Version};
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};
use tokio::time::Instant;
use tulle_expression::Side;

use super::{Record, Towards, line::shown};
use crate::telemetry::response_flags;

/// The request's header fields that the format has.
pub(crate) const ENVOY_HEADERS: [&str; 3] = ["user-agent", "x-forwarded-for", "x-request-id"];
/// `%START_TIME%`
const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

impl Record {
    /// The record as one line of text.
    pub(super) fn text(&self, now: Instant) -> Vec<u8> {
        let took = now.duration_since(self.started);
        let started = (OffsetDateTime::now_utc() - took).format(TIME).unwrap_or_default();
        let request = self.request.as_ref();
        let read = request.filter(|request| request.method.is_some());
        let header = |name| self.kept.get(Side::Request, name).map(quoted);
        let status = request.and_then(|r| r.status).map_or(0, |status| status.as_u16());
        let served = self.reason.is_none() && self.endpoint.is_some();
        let first = request.and_then(|r| r.first_byte).filter(|_| served);
        let external = matches!(self.towards, Towards::External).then_some(self.destination);
        let upstream = self.endpoint.as_deref().map(|e| e.address).or(external);
        let [forwarded, agent, id] =
            ["x-forwarded-for", "user-agent", "x-request-id"].map(|name| or_dash(header(name)));
        let mut line = String::with_capacity(256);
        // To a String it cannot fail.
        let _infallible = writeln!(
            line,
            "[{started}] \"{} {} {}\" {status} {} {} {} {} {} \"{forwarded}\" \"{agent}\" \"{id}\" \"{}\" \"{}\"",
            read.and_then(|r| r.method.as_ref()).map_or("-", Method::as_str),
            or_dash(read.map(|r| quoted(&r.path))),
            self.http_version(),
            self.reason.map_or("-", response_flags::of),
            self.received.load(Ordering::Relaxed),
            self.sent.load(Ordering::Relaxed),
            took.as_millis(),
            or_dash(first.map(|first| first.as_millis().to_string().into())),
            or_dash(read.map(|r| quoted(&r.host))),
            or_dash(upstream.map(|address| address.to_string().into())),
        );
        line.into_bytes()
    }

    fn http_version(&self) -> &'static str {
        match self.request.as_ref().map(|request| request.version) {
            None => "-",
            Some(Version::HTTP_10) => "HTTP/1.0",
            Some(Version::HTTP_2) => "HTTP/2",
            Some(_) => "HTTP/1.1",
        }
    }
}

/// What stands between quotes, without any: nobody ends them but us.
fn quoted(text: &str) -> Cow<'_, str> {
    match shown(text) {
        plain if !plain.contains('"') => plain,
        other => Cow::Owned(other.replace('"', "%22")),
    }
}

fn or_dash(text: Option<Cow<'_, str>>) -> Cow<'_, str> {
    text.filter(|text| !text.is_empty()).unwrap_or(Cow::Borrowed("-"))
}
