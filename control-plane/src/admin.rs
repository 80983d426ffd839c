//! What the control plane tells about itself.
//!
//! The status port is open to everybody and says nothing about the mesh: `/ready` and `/metrics`. What
//! reveals is on a Unix socket that only this user can open.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tulle_runtime::{
    http::{answer, text},
    metrics::Registry,
    ready::Readiness,
};
use tulle_xds::cache::{Cache, View};

use crate::{
    console::{Console, RELEASES, Viewer, files},
    status::Contributions,
    world::World,
};

/// What somebody wants to know of the world; only the task that owns it can look.
pub type Question = Box<dyn FnOnce(&World) + Send>;

/// Asks the world; `None` if whoever owns it has ended.
pub async fn ask<T: Send + 'static>(
    world: &mpsc::Sender<Question>,
    look: impl FnOnce(&World) -> T + Send + 'static,
) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    // Whoever asked may have gone.
    let question = move |world: &World| drop(reply.send(look(world)));
    world.send(Box::new(question)).await.ok()?;
    answer.await.ok()
}

/// What the servers answer from. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admin {
    /// What `/ready` says.
    pub readiness: Readiness,
    /// What `/metrics` says.
    pub registry: Registry,
    /// What `/debug/world` asks.
    pub world: mpsc::Sender<Question>,
    /// What `/debug/cache` shows.
    pub cache: Cache,
    /// Which objects are behind it.
    pub contributions: Contributions,
    /// What `/telemetry/` shows, and `/debug/{streams,status}`.
    pub console: Console,
}

impl Admin {
    /// Answers on the status port. Read-only.
    pub fn status(&self, request: &Request<Bytes>) -> Response<Bytes> {
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match request.uri().path() {
            "/ready" if self.readiness.is_ready() => text(StatusCode::OK, "ready\n"),
            "/ready" => {
                let pending = self.readiness.pending().join(", ");
                text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready, pending: {pending}\n"))
            }
            "/metrics" => self.registry.scrape(request),
            _ => text(StatusCode::NOT_FOUND, "there are /ready and /metrics\n"),
        }
    }

    /// Answers on the Unix socket.
    pub async fn control(self: Arc<Self>, request: Request<Bytes>) -> Response<Bytes> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/debug/world") => self.world().await,
            (&Method::GET, "/debug/cache") => as_json(&self.cache()),
            (&Method::GET, "/debug/streams") => as_json(&self.console.surveyor.ads.sessions()),
            (&Method::GET, "/debug/status") => {
                let statuses = self.console.report.borrow().statuses.clone();
                as_json(&statuses.iter().map(|status| &**status).collect::<Vec<_>>())
            }
            (&Method::GET, path) if path.starts_with("/telemetry/") || path == RELEASES => {
                self.console.answer(request.uri(), &Viewer::local()).await
            }
            (&Method::POST, path) if path.starts_with(RELEASES) => {
                self.console.wish(request.uri(), &Viewer::local()).await
            }
            (_, "/ready" | "/metrics") => self.status(&request),
            (&Method::GET, path) if path.starts_with("/dashboard") => {
                let found = files::find(&request);
                found.unwrap_or_else(|| text(StatusCode::NOT_FOUND, "there is /dashboard/\n"))
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "there is GET /ready, /metrics, /debug/world, /debug/cache, /debug/streams, \
                 /debug/status, /telemetry/…, /releases and /dashboard/, and POST /releases/…\n",
            ),
        }
    }

    async fn world(&self) -> Response<Bytes> {
        match ask(&self.world, World::dump).await {
            Some(world) => text(StatusCode::OK, world),
            None => text(StatusCode::SERVICE_UNAVAILABLE, "the publisher has ended\n"),
        }
    }

    /// What is published, for whom, and which objects it comes from.
    fn cache(&self) -> Vec<Value> {
        let keys = self.cache.wanted().into_iter();
        let entry = |key: tulle_xds::cache::Key| {
            let views = self.contributions.views(&key);
            let namespaces = views.keys().flatten().cloned().chain(["".into()]);
            let versions = namespaces.map(|namespace| {
                let view = View::new(key.dialect, Arc::clone(&namespace));
                let version = self.cache.get(&key, &view).version().map(ToString::to_string);
                let objects = views.get(&Some(Arc::clone(&namespace))).or_else(|| views.get(&None));
                let objects = objects.into_iter().flat_map(|found| &found.all);
                let objects: Vec<_> = objects.map(ToString::to_string).collect();
                json!({ "callers": &*namespace, "version": version, "objects": objects })
            });
            let versions: Vec<_> = versions.collect();
            json!({ "key": key, "views": versions })
        };
        keys.map(entry).collect()
    }
}

fn as_json(value: &impl Serialize) -> Response<Bytes> {
    match serde_json::to_vec_pretty(value) {
        Ok(text) => answer(StatusCode::OK, "application/json", text),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
