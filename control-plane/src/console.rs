//! What people look at: the answers behind the terminal's commands and the dashboard, and the dashboard itself.
//!
//! ```text
//!  admin socket ────────────────────────────► answer ──► telemetry::api   stat, edges, routes, chart, tap
//!  HTTPS ──► gate: who is it, what may he see ──┘   └──► mesh, policies, lanes, me, releases and what is wanted of them
//!        └─► files: the dashboard, which anybody may have: there is nothing of the mesh in it
//! ```

pub mod files;
pub mod gate;
mod lanes;
mod mesh;
mod policies;
mod releases;
mod viewer;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Response, StatusCode, Uri};
use tokio::{
    sync::{Mutex, mpsc, watch},
    time::Instant,
};
use tulle_runtime::http::text;

pub use self::{
    gate::Gate,
    lanes::{
        BehindView, EntryView, LaneView, LaneWorkloadView, LanesView, PATH as LANES, PassedView,
        ValueView,
    },
    mesh::{MeshView, ProxyView, Rejected, ReplicaView, State},
    policies::{PoliciesView, PolicyView},
    releases::PATH as RELEASES,
    viewer::Viewer,
};
use crate::{
    admin::Question,
    output::Report,
    replicas::{Replica, Survey, Surveyor},
    steer::Desk,
    telemetry::{self, Query, api::as_json},
};

const NOTHING: &str = "there is /releases, and below /telemetry/ are me, stat, edges, routes, chart, tap, lanes, mesh and policies\n";
/// For so long it is what it was.
const SURVEY: Duration = Duration::from_secs(1);

/// Everything that can be looked at. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Console {
    /// What proxies have reported, at all replicas.
    pub query: Query,
    /// What this replica knows of its proxies.
    pub surveyor: Surveyor,
    /// The world.
    pub world: mpsc::Sender<Question>,
    /// Where people's wishes of releases go.
    pub desk: Desk,
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
            releases::PATH => releases::look(&self.desk, uri, &viewer.scope).await,
            lanes::PATH => Box::pin(lanes::look(self, uri, &viewer.scope)).await,
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

    /// Does what somebody wants who may do it: a `POST` of this address.
    pub async fn wish(&self, uri: &Uri, viewer: &Viewer) -> Response<Bytes> {
        releases::wish(&self.desk, uri, viewer).await
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
        let lacks = "a replica does not say how its proxies stand";
        let ask = |replica: Replica, name| async move { replica.survey(&name).await };
        let (heard, unheard) = replica.ask_others(lacks, ask).await;
        all.heard.extend(heard.into_iter().map(|(name, survey)| (name.to_string(), survey)));
        all.unheard = unheard.into_iter().map(|(name, _why)| name).collect();
        all
    }
}

#[cfg(test)]
mod tests;
