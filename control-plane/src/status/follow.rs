//! When statuses are worked out.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tulle_xds::{
    cache::{Cache, Dialect},
    model::Kind,
    server::{AdsService, SessionStatus},
};

use super::{
    Contributions, Force, forces,
    json::{Previous, document},
};
use crate::{
    metrics::{DialectLabel, KindLabel, Metrics},
    output::Report,
    world::objects::ObjectRef,
};

/// A change that has not come through by then is told as it stands.
pub(super) const STALLED: Duration = Duration::from_secs(5);
/// How long the first answers to a change are waited for; twice as long each time, up to
/// [`MOST`].
const FIRST: Duration = Duration::from_millis(50);
const MOST: Duration = Duration::from_secs(1);
/// How often proxies that come and go are counted.
const REFRESH: Duration = Duration::from_secs(5);

/// What statuses are worked out from.
#[derive(Debug)]
pub struct Sources {
    /// Which objects are behind what is served.
    pub contributions: Contributions,
    /// What is served.
    pub cache: Cache,
    /// What proxies say of it.
    pub ads: AdsService,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
}

/// Adds statuses to the reports, for as long as there are any.
pub async fn follow(
    mut reports: watch::Receiver<Report>,
    statuses: watch::Sender<Report>,
    sources: Sources,
) {
    let mut follower = Follower {
        sources,
        known: BTreeMap::new(),
        change: None,
        next: Instant::now() + REFRESH,
        seen: 0,
    };
    let mut previous = Previous::default();
    loop {
        tokio::select! {
            changed = reports.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = follower.sources.contributions.changed() => {
                follower.changed(Instant::now());
                continue;
            }
            () = sleep_until(follower.next) => follower.look(Instant::now()),
        }
        tell(&mut reports, &statuses, &follower.known, &mut previous);
    }
}

struct Follower {
    sources: Sources,
    known: BTreeMap<ObjectRef, Force>,
    /// Since when a change is on its way, and how long it is waited for the next time.
    change: Option<(Instant, Duration)>,
    /// When to look next.
    next: Instant,
    /// What had happened on the streams when they were looked at last.
    seen: u64,
}

impl Follower {
    fn changed(&mut self, now: Instant) {
        // What is waited for already has not become younger.
        let since = self.change.map_or(now, |(since, _)| since);
        self.change = Some((since, FIRST));
        self.next = self.next.min(now + FIRST);
    }

    fn look(&mut self, now: Instant) {
        let activity = self.sources.ads.activity();
        if self.change.is_some() || activity != self.seen {
            self.seen = activity;
            self.join(now);
        }
        self.next = now
            + match &mut self.change {
                None => REFRESH,
                Some((_, pause)) => {
                    let this = *pause;
                    *pause = (this * 2).min(MOST);
                    this
                }
            };
    }

    fn join(&mut self, now: Instant) {
        let Sources { contributions, cache, ads, metrics } = &self.sources;
        let sessions = ads.sessions();
        count(metrics, &sessions);
        let found = forces(contributions, &sessions, |key, namespace| {
            cache.get(key, namespace).version().cloned()
        });
        let waiting = found.values().any(|force| force.waiting > 0);
        if let Some((since, _)) = self.change {
            let late = now >= since + STALLED;
            if !waiting {
                metrics.converged.0.observe((now - since).as_secs_f64());
            } else if late {
                metrics.stalled.inc();
            }
            if !waiting || late {
                self.change = None;
            }
        }
        // While a change is on its way, only what it has done to the end is told.
        let known = std::mem::take(&mut self.known);
        self.known = if self.change.is_none() { found } else { keep_waiting(known, found) };
    }
}

fn count(metrics: &Metrics, sessions: &[SessionStatus]) {
    metrics.streams.clear();
    metrics.rejected.clear();
    for session in sessions {
        let dialect = match session.dialect {
            Dialect::Tulle => "tulle",
            Dialect::Envoy => "envoy",
            Dialect::Grpc => "grpc",
        };
        metrics.streams.get_or_create(&DialectLabel { dialect }).inc();
        for kind in &session.kinds {
            let rejected = kind.names.iter().filter(|name| name.rejected.is_some()).count();
            let label = KindLabel { kind: word(kind.kind) };
            let gauge = metrics.rejected.get_or_create(&label);
            gauge.inc_by(i64::try_from(rejected).unwrap_or(i64::MAX));
        }
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Workload => "workload",
        Kind::Cluster => "cluster",
        Kind::Endpoints => "endpoints",
        Kind::Listener => "listener",
        Kind::Route => "route",
        Kind::Host => "host",
    }
}

/// What has come through, and of what has not what was known before.
fn keep_waiting(
    mut known: BTreeMap<ObjectRef, Force>,
    found: BTreeMap<ObjectRef, Force>,
) -> BTreeMap<ObjectRef, Force> {
    let settled = |(object, force): (ObjectRef, Force)| {
        let before = known.remove(&object);
        let force = if force.waiting > 0 { before.unwrap_or(force) } else { force };
        (object, force)
    };
    found.into_iter().map(settled).collect()
}

fn tell(
    reports: &mut watch::Receiver<Report>,
    statuses: &watch::Sender<Report>,
    known: &BTreeMap<ObjectRef, Force>,
    previous: &mut Previous,
) {
    let mut report = reports.borrow_and_update().clone();
    let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
    report.statuses = document(&report.standings, known, previous, &now);
    statuses.send_if_modified(|last| {
        let changed = *last != report;
        *last = report;
        changed
    });
}
