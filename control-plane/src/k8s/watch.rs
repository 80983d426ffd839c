//! One generic watch: everything of a kind, then what changes.
//!
//! ```text
//! discover ──► list (streamed where the server can) ──► All ──► watch ──► Set, Gone … ──┐
//!    ^  └─ not served: All, empty                                                        │
//!    └──────────────── 410 Gone, or the kind is served no more ◄─────────────────────────┘
//! ```
//!
//! A kind that was there and is not among those that the server names is believed to be gone only after a while: a server
//! that starts may not know yet what it serves, and the mesh would lose its policies to that.
//!
//! A list is handed on only when it is whole: a set takes the place of the set before it, at once. A watch that breaks goes
//! on where it was. See <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>.

use std::time::Duration;

use futures_util::StreamExt;
use kube::{
    Client,
    api::{ListParams, WatchEvent, WatchParams},
    core::ApiResource,
};
use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tulle_runtime::ready::{Blocker, Readiness};

use super::{
    Pause,
    kinds::Watched,
    raw::{Events, Objects},
};

/// How often a kind that is not served is asked for.
const ABSENT: Duration = Duration::from_secs(5);
/// For so long a kind that was served is not believed to be gone.
const DOUBT: Duration = Duration::from_secs(60);
/// How often it is asked for meanwhile.
const DOUBTFUL: Duration = Duration::from_secs(2);
/// How long an answer may take to begin, and each page and each object of a list to come.
const ANSWER: Duration = Duration::from_secs(30);
/// A server says something about each minute, if only a bookmark: after longer silence the watch is asked for anew.
pub(super) const SILENCE: Duration = Duration::from_secs(100);
/// Objects of a page, where lists are not streamed.
const PAGE: u32 = 500;
/// How long the server lets a watch live, seconds: from here, and up to [`SPREAD`] more.
const LIFE: u32 = 240;
const SPREAD: u32 = 50;
/// Not being able to read for so long shows in readiness.
const BLIND: Duration = Duration::from_secs(30);
/// The version of a list that may be as old as the server likes; without any it is the newest.
const WHATEVER: &str = "0";
/// By this annotation of a bookmark the server says that it has sent all there was.
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// What happened to the objects of one kind.
#[derive(Debug)]
pub(super) enum Change {
    /// These are all.
    All(Watched, Vec<Value>),
    /// One is there, like this.
    Set(Box<Value>),
    /// One is gone.
    Gone(Box<Value>),
}

/// Follows all objects of a kind, until nobody listens.
pub(super) async fn follow(
    client: Client,
    watched: Watched,
    changes: mpsc::Sender<Change>,
    readiness: Readiness,
) {
    let mut follower = Follower {
        client,
        watched,
        changes,
        streams: true,
        from: WHATEVER.to_owned(),
        pause: Pause::default(),
        served: Served::default(),
        trouble: Trouble { readiness, since: None, blocker: None },
    };
    while !follower.changes.is_closed() {
        match Box::pin(follower.run()).await {
            Ok(()) => {}
            Err(End::Closed) => return,
            Err(End::Failed(error)) => follower.trouble.told(watched, &error),
        }
        follower.pause.wait().await;
    }
}

struct Follower {
    client: Client,
    watched: Watched,
    changes: mpsc::Sender<Change>,
    /// Whether the server streams lists, as far as we know.
    streams: bool,
    /// The version that the next list must be of, or newer: what was seen, so that a server that is behind others does
    /// not take the mesh back.
    from: String,
    pause: Pause,
    served: Served,
    trouble: Trouble,
}

/// Whether the server serves a kind.
#[derive(Debug, Default)]
struct Served {
    /// It did.
    once: bool,
    /// Since when it does not.
    absent: Option<Instant>,
}

impl Served {
    fn there(&mut self) {
        *self = Self { once: true, absent: None };
    }

    /// The server names no such kind: whether that is to be believed.
    fn gone(&mut self, now: Instant) -> bool {
        let since = *self.absent.get_or_insert(now);
        !self.once || now - since >= DOUBT
    }
}

/// Why a round ended.
enum End {
    Closed,
    Failed(kube::Error),
}

impl From<kube::Error> for End {
    fn from(error: kube::Error) -> Self {
        Self::Failed(error)
    }
}

impl Follower {
    /// From discovery to the end of the watch's history.
    async fn run(&mut self) -> Result<(), End> {
        let Some(resource) = in_time(self.watched.discover(&self.client)).await? else {
            return self.absent().await;
        };
        self.served.there();
        let whole = !self.watched.is_metadata_only();
        let api = Objects::new(self.client.clone(), &resource, whole);
        let (mut version, mut events) = match self.streams {
            true => Box::pin(self.streamed(&api, &resource)).await?,
            false => (self.listed(&api, &resource).await?, None),
        };
        while !self.changes.is_closed() {
            let stream = match events.take() {
                Some(stream) => Ok(stream),
                None => in_time(api.watch(&params(false), &version)).await,
            };
            let ended = match stream {
                Ok(stream) => self.watch(stream, &mut version, &resource).await,
                Err(error) => Err(error.into()),
            };
            match ended {
                Ok(()) => {}
                Err(End::Failed(error)) if is_gone(&error) => {
                    self.from = version;
                    return Ok(());
                }
                Err(End::Failed(error)) => self.trouble.told(self.watched, &error),
                Err(End::Closed) => return Err(End::Closed),
            }
            self.pause.wait().await;
        }
        Ok(())
    }

    /// The server has no such kind.
    async fn absent(&mut self) -> Result<(), End> {
        if self.served.gone(Instant::now()) {
            self.seen();
            self.send(Change::All(self.watched, Vec::new())).await?;
            sleep(ABSENT).await;
        } else {
            self.trouble.told(self.watched, &broken("the kind is not served any more, it says"));
            sleep(DOUBTFUL).await;
        }
        Ok(())
    }

    /// The list as the beginning of a watch.
    async fn streamed(
        &mut self,
        api: &Objects,
        resource: &ApiResource,
    ) -> Result<(String, Option<Events>), End> {
        let mut stream = match in_time(api.watch(&params(true), &self.from)).await {
            Ok(stream) => stream,
            Err(error) => return Err(self.unlisted(error)),
        };
        let mut all = Vec::new();
        loop {
            let next = timeout(ANSWER, stream.next()).await;
            match next.map_err(|_elapsed| broken("the list does not come to its end"))? {
                Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                    all.push(object.of(resource));
                }
                Some(Ok(WatchEvent::Bookmark(bookmark))) => {
                    if bookmark.metadata.annotations.contains_key(INITIAL_END) {
                        self.seen();
                        self.send(Change::All(self.watched, all)).await?;
                        return Ok((bookmark.metadata.resource_version, Some(stream)));
                    }
                }
                Some(Ok(WatchEvent::Deleted(_))) => {}
                Some(Ok(WatchEvent::Error(status))) => {
                    return Err(self.unlisted(kube::Error::Api(status)));
                }
                // A server that does not know the parameter, or has it turned off. Its answer comes as what the watch says.
                Some(Err(kube::Error::Api(status))) if matches!(status.code, 400 | 422) => {
                    self.streams = false;
                    return Ok((self.listed(api, resource).await?, None));
                }
                Some(Err(error)) => return Err(self.unlisted(error)),
                None => return Err(broken("the list ended before all was said").into()),
            }
        }
    }

    /// A version that the server does not have (any more, or yet: it may have been set back) is not waited for again.
    fn unlisted(&mut self, error: kube::Error) -> End {
        if matches!(&error, kube::Error::Api(status) if matches!(status.code, 410 | 504)) {
            self.from.clear();
        }
        error.into()
    }

    /// The list by pages; its version.
    async fn listed(&self, api: &Objects, resource: &ApiResource) -> Result<String, End> {
        let mut params = ListParams::default().limit(PAGE);
        let mut all = Vec::new();
        loop {
            let page = in_time(api.list(&params)).await?;
            all.extend(page.items.into_iter().map(|object| object.of(resource)));
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                self.send(Change::All(self.watched, all)).await?;
                return Ok(page.metadata.resource_version.unwrap_or_default());
            }
        }
    }

    /// Hands on what a watch says until it ends; the next one goes on from `version`.
    async fn watch(
        &mut self,
        mut stream: Events,
        version: &mut String,
        resource: &ApiResource,
    ) -> Result<(), End> {
        loop {
            let Ok(next) = timeout(SILENCE, stream.next()).await else {
                return Ok(());
            };
            let (object, gone) = match next {
                Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                    (object, false)
                }
                Some(Ok(WatchEvent::Deleted(object))) => (object, true),
                Some(Ok(WatchEvent::Bookmark(bookmark))) => {
                    self.seen();
                    *version = bookmark.metadata.resource_version;
                    continue;
                }
                Some(Ok(WatchEvent::Error(status))) => return Err(kube::Error::Api(status).into()),
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(()),
            };
            self.seen();
            object.resource_version().clone_into(version);
            let value = Box::new(object.of(resource));
            self.send(match gone {
                true => Change::Gone(value),
                false => Change::Set(value),
            })
            .await?;
        }
    }

    async fn send(&self, change: Change) -> Result<(), End> {
        self.changes.send(change).await.map_err(|_nobody| End::Closed)
    }

    /// The server answers.
    fn seen(&mut self) {
        self.pause.reset();
        self.trouble.over(self.watched);
    }
}

/// Since when the server does not answer.
struct Trouble {
    readiness: Readiness,
    since: Option<Instant>,
    blocker: Option<Blocker>,
}

impl Trouble {
    fn told(&mut self, watched: Watched, error: &kube::Error) {
        let kind = watched.kind.as_str();
        let now = Instant::now();
        let since = *self.since.get_or_insert_with(|| {
            tracing::warn!(kind, %error, "cannot be read from the API server; trying again");
            now
        });
        if now - since >= BLIND && self.blocker.is_none() {
            tracing::error!(kind, %error, "not read for {BLIND:?}");
            let what = format!("reading {kind} objects from the API server: {error}");
            self.blocker = Some(self.readiness.block(what));
        }
    }

    fn over(&mut self, watched: Watched) {
        self.blocker = None;
        if let Some(since) = self.since.take() {
            let seconds = since.elapsed().as_secs_f32();
            tracing::info!(kind = watched.kind.as_str(), seconds, "read from the API server again");
        }
    }
}

fn params(initial: bool) -> WatchParams {
    let mut params = WatchParams::default().timeout(LIFE + rand::random_range(0..SPREAD));
    if initial {
        params = params.initial_events();
    }
    params
}

/// A server whose machine is gone does not say so: what it does not answer fails.
pub(super) async fn in_time<T>(answer: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    let late = |_elapsed| broken(&format!("no answer within {ANSWER:?}"));
    timeout(ANSWER, answer).await.map_err(late)?
}

fn broken(what: &str) -> kube::Error {
    kube::Error::ReadEvents(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, what.to_owned()))
}

fn is_gone(error: &kube::Error) -> bool {
    // The history is over, or the kind is served no more.
    matches!(error, kube::Error::Api(status) if matches!(status.code, 410 | 404))
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::{k8s::kinds::WATCHED, world::objects::Kind};

    #[test]
    fn a_kind_that_was_there_is_gone_only_after_a_while() {
        let start = Instant::now();
        let mut served = Served::default();
        assert!(served.gone(start), "it never was");
        served.there();
        assert!(!served.gone(start));
        assert!(!served.gone(start + DOUBT / 2));
        served.there();
        assert!(!served.gone(start + DOUBT), "it was there in between");
        assert!(served.gone(start + DOUBT * 2));
        // What was believed stays so.
        assert!(served.gone(start + DOUBT * 3));
    }

    /// All of a list, of this version, and the end of what there is to say.
    fn list(version: &str) -> String {
        let metadata = json!({"resourceVersion": version, "annotations": {INITIAL_END: "true"}});
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata});
        json!({"type": "BOOKMARK", "object": object}).to_string()
    }

    fn refusal(code: u16) -> String {
        let object = json!({"kind": "Status", "code": code, "status": "Failure", "reason": "", "message": ""});
        json!({"type": "ERROR", "object": object}).to_string()
    }

    /// What a follower asks, what it says, and itself.
    type Following = (mpsc::Receiver<Request<Body>>, mpsc::Receiver<Change>, JoinHandle<()>);

    /// What a follower of the kind asks, and what it is answered.
    fn following(kind: Kind, answers: Vec<(u16, String)>) -> Following {
        let (asked, questions) = mpsc::channel(100);
        let mut answers = answers.into_iter();
        let service = tower::service_fn(move |request: Request<Body>| {
            asked.try_send(request).expect("the test listens");
            let answer = answers.next();
            async move {
                match answer {
                    Some((code, text)) => {
                        let body = Body::from(text.into_bytes());
                        Ok::<_, http::Error>(Response::builder().status(code).body(body)?)
                    }
                    None => std::future::pending().await,
                }
            }
        });
        let (changes, told) = mpsc::channel(100);
        let watched = WATCHED.into_iter().find(|watched| watched.kind == kind).expect("it is");
        let client = Client::new(service, "default");
        let following = tokio::spawn(follow(client, watched, changes, Readiness::new()));
        (questions, told, following)
    }

    /// No real server can be made to lag here: this one is none.
    #[tokio::test(start_paused = true)]
    async fn a_list_is_never_older_than_what_was_seen_unless_that_is_nowhere() {
        let script = [
            ("0", list("7")),
            ("7", refusal(410)),
            ("7", refusal(504)),
            ("", list("3")),
            ("3", refusal(410)),
            ("3", list("4")),
        ];
        let expected: Vec<_> = script.iter().map(|(version, _)| (*version).to_owned()).collect();
        let answers = script.map(|(_, answer)| (200, answer)).into();
        let (mut questions, told, following) = following(Kind::Pod, answers);
        let mut versions = Vec::new();
        while versions.len() < expected.len() {
            let uri = questions.recv().await.expect("it goes on").uri().to_string();
            let version = uri.split(['?', '&']).find_map(|p| p.strip_prefix("resourceVersion="));
            versions.push(version.unwrap_or("none").to_owned());
        }
        assert_eq!(versions, expected);
        following.abort();
        drop(told);
    }

    /// Streamed and, from a server that does not stream, by pages.
    #[tokio::test(start_paused = true)]
    async fn of_replica_sets_only_the_metadata_is_asked_for() {
        let set = |kind: &str| {
            json!({
                "apiVersion": "meta.k8s.io/v1", "kind": kind,
                "metadata": {"name": "web-7d9c", "namespace": "shop", "resourceVersion": "7"},
            })
        };
        let event = json!({"type": "ADDED", "object": set("PartialObjectMetadata")});
        let streamed = format!("{event}\n{}", list("7"));
        let mut page = set("PartialObjectMetadataList");
        let failed = json!({"kind": "Status", "code": 400, "status": "Failure"}).to_string();
        page["items"] = json!([set("PartialObjectMetadata")]);
        let plain = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        let listed = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        for (answers, accepted) in [
            (vec![(200, streamed)], vec![plain, plain]),
            (vec![(400, failed), (200, page.to_string())], vec![plain, listed, plain]),
        ] {
            let (mut questions, mut told, following) = following(Kind::ReplicaSet, answers);
            for accept in accepted {
                let question = questions.recv().await.expect("it goes on");
                let path = question.uri().path();
                assert_eq!(
                    (path, &question.headers()["accept"]),
                    ("/apis/apps/v1/replicasets", &accept.parse().unwrap())
                );
            }
            let Some(Change::All(_, all)) = told.recv().await else { panic!("no list") };
            let found = (&all[0]["apiVersion"], &all[0]["kind"], &all[0]["metadata"]["name"]);
            assert_eq!(found, (&json!("apps/v1"), &json!("ReplicaSet"), &json!("web-7d9c")));
            following.abort();
        }
        // Of others all of it.
        let (mut questions, told, following) = following(Kind::Pod, Vec::new());
        let question = questions.recv().await.expect("it asks");
        assert!(question.headers().get("accept").is_none_or(|accept| accept == "application/json"));
        following.abort();
        drop(told);
    }
}
