//! What the store has forgotten, asked of a Prometheus that scrapes the mesh, and answered as the store would.
//!
//! It asks by the metrics of `docs/metrics.md`, and by the labels `namespace` and `workload` that the scrape configuration of
//! `deploy/prometheus` gives to targets. Its own growth between two scrapes Prometheus estimates, so figures are not to the request.

mod credentials;
mod promql;
mod read;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header, uri::PathAndQuery};
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};
use tulle_runtime::http::within;

use self::{
    credentials::Credentials,
    promql::{Counted, Query},
};
use super::{Ask, Row, Workload};
use crate::server::outward;

/// For all of it: people wait.
const PATIENCE: Duration = Duration::from_secs(6);
/// Questions of people at once: each is eight of PromQL.
const AT_ONCE: usize = 2;
/// Most bytes of an answer, and of one that is a number.
const LARGEST: usize = 64 << 20;
const NUMBER: usize = 256 << 10;

/// A Prometheus. Clones share.
#[derive(Debug, Clone)]
pub struct Prometheus {
    server: Arc<Server>,
    /// Where it stands how it is known, and who asks.
    credentials: Option<Arc<Path>>,
}

#[derive(Debug)]
struct Server {
    /// As it was said.
    url: String,
    /// The host, if it is asked by TLS.
    tls: Option<String>,
    /// HOST:PORT.
    authority: String,
    /// In front of `/api/v1`.
    path: String,
    turns: Semaphore,
}

/// Why this is no Prometheus that can be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?}: write http://HOST:PORT or https://HOST:PORT, as in http://prometheus.monitoring:9090; who asks stands in files"
)]
pub struct NoUrl(String);

impl std::str::FromStr for Prometheus {
    type Err = NoUrl;

    fn from_str(url: &str) -> Result<Self, NoUrl> {
        let wrong = || NoUrl(url.to_owned());
        let parsed: Uri = url.parse().map_err(|_malformed| wrong())?;
        let port = match parsed.scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            _ => return Err(wrong()),
        };
        let authority = parsed.authority().filter(|said| !said.as_str().contains('@'));
        let authority = authority.ok_or_else(wrong)?;
        if parsed.query().is_some() {
            return Err(wrong());
        }
        let tls = (port == 443).then(|| authority.host().to_owned());
        let authority = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(port));
        let path = parsed.path().trim_end_matches('/').to_owned();
        let turns = Semaphore::new(AT_ONCE);
        let server = Arc::new(Server { url: url.to_owned(), tls, authority, path, turns });
        Ok(Self { server, credentials: None })
    }
}

impl std::fmt::Display for Prometheus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.server.url)
    }
}

impl Prometheus {
    /// The same, asked with what stands in the files of this directory: `ca_file`, `credentials_file`, `username_file` and
    /// `password_file`, whichever are there.
    #[must_use]
    pub fn with_credentials(self, directory: Option<PathBuf>) -> Self {
        Self { credentials: directory.map(Into::into), ..self }
    }

    /// What it knows of the window up to `now`, in seconds since 1970, and for how long it has known anything. `kind` says of which kind a workload of this name is:
    /// metrics do not.
    ///
    /// # Errors
    /// Why it does not say.
    pub async fn ask(
        &self,
        ask: &Ask,
        now: u64,
        kind: impl Fn(&str, &str) -> String,
    ) -> Result<(Vec<Row>, Duration), String> {
        let asked = timeout(PATIENCE, self.rows(ask, now)).await;
        let (rows, begins) = asked.map_err(|_late| format!("no answer within {PATIENCE:?}"))??;
        let rows = rows.done(begins, |namespace, name| Workload {
            namespace: namespace.to_owned(),
            kind: kind(namespace, name),
            name: name.to_owned(),
        });
        let known = Duration::from_secs(now.saturating_sub(begins));
        Ok((rows, known.min(ask.window)))
    }

    /// What an expression comes to at the moment. Whoever asks bounds the time, and how many ask at once.
    ///
    /// # Errors
    /// Why that is not one number.
    pub async fn number(&self, promql: &str) -> Result<f64, String> {
        let credentials = self.credentials().await?;
        let query = promql::instant(promql);
        read::number(&Box::pin(self.query(&query, &credentials, NUMBER)).await?)
    }

    async fn credentials(&self) -> Result<Credentials, String> {
        match &self.credentials {
            Some(directory) => Credentials::read(directory).await,
            None => Ok(Credentials::default()),
        }
    }

    async fn rows(&self, ask: &Ask, now: u64) -> Result<(read::Rows, u64), String> {
        let _turn = self.server.turns.acquire().await.map_err(text)?;
        let credentials = self.credentials().await?;
        let query = async |query: &Query| Box::pin(self.query(query, &credentials, LARGEST)).await;
        let begins = read::first(&query(&promql::begin(ask, now)).await?)?.unwrap_or(now);
        let mut rows = read::Rows::new(ask, now);
        // One after the other: all at once would be as many large answers.
        for (counts, asked) in promql::queries(ask, now) {
            rows.add(counts, &query(&asked).await?)?;
        }
        Ok((rows, begins))
    }

    async fn query(
        &self,
        query: &Query,
        credentials: &Credentials,
        most: usize,
    ) -> Result<Bytes, String> {
        let Server { authority, path, .. } = &*self.server;
        let path = format!("{path}/api/v1/{}", query.endpoint);
        let path: PathAndQuery = path.parse().map_err(text)?;
        let mut request = Request::post(path)
            .header(header::HOST, authority)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Bytes::from(query.form.clone()))
            .map_err(text)?;
        if let Some(value) = &credentials.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, value.clone());
        }
        let tcp = TcpStream::connect(authority).await.map_err(text)?;
        let answer: Response<Bytes> = match &self.server.tls {
            None => within(tcp, request, most).await.map_err(text)?,
            Some(host) => {
                let trusted = ("ca_file", credentials.authority.as_deref());
                let shaken = Box::pin(outward::shake_hands(tcp, host, trusted)).await;
                within(shaken.map_err(|error| format!("TLS: {error}"))?, request, most)
                    .await
                    .map_err(text)?
            }
        };
        match answer.status() {
            StatusCode::OK => Ok(answer.into_body()),
            status => Err(format!("{status}: {}", read::error(answer.body()))),
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Counted {
    /// All that is asked.
    const ALL: [Self; 7] = [
        Self::Requests,
        Self::Buckets,
        Self::Natives,
        Self::Tries,
        Self::Connections,
        Self::Bytes,
        Self::Denials,
    ];
}

#[cfg(test)]
mod tests;
