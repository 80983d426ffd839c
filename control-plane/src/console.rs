//! What people look at: the answers behind the terminal's commands and the dashboard, and the dashboard itself.
//!
//! ```text
//!  admin socket ────────────────────────────► answer ──► telemetry::api   stat, edges, routes, chart, tap
//!  HTTPS ──► gate: who is it, what may he see ──┘   └──► mesh, policies, me
//!        └─► files: the dashboard, which anybody may have: there is nothing of the mesh in it
//! ```

pub mod files;
pub mod gate;
mod mesh;
mod policies;
mod viewer;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Response, StatusCode, Uri};
use serde::Serialize;
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, timeout},
};
use tulle_runtime::http::{answer, text};

pub use self::{
    gate::Gate,
    mesh::{MeshView, ProxyView, Rejected, ReplicaView, State},
    policies::{PoliciesView, PolicyView},
    viewer::Viewer,
};
use crate::{
    output::Report,
    replicas::{Survey, Surveyor},
    telemetry::{self, Query},
};

const NOTHING: &str =
    "below /telemetry/ there are me, stat, edges, routes, chart, tap, mesh and policies\n";
/// How long another replica may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Replicas that are asked at once.
const AT_ONCE: usize = 16;
/// For so long it is what it was.
const SURVEY: Duration = Duration::from_secs(1);

/// Everything that can be looked at. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Console {
    /// What proxies have reported, at all replicas.
    pub query: Query,
    /// What this replica knows of its proxies.
    pub surveyor: Surveyor,
    /// What the world makes of each object.
    pub report: watch::Receiver<Report>,
    /// What all replicas said last, for those who look at the same time.
    pub surveyed: Surveyed,
}

/// What was found out within the last second. Clones share.
#[derive(Debug, Clone, Default)]
pub struct Surveyed(Arc<Mutex<Option<Last>>>);

/// When, and what.
type Last = (Instant, Arc<Surveys>);

impl Console {
    /// Answers a `GET` of this address.
    pub async fn answer(&self, uri: &Uri, viewer: &Viewer) -> Response<Bytes> {
        match uri.path() {
            "/telemetry/me" => as_json(&viewer.me()),
            "/telemetry/mesh" => {
                let surveys = self.surveys().await;
                as_json(&mesh::view(&surveys, &viewer.scope))
            }
            "/telemetry/policies" => {
                let surveys = self.surveys().await;
                let report = self.report.borrow().clone();
                as_json(&policies::view(&report, &surveys, &viewer.scope))
            }
            _ => match Box::pin(telemetry::api::respond(&self.query, uri, &viewer.scope)).await {
                Some(answer) => answer,
                None => text(StatusCode::NOT_FOUND, NOTHING),
            },
        }
    }
}

/// What all replicas know of their proxies.
#[derive(Debug, Default)]
pub struct Surveys {
    /// This replica's first.
    heard: Vec<(String, Survey)>,
    /// Those that did not answer.
    unheard: Vec<String>,
}

impl Console {
    async fn surveys(&self) -> Arc<Surveys> {
        let mut last = self.surveyed.0.lock().await;
        if let Some((at, known)) = &*last
            && at.elapsed() < SURVEY
        {
            return Arc::clone(known);
        }
        let all = Arc::new(self.survey().await);
        *last = Some((Instant::now(), Arc::clone(&all)));
        all
    }

    async fn survey(&self) -> Surveys {
        let own = self.query.replica.as_ref().map(|replica| replica.pod.to_string());
        let own = own.unwrap_or_else(|| "tulle-control-plane".to_owned());
        let mut all = Surveys { heard: vec![(own, self.surveyor.survey())], unheard: Vec::new() };
        let Some(replica) = &self.query.replica else { return all };
        let siblings = self.query.roster.siblings(&replica.pod).into_iter();
        let answers = stream::iter(siblings.map(|(name, _ready)| name)).map(|name| async {
            let answer = timeout(PATIENCE, replica.survey(&name)).await;
            (name, answer.unwrap_or_else(|_late| Err(format!("no answer within {PATIENCE:?}"))))
        });
        let mut answers: Vec<_> = answers.buffer_unordered(AT_ONCE).collect().await;
        answers.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (name, answer) in answers {
            match answer {
                Ok(survey) => all.heard.push((name.to_string(), survey)),
                Err(reason) => {
                    tracing::warn!(replica = %name, reason, "a replica does not say how its proxies stand");
                    all.unheard.push(name.to_string());
                }
            }
        }
        all
    }
}

fn as_json(value: &impl Serialize) -> Response<Bytes> {
    match serde_json::to_vec(value) {
        Ok(json) => answer(StatusCode::OK, "application/json", json),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

#[cfg(test)]
mod tests;
