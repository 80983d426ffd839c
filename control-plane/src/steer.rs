//! Steers releases: looks each second at what sidecars tell, and writes down where each one is.
//!
//! ```text
//! world ──► [ sight ]: pods, templates ─┐
//! telemetry, all replicas ──► [ seen ] ─┴─► [ work ]: release::Course ──► [ keep ] ──► status ──► world, at all replicas
//! people ──► [ Releases ]: verbs ────────────^          └──► [ view ] ──► people
//! ```
//!
//! **Invariants.** One replica steers, the holder of the Lease; the others pass on what people want. What it decides has no
//! effect before it is written down, and comes from there to all replicas alike, itself included: another one that goes on finds
//! what proxies do already. Nothing is written over what somebody else has written since.

mod desk;
mod drawer;
mod gauges;
mod keep;
mod seen;
mod sight;
mod view;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use time::OffsetDateTime;
use tokio::{
    sync::{mpsc, watch},
    time::{self as clock, MissedTickBehavior},
};

pub use self::{
    desk::{Answer, Call, Desk, Others, Releases, Requests, Unfulfilled, Wish},
    drawer::{Drawer, Memory},
    gauges::Gauges,
    keep::{Keep, Kept, NotKept},
    sight::Sight,
    view::{
        CallerView, GateView, PodsView, ReleaseView, ReleasesView, SecondView, StepView, Versioned,
    },
};
use self::{
    seen::Answers,
    work::{Force, Said, Work},
};
use crate::{
    admin::{self, Question},
    output::Report,
    release::Asker,
    replicas::{Replica, Surveyor, Tellings},
    telemetry::versions::Target,
    world::objects::{Kind, Name},
};

/// Between two looks.
const SECOND: Duration = Duration::from_secs(1);
/// A replica that does not say within this time what its proxies see has not said it in this second.
const PATIENCE: Duration = Duration::from_millis(800);
/// Releases that are written down at once.
const AT_ONCE: usize = 8;

/// What is looked at, and where it is written down.
#[expect(
    missing_debug_implementations,
    reason = "of where it is written down there is nothing to say"
)]
pub struct Sources {
    /// The world.
    pub world: mpsc::Sender<Question>,
    /// What is wrong with objects.
    pub report: watch::Receiver<Report>,
    /// What this replica's proxies report, and what they make of each object.
    pub surveyor: Surveyor,
    /// The other replicas, if there can be any.
    pub replica: Option<Replica>,
    /// Where it is written down.
    pub keep: Arc<dyn Keep>,
    /// Asks those whom gates name.
    pub asker: Asker,
    /// Where Prometheus is told of it.
    pub gauges: Gauges,
}

/// Whoever steers.
pub struct Steer {
    sources: Sources,
    requests: mpsc::Receiver<desk::Request>,
    leads: watch::Receiver<bool>,
    /// Whether it has looked since it leads: before that it would show that there is nothing.
    has_looked: bool,
    /// What there was at the last look.
    sights: BTreeMap<Name, Sight>,
    works: HashMap<Name, Work>,
    /// Replicas that did not answer at the last look, which were named then.
    silent: BTreeSet<Name>,
}

impl Steer {
    /// Steers while it `leads`.
    pub fn new(sources: Sources, desk: Requests, leads: watch::Receiver<bool>) -> Self {
        let (sights, works, silent) = Default::default();
        Self { sources, requests: desk.0, leads, has_looked: false, sights, works, silent }
    }

    /// Looks each second, forever.
    pub async fn run(mut self) {
        let mut clock = clock::interval(SECOND);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = clock.tick() => {
                    if !*self.leads.borrow() {
                        self.rest();
                        continue;
                    }
                    if self.second().await.is_none() {
                        return;
                    }
                }
                request = self.requests.recv() => match request {
                    Some(request) => self.answer(request).await,
                    None => return,
                },
            }
        }
    }

    /// Another one steers. What was seen and answered until now says nothing when this one does again.
    fn rest(&mut self) {
        self.has_looked = false;
        self.sights.clear();
        self.works.clear();
        self.sources.asker.follow([], now());
        self.sources.gauges.set(Vec::new());
    }

    /// Looks once; `None`: there is no world any more.
    async fn second(&mut self) -> Option<()> {
        self.look().await?;
        let answers = self.ask().await;
        let (now, mut forces) = (now(), self.forces());
        let Self {
            sights,
            works,
            sources: Sources { asker, surveyor: Surveyor { roster, .. }, .. },
            ..
        } = self;
        let under_way = sights.iter().filter(|(_, sight)| sight.idle_because.is_none());
        let under_way =
            under_way.filter_map(|(name, sight)| Some((&*sight.release, &works.get(name)?.course)));
        asker.follow(under_way, now);
        let mut changed = Vec::new();
        for (name, sight) in sights {
            let Some(work) = works.get_mut(name) else { continue };
            let force = forces.remove(name).unwrap_or_default();
            let said = Said { told: &answers, roster, asked: &asker.answers(name), force };
            work.second(sight, said, now);
            if work.is_due(sight, now) {
                changed.push(name.clone());
            }
        }
        self.write(changed, now).await;
        let working = self.sights.iter().filter(|(_, sight)| sight.idle_because.is_none());
        let views = working.filter_map(|(name, sight)| Some(self.works.get(name)?.summary(sight)));
        self.sources.gauges.set(views.collect());
        self.has_looked = true;
        Some(())
    }

    /// What there is, and for each of it a work that goes on from there.
    async fn look(&mut self) -> Option<()> {
        let sights = admin::ask(&self.sources.world, Sight::all).await?;
        let sights = sights.into_iter().map(|sight| (sight.release.name.clone(), sight));
        self.sights = sights.collect();
        for problem in &self.sources.report.borrow().problems {
            let about = problem.about.as_ref().filter(|about| about.kind == Kind::Release);
            if let Some(sight) = about.and_then(|about| self.sights.get_mut(&about.name)) {
                sight.problems.push(problem.to_string());
            }
        }
        self.works
            .retain(|name, work| self.sights.get(name).is_some_and(|sight| work.is_of(sight)));
        for (name, sight) in &self.sights {
            let work = self.works.entry(name.clone()).or_insert_with(|| Work::new(sight));
            work.adopt(sight, now());
        }
        Some(())
    }

    /// What proxies have told of the versions of releases that are under way, at all replicas.
    async fn ask(&mut self) -> Answers {
        let under_way = self.sights.values().filter(|sight| sight.is_under_way());
        let targets: Vec<Target> = under_way.flat_map(Sight::targets).collect();
        if targets.is_empty() {
            return Answers::default();
        }
        let Sources { surveyor: Surveyor { hub, .. }, replica, .. } = &self.sources;
        let own = targets.iter().map(|target| (target.clone(), hub.versions(&target.0, &target.1)));
        let Some(replica) = replica else {
            let nobody = Name::new("", "");
            return Answers::new(vec![(nobody, own.collect())], BTreeSet::new());
        };
        let mut told = vec![(replica.pod.clone(), own.collect())];
        let ask = |replica: Replica, name| {
            let targets = &targets;
            async move { replica.versions(&name, targets).await }
        };
        let (heard, silent) = replica.ask_within(PATIENCE, ask).await;
        told.extend(heard);
        let names: BTreeSet<_> = silent.iter().map(|(name, _)| name.clone()).collect();
        for (name, silence) in silent.iter().filter(|(name, _)| !self.silent.contains(name)) {
            let reason = &silence.reason;
            tracing::warn!(replica = %name, reason, "what its proxies see of releases is missing");
        }
        self.silent.clone_from(&names);
        Answers::new(told, names)
    }

    /// On how many proxies each release is what it was made last.
    fn forces(&self) -> HashMap<Name, Force> {
        let told = self.sources.surveyor.told.borrow().clone();
        let of = |sight: &Sight| {
            let object = sight.release.reference();
            let told = told.get(&object)?.clone();
            Some((object, told))
        };
        // Of all other objects nobody asks here.
        let own: Tellings = self.sights.values().filter_map(of).collect();
        let all = match &self.sources.replica {
            Some(replica) => replica.others.totals(&own),
            None => own,
        };
        all.into_iter().map(|(object, told)| (object.name, Force::of(&told))).collect()
    }

    /// How far what was decided last has come by now.
    fn count(&mut self) {
        for (name, force) in self.forces() {
            if let Some(work) = self.works.get_mut(&name) {
                work.force = force;
            }
        }
    }

    /// Writes down where these are.
    async fn write(&mut self, changed: Vec<Name>, now: u64) {
        let keep = &self.sources.keep;
        let due = changed.into_iter().filter_map(|name| {
            let (sight, work) = (self.sights.get(&name)?, self.works.get(&name)?);
            Some((name, work.to_keep(sight)))
        });
        let due: Vec<_> = due.collect();
        let written = due.into_iter().map(|(name, kept)| async move {
            let answer = keep.keep(&name, &kept).await;
            (name, kept, answer)
        });
        let written: Vec<_> = stream::iter(written).buffer_unordered(AT_ONCE).collect().await;
        for (name, kept, answer) in written {
            let Some(work) = self.works.get_mut(&name) else { continue };
            match answer {
                Ok(()) => work.kept(kept, now),
                Err(NotKept::Changed) => {}
                Err(why) => tracing::warn!(release = %name, %why, "where it is cannot be written"),
            }
        }
    }

    async fn answer(&mut self, (call, reply): desk::Request) {
        let answer = match call {
            _ if !*self.leads.borrow() => {
                Err(Unfulfilled::NoLeader("this one does not".to_owned()))
            }
            Call::Look { .. } if !self.has_looked => {
                Err(Unfulfilled::NoLeader("this one begins to".to_owned()))
            }
            Call::Look { namespace, name } => {
                // Who waits until something is in force waits no longer than that takes.
                self.count();
                Ok(self.view(&namespace, &name))
            }
            Call::Do(wish) => self.fulfil(wish).await,
        };
        // Whoever asked may have gone.
        let _gone = reply.send(answer);
    }

    async fn fulfil(&mut self, wish: Wish) -> Answer {
        let ended = || Unfulfilled::NoLeader("this one is ending".to_owned());
        self.look().await.ok_or_else(ended)?;
        let Wish { namespace, name, revision, who, verb } = wish;
        let (now, name) = (now(), Name::new(namespace, name));
        let unknown = || Unfulfilled::Unknown(name.to_string());
        let (sight, work) =
            self.sights.get(&name).zip(self.works.get_mut(&name)).ok_or_else(unknown)?;
        if let Some(hindrance) = &sight.idle_because {
            return Err(Unfulfilled::Refused(hindrance.to_string()));
        }
        let before = work.course.clone();
        work.course.command(&sight.release.plan, (&who, &revision), &verb, now)?;
        let kept = work.to_keep(sight);
        if let Err(why) = self.sources.keep.keep(&name, &kept).await {
            work.course = before;
            return Err(why.into());
        }
        work.kept(kept, now);
        Ok(ReleasesView { items: vec![work.view(sight)] })
    }

    /// Those of a namespace and a name, where these are said: of all of them nobody looks at the last minutes.
    fn view(&self, namespace: &str, name: &str) -> ReleasesView {
        let wanted = |said: &str, is: &str| said.is_empty() || said == is;
        let those = self
            .sights
            .iter()
            .filter(|(one, _)| wanted(namespace, &one.namespace) && wanted(name, &one.name));
        let view = |(one, sight)| {
            let work = self.works.get(one)?;
            Some(if name.is_empty() { work.summary(sight) } else { work.view(sight) })
        };
        ReleasesView { items: those.filter_map(view).collect() }
    }
}

fn now() -> u64 {
    u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or_default()
}

impl std::fmt::Debug for Steer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steer").field("works", &self.works).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
