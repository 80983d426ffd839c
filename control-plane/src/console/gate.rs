//! Who looks, and what he may see: the port for people, by the cluster's own credentials.
//!
//! Who somebody is he shows as to the API server: by a bearer token, about which that is asked (TokenReview), or by a client
//! certificate of the cluster's own authority, which names user and groups. What he may see the API server's authorizers decide
//! (SubjectAccessReview), for a resource that exists for this alone: `workloads` of `telemetry.tulle.dev`. The decisions of the
//! last ten seconds are remembered.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use parking_lot::Mutex;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
use tulle_runtime::http::{Handler, text};

use super::{Console, Viewer, files};
use crate::{
    ca::subject,
    server::https::Client,
    telemetry::{Scope, api::is_name},
};

/// For so long a decision holds.
const FRESH: Duration = Duration::from_secs(10);
/// Decisions that are remembered.
const MOST: usize = 10_000;
/// Tokens about which the API server is asked at once.
const AT_ONCE: usize = 8;
/// Longest token.
const LONGEST: usize = 16 << 10;
/// Strangers' junk is asked about no faster than this, for each of those at once.
const PENALTY: Duration = Duration::from_millis(250);

/// The group of the resource that rights are given on.
pub const GROUP: &str = "telemetry.tulle.dev";
/// The resource.
pub const RESOURCE: &str = "workloads";

/// Somebody, as the cluster knows him.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct User {
    /// `alice`, `system:serviceaccount:shop:ci`, …
    pub name: String,
    /// If he has one.
    pub uid: String,
    /// What he is a member of.
    pub groups: Vec<String>,
    /// What else his token says.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// See figures: who calls whom, how often, how well.
    Get,
    /// See single requests.
    Tap,
}

impl Verb {
    /// As it stands in a role.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Tap => "tap",
        }
    }
}

/// Why a token proves nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unproven {
    /// It is not authentic.
    Refused(String),
    /// Nobody could say.
    Unavailable(String),
}

/// The cluster, which knows.
#[tonic::async_trait]
pub trait Access: Send + Sync {
    /// Whose token it is.
    async fn who(&self, token: &str) -> Result<User, Unproven>;

    /// Whether he may, in a namespace or in all of them.
    ///
    /// # Errors
    /// Why nobody could say.
    async fn may(&self, user: &User, verb: Verb, namespace: Option<&str>) -> Result<bool, String>;
}

/// What is behind the port.
pub struct Gate {
    console: Console,
    access: Arc<dyn Access>,
    tokens: Recent<Vec<u8>, Result<User, Unproven>>,
    decisions: Recent<Wish, bool>,
    turns: Semaphore,
}

/// Who wants to do what where.
type Wish = (User, Verb, Option<String>);

/// Answers of the last few seconds, and when they came.
struct Recent<K, V>(Mutex<Answers<K, V>>);
type Answers<K, V> = HashMap<K, (V, Instant)>;

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        let all = self.0.lock();
        let (value, at) = all.get(key)?;
        (at.elapsed() < FRESH).then(|| value.clone())
    }

    fn put(&self, key: K, value: V) {
        let mut all = self.0.lock();
        if all.len() >= MOST {
            all.retain(|_, (_, at)| at.elapsed() < FRESH);
        }
        if all.len() < MOST {
            all.insert(key, (value, Instant::now()));
        }
    }
}

impl Gate {
    /// Opens to whom `access` knows.
    pub fn new(console: Console, access: Arc<dyn Access>) -> Self {
        let turns = Semaphore::new(AT_ONCE);
        let (tokens, decisions) = (Recent(Mutex::default()), Recent(Mutex::default()));
        Self { console, access, tokens, decisions, turns }
    }

    async fn answer(&self, request: &Request<Bytes>) -> Result<Response<Bytes>, Response<Bytes>> {
        let user = self.user(request).await?;
        let scope = self.scope(&user, request.uri()).await?;
        let viewer = Viewer { user: Some(user.name), scope };
        Ok(self.console.answer(request.uri(), &viewer).await)
    }

    async fn user(&self, request: &Request<Bytes>) -> Result<User, Response<Bytes>> {
        let shown =
            request.extensions().get::<Client>().and_then(|client| client.certificate.as_ref());
        if let Some(certificate) = shown {
            let (name, mut groups) = subject::read(certificate)
                .ok_or_else(|| unknown("your client certificate names no user (its CN)"))?;
            groups.push("system:authenticated".to_owned());
            return Ok(User { name, groups, ..User::default() });
        }
        let token = bearer(request).ok_or_else(|| unknown("a Kubernetes token is missing"))?;
        if token.len() > LONGEST {
            return Err(unknown("this is no token: it is too long"));
        }
        let key = digest(&SHA256, token.as_bytes()).as_ref().to_vec();
        let known = match self.tokens.get(&key) {
            Some(known) => known,
            None => {
                let asked = self.review(token).await;
                if !matches!(asked, Err(Unproven::Unavailable(_))) {
                    self.tokens.put(key, asked.clone());
                }
                asked
            }
        };
        known.map_err(|why| match why {
            Unproven::Refused(why) => {
                unknown(&format!("the cluster does not know this token: {why}"))
            }
            Unproven::Unavailable(why) => away(&why),
        })
    }

    async fn review(&self, token: &str) -> Result<User, Unproven> {
        let unavailable =
            |error: tokio::sync::AcquireError| Unproven::Unavailable(error.to_string());
        let _turn = self.turns.acquire().await.map_err(unavailable)?;
        let asked = self.access.who(token).await;
        if asked.is_err() {
            sleep(PENALTY).await;
        }
        asked
    }

    /// What a user may see of what he asks for.
    async fn scope(&self, user: &User, uri: &Uri) -> Result<Scope, Response<Bytes>> {
        let verb = if uri.path() == "/telemetry/tap" { Verb::Tap } else { Verb::Get };
        if self.may(user, verb, None).await? {
            return Ok(Scope::All);
        }
        let mut namespaces = BTreeSet::new();
        match namespace(uri) {
            Some(namespace) => {
                if self.may(user, verb, Some(namespace)).await? {
                    namespaces.insert(namespace.to_owned());
                }
            }
            None => {
                let workloads = self.console.query.roster.workloads();
                let all: BTreeSet<String> =
                    workloads.into_keys().map(|workload| workload.namespace).collect();
                for namespace in all {
                    if self.may(user, verb, Some(&namespace)).await? {
                        namespaces.insert(namespace);
                    }
                }
            }
        }
        match namespaces.is_empty() {
            true => Err(forbidden(user, verb, namespace(uri))),
            false => Ok(Scope::Namespaces(namespaces)),
        }
    }

    async fn may(
        &self,
        user: &User,
        verb: Verb,
        namespace: Option<&str>,
    ) -> Result<bool, Response<Bytes>> {
        let key = (user.clone(), verb, namespace.map(str::to_owned));
        if let Some(known) = self.decisions.get(&key) {
            return Ok(known);
        }
        let may = self.access.may(user, verb, namespace).await.map_err(|why| away(&why))?;
        self.decisions.put(key, may);
        Ok(may)
    }
}

impl Handler for Gate {
    async fn handle(&self, request: Request<Bytes>) -> Response<Bytes> {
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        // The page itself says nothing of the mesh; it asks its reader for a token.
        if let Some(file) = files::find(&request) {
            return file;
        }
        let mut answer = self.answer(&request).await.unwrap_or_else(|refusal| refusal);
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}

/// The namespace that is asked about.
fn namespace(uri: &Uri) -> Option<&str> {
    let mut pairs = uri.query().unwrap_or_default().split('&');
    let namespace = pairs.find_map(|pair| pair.strip_prefix("namespace="))?;
    (!namespace.is_empty() && is_name(namespace)).then_some(namespace)
}

fn bearer(request: &Request<Bytes>) -> Option<&str> {
    let said = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = said.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.trim())
}

fn unknown(why: &str) -> Response<Bytes> {
    let told = format!("{why}; `kubectl create token NAME` makes one for a ServiceAccount\n");
    let mut answer = text(StatusCode::UNAUTHORIZED, told);
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

fn forbidden(user: &User, verb: Verb, namespace: Option<&str>) -> Response<Bytes> {
    let (name, verb) = (&user.name, verb.as_str());
    let role = if verb == Verb::Tap.as_str() { "tulle-tap" } else { "tulle-view" };
    let place = match namespace {
        Some(namespace) => format!("in namespace {namespace}"),
        None => "in any namespace".to_owned(),
    };
    let told = format!(
        "{name} may not {verb} {RESOURCE}.{GROUP} {place}: a RoleBinding there to ClusterRole {role} allows it\n"
    );
    text(StatusCode::FORBIDDEN, told)
}

fn away(why: &str) -> Response<Bytes> {
    let told = format!("the API server cannot be asked who may look: {why}\n");
    text(StatusCode::SERVICE_UNAVAILABLE, told)
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
