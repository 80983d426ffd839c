//! Who looks, and what he may see: the port for people, by the cluster's own credentials.
//!
//! Who somebody is he shows as to the API server: by a bearer token, about which that is asked (TokenReview), or by a client
//! certificate of the cluster's own authority, which names user and groups. What he may see the API server's authorizers decide
//! (SubjectAccessReview), for a resource that exists for this alone, `workloads` of `telemetry.tulle.dev`, and for `releases` of
//! `tulle.dev` with a verb that does. The decisions of the
//! last ten seconds are remembered, and those who ask the same at the same time wait for one answer.

mod recent;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::sleep,
};
use tulle_runtime::{
    http::{Handler, text},
    room::Room,
};

use self::recent::{Recent, Together};
use super::{Console, Viewer, files, releases::PATH as RELEASES};
use crate::{
    ca::subject::{self, ClientAuthority, Unvouched},
    server::https::Client,
    telemetry::{Scope, api::is_name},
};

/// Questions to the API server at once; and of one user who asks what he may see of all namespaces.
const AT_ONCE: usize = 16;
const AT_ONCE_OF_A_USER: usize = 4;
/// Unknown tokens at once from one address; and from our own, which is whoever comes by way of the API server.
const TOKENS: usize = 2;
const TOKENS_FORWARDED: usize = 64;
/// Longest token.
const LONGEST: usize = 16 << 10;
/// So long the token of before counts as one of those at once, if it was junk.
const PENALTY: Duration = Duration::from_millis(250);

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
    /// Say of releases that they go on, or go back.
    Steer,
}

impl Verb {
    /// As it stands in a role.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Tap => "tap",
            Self::Steer => "steer",
        }
    }

    /// Group and resource of which it stands there.
    pub fn resource(self) -> (&'static str, &'static str) {
        match self {
            Self::Get | Self::Tap => ("telemetry.tulle.dev", "workloads"),
            Self::Steer => ("tulle.dev", "releases"),
        }
    }

    /// The role that allows it.
    fn role(self) -> &'static str {
        match self {
            Self::Get => "tulle-view",
            Self::Tap => "tulle-tap",
            Self::Steer => "tulle-steer",
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
    /// Who vouches for client certificates.
    authority: watch::Receiver<ClientAuthority>,
    tokens: Recent<Vec<u8>, Result<User, Unproven>>,
    decisions: Recent<Wish, bool>,
    /// Those that the API server is asked about now.
    asked: Together<Wish, Result<bool, String>>,
    /// What somebody may see if he does not say where.
    scopes: Recent<(User, Verb), BTreeSet<String>>,
    turns: Semaphore,
    /// Where unknown tokens come from: strangers, and by way of the API server.
    strangers: Room,
    forwarded: Room,
}

/// Who wants to do what where.
type Wish = (User, Verb, Option<String>);

impl Gate {
    /// Opens to whom `access` knows, and to whoever shows a certificate of the cluster's `authority`.
    pub fn new(
        console: Console,
        access: Arc<dyn Access>,
        authority: watch::Receiver<ClientAuthority>,
    ) -> Self {
        Self {
            console,
            access,
            authority,
            tokens: Recent::default(),
            decisions: Recent::default(),
            asked: Together::default(),
            scopes: Recent::default(),
            turns: Semaphore::new(AT_ONCE),
            strangers: Room::new(1024, TOKENS),
            forwarded: Room::new(TOKENS_FORWARDED, TOKENS_FORWARDED),
        }
    }

    async fn answer(&self, request: &Request<Bytes>) -> Result<Response<Bytes>, Response<Bytes>> {
        if request.method() == Method::POST && is_from_elsewhere(request) {
            return Err(text(StatusCode::FORBIDDEN, "another site asked for this\n"));
        }
        let user = self.user(request).await?;
        let scope = self.scope(&user, request).await?;
        let viewer = Viewer { user: Some(user.name), scope };
        Ok(match *request.method() {
            Method::POST => self.console.wish(request.uri(), &viewer).await,
            _ => self.console.answer(request.uri(), &viewer).await,
        })
    }

    async fn user(&self, request: &Request<Bytes>) -> Result<User, Response<Bytes>> {
        let client = request.extensions().get::<Client>();
        let useless = match self.by_certificate(client) {
            Ok(user) => return Ok(user),
            Err(why) => why,
        };
        let missing = || unknown(&format!("{useless}a Kubernetes token is missing"));
        let token = bearer(request).ok_or_else(missing)?;
        if token.len() > LONGEST {
            return Err(unknown("this is no token: it is too long"));
        }
        let key = digest(&SHA256, token.as_bytes()).as_ref().to_vec();
        let known = match self.tokens.get(&key) {
            Some(known) => known,
            None => {
                let asked = self.review(token, client.map(|client| client.address)).await?;
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

    /// Whom the certificate names that was shown, if the cluster's authority vouches for it: the handshake has not asked.
    ///
    /// # Errors
    /// Why it names nobody, as the first part of a sentence; nothing if none was shown.
    fn by_certificate(&self, client: Option<&Client>) -> Result<User, String> {
        let shown = client.map(|client| &*client.shown).unwrap_or_default();
        let authority = self.authority.borrow().clone();
        let vouched = authority.vouch(shown).map_err(|why| match why {
            Unvouched::Nothing => String::new(),
            why => format!("the cluster does not know your client certificate ({why}), and "),
        })?;
        let (name, mut groups) = subject::read(&vouched)
            .ok_or_else(|| "your client certificate names no user (its CN), and ".to_owned())?;
        groups.push("system:authenticated".to_owned());
        Ok(User { name, groups, ..User::default() })
    }

    /// Asks about a token that is not known. One address has few at once, so that a stranger's junk keeps nobody waiting.
    async fn review(
        &self,
        token: &str,
        from: Option<IpAddr>,
    ) -> Result<Result<User, Unproven>, Response<Bytes>> {
        let forwarded = from.is_none_or(|address| address.to_canonical().is_loopback());
        let room = if forwarded { &self.forwarded } else { &self.strangers };
        let place = room.enter(from).ok_or_else(|| {
            let told = "too many tokens at once from this address; ask again in a second\n";
            text(StatusCode::TOO_MANY_REQUESTS, told)
        })?;
        let asked = {
            let _turn = self.turn().await?;
            self.access.who(token).await
        };
        if asked.is_err() {
            sleep(PENALTY).await;
        }
        drop(place);
        Ok(asked)
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, Response<Bytes>> {
        self.turns.acquire().await.map_err(|closed| away(&closed.to_string()))
    }

    /// What a user may see of what he asks for.
    async fn scope(&self, user: &User, request: &Request<Bytes>) -> Result<Scope, Response<Bytes>> {
        let uri = request.uri();
        let verb = match uri.path() {
            _ if request.method() == Method::POST => Verb::Steer,
            "/telemetry/tap" => Verb::Tap,
            _ => Verb::Get,
        };
        if self.may(user, verb, None).await? {
            return Ok(Scope::All);
        }
        let asked = namespace(uri);
        let namespaces = match asked {
            Some(namespace) if self.may(user, verb, Some(namespace)).await? => {
                BTreeSet::from([namespace.to_owned()])
            }
            Some(_forbidden) => BTreeSet::new(),
            None => self.namespaces(user, verb).await?,
        };
        // A page asks first of all what its reader may see: that may be nothing.
        match namespaces.is_empty() && uri.path() != "/telemetry/me" {
            true => Err(forbidden(user, verb, asked)),
            false => Ok(Scope::Namespaces(namespaces)),
        }
    }

    /// Of the namespaces that have pods those that he may see.
    async fn namespaces(
        &self,
        user: &User,
        verb: Verb,
    ) -> Result<BTreeSet<String>, Response<Bytes>> {
        let key = (user.clone(), verb);
        if let Some(known) = self.scopes.get(&key) {
            return Ok(known);
        }
        let all = self.all_namespaces().into_iter().map(async |namespace| {
            let may = self.may(user, verb, Some(&namespace)).await?;
            Ok(may.then_some(namespace))
        });
        let seen: Vec<Option<String>> =
            stream::iter(all).buffered(AT_ONCE_OF_A_USER).try_collect().await?;
        let seen: BTreeSet<_> = seen.into_iter().flatten().collect();
        self.scopes.put(key, seen.clone());
        Ok(seen)
    }

    fn all_namespaces(&self) -> BTreeSet<String> {
        let workloads = self.console.query.roster.workloads();
        workloads.into_keys().map(|workload| workload.namespace).collect()
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
        let asked = async {
            let _turn = self.turns.acquire().await.map_err(|closed| closed.to_string())?;
            self.access.may(user, verb, namespace).await
        };
        let may = self.asked.ask(&key, asked).await.map_err(|why| away(&why))?;
        // Names that somebody makes up shall not take the place of others.
        if namespace.is_none_or(|namespace| self.console.query.roster.has(namespace)) {
            self.decisions.put(key, may);
        }
        Ok(may)
    }
}

impl Handler for Gate {
    async fn handle(&self, request: Request<Bytes>) -> Response<Bytes> {
        let wishes = request.method() == Method::POST && request.uri().path().starts_with(RELEASES);
        if request.method() != Method::GET && !wishes {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET, and POST of releases\n");
        }
        // The page itself says nothing of the mesh; it asks its reader for a token.
        if let Some(file) = files::find(&request) {
            return file;
        }
        let mut answer = Box::pin(self.answer(&request)).await.unwrap_or_else(|refusal| refusal);
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

/// Whether a browser asks for another site's page: it would show its user's certificate for that.
fn is_from_elsewhere(request: &Request<Bytes>) -> bool {
    let said = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let Some(origin) = said(header::ORIGIN) else { return false };
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_none() || host != said(header::HOST)
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
    let ((group, resource), role) = (verb.resource(), verb.role());
    let (name, verb) = (&user.name, verb.as_str());
    let place = match namespace {
        Some(namespace) => format!("in namespace {namespace}"),
        None => "in any namespace".to_owned(),
    };
    let told = format!(
        "{name} may not {verb} {resource}.{group} {place}: a RoleBinding there to ClusterRole {role} allows it\n"
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
pub(crate) mod tests;
