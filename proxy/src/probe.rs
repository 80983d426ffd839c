//! The kubelet's probes of the application, made in its place.
//!
//! The kubelet has no certificate of the mesh: a port that wants mTLS would refuse it, and where it
//! is let in it would look like traffic. Injection has it ask our status port instead, at paths
//! that strangers cannot guess, and tells us in `TULLE_PROBES` what to do then:
//!
//! ```text
//!  kubelet ── GET /probe/6f1c…/app/readiness ──► [ admin ] ──► [ Probe ] ── HTTP, TCP, gRPC ──► application
//!          ◄── 200, or 503 and the reason ─────
//! ```
//!
//! Nothing here is traffic: no metric counts it, no access log line tells of it, no policy applies.
//! The application sees the source address that all of its callers have.

mod ask;

pub use ask::Application;

use std::{
    collections::HashMap,
    fmt,
    num::{NonZeroU16, NonZeroU32},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header::USER_AGENT,
    uri::PathAndQuery,
};
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, de};
use tokio::{sync::Semaphore, time::timeout};
use tulle_runtime::http::text;

/// How often one probe may be under way at once. The kubelet makes them one after the other, but
/// does not wait for one that it has given up.
const AT_ONCE: usize = 2;

/// The program that the application takes us for, if the one that asks does not name itself.
const KUBELET: HeaderValue = HeaderValue::from_static("kube-probe");

/// All probes, by path. Cheap to clone. Its `Debug` shows no path and no header.
#[derive(Clone, Default)]
pub struct Probes(Arc<HashMap<String, Probe>>);

/// One probe.
pub struct Probe {
    /// `CONTAINER/KIND`, for logs: the path without its secret.
    name: String,
    limit: Option<Duration>,
    action: Action,
    places: Semaphore,
    /// Why it failed the last time.
    failure: Mutex<Option<String>>,
}

/// A probe as injection describes it: `control-plane/src/inject/probes.rs`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    path: String,
    timeout_seconds: Option<NonZeroU32>,
    action: Action,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
enum Action {
    HttpGet {
        port: NonZeroU16,
        #[serde(deserialize_with = "target")]
        path: PathAndQuery,
        scheme: Scheme,
        #[serde(deserialize_with = "headers")]
        http_headers: HeaderMap,
    },
    TcpSocket {
        port: NonZeroU16,
    },
    Grpc {
        port: NonZeroU16,
        service: String,
    },
    /// A preStop hook that ends when inbound traffic has drained, at the latest after this time.
    Hold {
        seconds: NonZeroU32,
    },
}

#[derive(Clone, Copy, Deserialize)]
enum Scheme {
    #[serde(rename = "HTTP")]
    Http,
    #[serde(rename = "HTTPS")]
    Https,
}

impl Probes {
    /// The probe with exactly this path.
    pub fn find(&self, path: &str) -> Option<&Probe> {
        self.0.get(path)
    }

    /// How long containers are kept from ending at most; `None` if none of them is.
    pub fn hold(&self) -> Option<Duration> {
        self.0.values().filter_map(Probe::hold).max()
    }
}

impl Probe {
    /// For as long this is to be answered when inbound traffic has drained; `None` if it is about
    /// something else.
    pub fn hold(&self) -> Option<Duration> {
        match self.action {
            Action::Hold { seconds } => Some(Duration::from_secs(seconds.get().into())),
            _ => None,
        }
    }

    /// Probes the application for the one who sent `request`.
    ///
    /// Takes as long as the user allows the kubelet to wait; a hook, which has no such time, as long as
    /// it is waited for. Dropping the future ends the probe.
    pub async fn answer(
        &self,
        application: &Application,
        request: &Request<Bytes>,
    ) -> Response<Bytes> {
        let agent = request.headers().get(USER_AGENT).cloned().unwrap_or(KUBELET);
        let asked = async {
            let _place = self.places.acquire().await;
            application.ask(&self.action, &agent).await
        };
        let limit = self.limit.unwrap_or(Duration::MAX);
        let late = |_elapsed| Err(format!("no answer within {limit:?}"));
        let result = Box::pin(timeout(limit, asked)).await.unwrap_or_else(late);
        self.log(result.as_ref().err());
        match result {
            Ok(()) => text(StatusCode::OK, "ok\n"),
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        }
    }

    /// The kubelet tells the user our status and not our reason, so that is here; once, and not
    /// at every period.
    fn log(&self, failure: Option<&String>) {
        let mut last = self.failure.lock();
        if last.as_ref() == failure {
            return;
        }
        let probe = &self.name;
        match failure {
            Some(reason) => tracing::info!(probe, reason, "the application fails a probe"),
            None => tracing::info!(probe, "the application passes a probe again"),
        }
        *last = failure.cloned();
    }
}

impl FromStr for Probes {
    type Err = String;

    /// From the JSON that injection wrote.
    fn from_str(json: &str) -> Result<Self, String> {
        let advice = "injection writes this variable: inject the pod again";
        let entries: Vec<Entry> =
            serde_json::from_str(json).map_err(|error| format!("{error}; {advice}"))?;
        let mut probes = HashMap::new();
        for Entry { path, timeout_seconds, action } in entries {
            let name = match path.splitn(4, '/').collect::<Vec<_>>()[..] {
                ["", "probe", secret, name] if !secret.is_empty() => name.to_owned(),
                _ => return Err(format!("a path is not /probe/SECRET/CONTAINER/KIND; {advice}")),
            };
            let limit = timeout_seconds.map(|seconds| Duration::from_secs(seconds.get().into()));
            let (places, failure) = (Semaphore::new(AT_ONCE), Mutex::default());
            let probe = Probe { name, limit, action, places, failure };
            if let Some(Probe { name, .. }) = probes.insert(path, probe) {
                return Err(format!("{name} is there twice; {advice}"));
            }
        }
        Ok(Self(Arc::new(probes)))
    }
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.values()).finish()
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A path as the user wrote it: without its slash maybe, and with characters that the kubelet
/// would encode.
fn target<'de, D: Deserializer<'de>>(from: D) -> Result<PathAndQuery, D::Error> {
    let path = String::deserialize(from)?;
    let mut target = if path.starts_with('/') { String::new() } else { "/".to_owned() };
    for byte in path.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            target.push(byte.into());
        } else {
            target.push_str(&format!("%{byte:02X}"));
        }
    }
    target.try_into().map_err(|error| de::Error::custom(format!("path {path:?}: {error}")))
}

fn headers<'de, D: Deserializer<'de>>(from: D) -> Result<HeaderMap, D::Error> {
    let pairs = Vec::<(String, String)>::deserialize(from)?;
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let bad = |what: &dyn fmt::Display| de::Error::custom(format!("header {name:?}: {what}"));
        let value = HeaderValue::try_from(value).map_err(|error| bad(&error))?;
        headers.append(HeaderName::from_str(&name).map_err(|error| bad(&error))?, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests;
