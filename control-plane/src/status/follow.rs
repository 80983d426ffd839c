//! When statuses are worked out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tulle_xds::{
    cache::{Cache, Dialect, Key, View},
    model::Kind,
    protocol::Version,
    server::AdsService,
    session::NameStatus,
};

use super::{
    Contributions, Edition, Force, Standing, Told,
    json::Documents,
    tally::{Facts, Tally},
};
use crate::{
    compile::Contributors,
    metrics::{DialectLabel, KindLabel, Metrics},
    output::Report,
    replicas::{Others, Tellings},
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

/// How long the sidecars that were connected before this replica started have to come back: their longest pause between two
/// tries.
const COME_BACK: Duration = Duration::from_secs(15);

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
    /// What proxies say at other replicas.
    pub others: Others,
}

impl Facts for Sources {
    fn contributors(&self, key: &Key, namespace: &str) -> Option<Arc<Contributors>> {
        self.contributions.of(key, namespace)
    }

    fn latest(&self, key: &Key, view: &View) -> Option<Version> {
        self.cache.get(key, view).version().cloned()
    }

    fn standing(&self, stream: u64, key: &Key) -> Option<NameStatus> {
        self.ads.name_status(stream, key.kind, &key.name)
    }
}

/// Adds statuses to the reports, for as long as there are any.
pub async fn follow(
    mut reports: watch::Receiver<Report>,
    (statuses, own): (watch::Sender<Report>, watch::Sender<Arc<Tellings>>),
    sources: Sources,
) {
    let mut follower = Follower::new(sources, Instant::now());
    let mut documents = Documents::default();
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
            () = follower.sources.others.changed() => {}
            () = sleep_until(follower.next) => follower.look(Instant::now()),
        }
        // What was published before the report, so that nothing of it is told of what was in force before.
        follower.hear();
        let mut report = reports.borrow_and_update().clone();
        follower.say(&report.standings);
        own.send_if_modified(|last| {
            let changed = **last != follower.told;
            if changed {
                *last = Arc::new(follower.told.clone());
            }
            changed
        });
        let mut all = follower.sources.others.totals(&follower.told);
        if report.complete && follower.gathers(report.sidecars, Instant::now()) {
            follower.sources.others.own_is_unheard(&mut all);
        }
        let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        report.statuses = documents.of(&report.standings, &all, &now);
        statuses.send_if_modified(|last| {
            let changed = *last != report;
            *last = report;
            changed
        });
    }
}

struct Follower {
    sources: Sources,
    tally: Tally,
    known: BTreeMap<ObjectRef, Force>,
    /// What is said of each object.
    told: Tellings,
    /// Objects whose force has changed, and is not in `known` yet.
    untold: BTreeSet<ObjectRef>,
    /// Since when a change is on its way, and how long it is waited for the next time.
    change: Option<(Instant, Duration)>,
    /// When to look next.
    next: Instant,
    /// Until when sidecars that were connected before may be missing still. `None`: none is.
    gathers: Option<Instant>,
}

impl Follower {
    fn new(sources: Sources, now: Instant) -> Self {
        Self {
            sources,
            tally: Tally::default(),
            known: BTreeMap::new(),
            told: BTreeMap::new(),
            untold: BTreeSet::new(),
            change: None,
            next: now + FIRST,
            gathers: Some(now + COME_BACK),
        }
    }

    fn changed(&mut self, now: Instant) {
        // What is waited for already has not become younger.
        let since = self.change.map_or(now, |(since, _)| since);
        self.change = Some((since, FIRST));
        self.next = self.next.min(now + FIRST);
    }

    fn look(&mut self, now: Instant) {
        self.hear();
        self.settle(now);
        self.next = now
            + match &mut self.change {
                None if self.gathers.is_some() => MOST,
                None => REFRESH,
                Some((_, pause)) => {
                    let this = *pause;
                    *pause = (this * 2).min(MOST);
                    this
                }
            };
    }

    /// Whether sidecars are still on their way back to a control plane that has just started: what they have nobody knows yet,
    /// nor that nobody uses an object.
    fn gathers(&mut self, sidecars: usize, now: Instant) -> bool {
        let missing = self.sources.others.streams(self.sources.ads.streams()) < sidecars;
        self.gathers = self.gathers.filter(|end| missing && now < *end);
        self.gathers.is_some()
    }

    /// Takes in what has happened since the last look.
    fn hear(&mut self) {
        let Self { sources, tally, .. } = self;
        for key in sources.contributions.take_changed() {
            tally.republished(&key, sources);
        }
        let news = sources.ads.take_news();
        if !news.is_empty() {
            for (stream, news) in news {
                tally.heard(stream, news, sources);
            }
            count(&sources.metrics, tally);
        }
        self.untold.append(&mut tally.take_changed());
    }

    /// What there is to say of each object: as long as its change is on its way, of the edition before. Of a new one nothing
    /// was said before: of that it is said how far it is.
    fn say(&mut self, standings: &BTreeMap<ObjectRef, Arc<Standing>>) {
        let before = std::mem::take(&mut self.told);
        let Self { known, tally, untold, .. } = self;
        let each = standings.iter().map(|(object, standing)| {
            let before = before.get(object);
            let before = before.filter(|before| uid(&before.edition) == uid(&standing.edition));
            if before.is_none() {
                learn(known, object.clone(), tally.force(object));
            }
            let edition = match before {
                Some(before) if untold.contains(object) => &before.edition,
                _ => &standing.edition,
            };
            let force = known.get(object).cloned().unwrap_or_default();
            (object.clone(), Told { force, edition: edition.clone() })
        });
        self.told = each.collect();
    }

    /// Whether a change has come through, and what of it may be told.
    fn settle(&mut self, now: Instant) {
        if let Some((since, _)) = self.change {
            // What waits has changed, and was not told.
            let waits = |object| self.tally.force(object).is_some_and(|force| force.waiting > 0);
            let waiting = self.untold.iter().any(waits);
            let late = now >= since + STALLED;
            if !waiting {
                self.sources.metrics.pushed_within.0.observe((now - since).as_secs_f64());
            } else if late {
                self.sources.metrics.stalled.inc();
            }
            if !waiting || late {
                self.change = None;
            }
        }
        // While a change is on its way, only what it has done to the end is told.
        for object in std::mem::take(&mut self.untold) {
            let force = self.tally.force(&object);
            let waits = force.as_ref().is_some_and(|force| force.waiting > 0);
            if waits && self.change.is_some() {
                if let Some(force) = force.filter(|_| !self.known.contains_key(&object)) {
                    self.known.insert(object.clone(), force);
                }
                self.untold.insert(object);
                continue;
            }
            learn(&mut self.known, object, force);
        }
    }
}

fn uid(edition: &Option<Edition>) -> Option<&str> {
    edition.as_ref().map(|edition| edition.uid.as_str())
}

fn learn(known: &mut BTreeMap<ObjectRef, Force>, object: ObjectRef, force: Option<Force>) {
    match force {
        Some(force) => drop(known.insert(object, force)),
        None => drop(known.remove(&object)),
    }
}

fn count(metrics: &Metrics, tally: &Tally) {
    metrics.streams.clear();
    metrics.rejected.clear();
    for (dialect, streams) in tally.streams() {
        let dialect = match dialect {
            Dialect::Tulle => "tulle",
            Dialect::Other(_) => "tulle_other",
            Dialect::Envoy => "envoy",
            Dialect::Grpc => "grpc",
        };
        let gauge = metrics.streams.get_or_create(&DialectLabel { dialect });
        // There may be several other versions.
        gauge.inc_by(i64::try_from(streams).unwrap_or(i64::MAX));
    }
    for (kind, names) in tally.rejected() {
        let gauge = metrics.rejected.get_or_create(&KindLabel { kind: word(kind) });
        gauge.set(i64::try_from(names).unwrap_or(i64::MAX));
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

#[cfg(test)]
mod tests;
