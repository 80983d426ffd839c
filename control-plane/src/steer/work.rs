//! One release, as whoever steers it sees it: its course, and what is known of it for the moment only.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    Sight,
    keep::Kept,
    seen::{Answers, Observer, Second},
    view::{self, CallerView, ReleaseView, SecondView},
};
use crate::{
    release::{Answer, Course, Gate, Pair, Pods, Seen, Share, Tick},
    roster::Roster,
    status::Told,
    world::release::{Target, Versions},
};

/// Evidence and reasons are written down no more often than so, in seconds, if nothing else has changed.
const SELDOM: u64 = 5;
/// What was written and does not come back from the world for so long, in seconds, was lost.
const LOST: u64 = 15;
/// Seconds after which proxies that have not taken a step are not waited for: one is stuck, or a gRPC client that calls nobody, which takes
/// nothing then. Requests prove more than proxies that say so.
const LAGGING: u64 = 30;
/// Seconds that are remembered for people.
const CURVE: usize = 600;

/// On how many proxies a release is what it was made last.
#[derive(Debug, Clone, Default)]
pub(super) struct Force {
    pub(super) on: usize,
    pub(super) of: usize,
    /// Some of those that are not there yet.
    pub(super) laggards: Vec<String>,
    /// Of which turn that is said.
    turn: Option<u64>,
}

impl Force {
    pub(super) fn of(told: &Told) -> Self {
        let force = &told.force;
        let rejecting = force.rejections.iter().map(|rejection| rejection.proxy.clone());
        Self {
            on: force.on,
            of: force.of,
            laggards: force.laggards.iter().cloned().chain(rejecting).collect(),
            turn: told.edition.as_ref().map(|edition| edition.turn),
        }
    }

    /// Whether all proxies do what the course says.
    pub(super) fn is_whole(&self, course: &Course) -> bool {
        self.on == self.of && self.turn.is_some_and(|turn| turn >= course.turn)
    }
}

/// What is said in a second.
pub(super) struct Said<'a> {
    /// By proxies, at all replicas.
    pub(super) told: &'a Answers,
    /// Whose pods they are.
    pub(super) roster: &'a Roster,
    /// By those who are asked.
    pub(super) asked: &'a [(Gate, Answer)],
    /// How far what was decided last has come.
    pub(super) force: Force,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Work {
    uid: String,
    /// Where it is, as judged last.
    pub(super) course: Course,
    /// As it was written last, and when that was.
    kept: Course,
    kept_at: u64,
    /// The reason that was written with it, as far as this one has done that.
    kept_reason: String,
    /// Since when the world has shown less than was written.
    behind: Option<u64>,
    observer: Observer,
    /// Restarts of the canary's containers, in all.
    restarts: Option<u32>,
    pub(super) force: Force,
    /// By caller, in this step.
    callers: BTreeMap<String, Pair>,
    step: Option<usize>,
    curve: VecDeque<SecondView>,
}

impl Work {
    pub(super) fn new(sight: &Sight) -> Self {
        let course = sight.course().cloned().unwrap_or_default();
        Self {
            uid: sight.release.uid.clone(),
            kept: course.clone(),
            course,
            kept_at: 0,
            kept_reason: String::new(),
            behind: None,
            observer: Observer::default(),
            restarts: None,
            force: Force::default(),
            callers: BTreeMap::new(),
            step: None,
            curve: VecDeque::new(),
        }
    }

    /// Whether it is about this object: another one of the same name begins anew.
    pub(super) fn is_of(&self, sight: &Sight) -> bool {
        self.uid == sight.release.uid
    }

    /// Takes what the world shows, if somebody else has gone on with it.
    pub(super) fn adopt(&mut self, sight: &Sight, now: u64) {
        let shown = sight.course().map_or(0, |course| course.written);
        let lost = match shown < self.kept.written {
            true => now >= *self.behind.get_or_insert(now) + LOST,
            false => {
                self.behind = None;
                false
            }
        };
        if lost || shown > self.kept.written {
            let force = std::mem::take(&mut self.force);
            *self = Self { force, ..Self::new(sight) };
        }
    }

    /// A second has passed.
    pub(super) fn second(
        &mut self,
        sight: &Sight,
        Said { told, roster, asked, force }: Said<'_>,
        now: u64,
    ) {
        self.force = force;
        let Some(template) = sight.template.as_ref().filter(|_| sight.idle_because.is_none())
        else {
            return;
        };
        match &sight.release.target {
            Target::Deployment(_) => {
                if self.course.stable.is_empty() {
                    // What runs when somebody asks for releases is good, all of it.
                    self.course.trusted.extend(sight.older.iter().cloned());
                }
                self.course.template(template, now);
            }
            Target::Two { stable, canary } => {
                if ![&stable.1, &canary.1].contains(&&self.course.stable) {
                    self.course.replaces(&stable.1);
                }
                self.course.workload(template, now);
            }
        }
        let shown = sight.course().map(|course| (&course.stable, &course.canary));
        if shown != Some((&self.course.stable, &self.course.canary)) {
            // Its pods are still counted as those of the versions that there were before.
            return;
        }
        let (release, plan) = (&sight.release, &sight.release.plan);
        let versions = &sight.versions;
        let judged = self.course.is_under_way();
        let (Second { seen, slow }, restarts) = if judged {
            let quantile = plan.gates.latency.map_or(0.99, |latency| latency.quantile);
            let second = self.observer.look(release, &self.course, (told, roster), quantile);
            (second, self.restarted(versions.restarts))
        } else {
            (self.observer, self.restarts) = (Observer::default(), None);
            (Second::default(), 0)
        };
        let callers: Option<Vec<Seen>> = seen.as_ref().map(|seen| seen.values().copied().collect());
        let tick = Tick {
            now,
            seen: callers.as_deref(),
            canary: canary(versions, now),
            stable: versions.stable,
            answers: asked,
            restarts,
            in_force: self.is_in_force(now),
            slow,
            replaced: self.is_replaced(sight, now),
            alone: is_alone(sight),
        };
        self.course.tick(plan, &tick);
        if judged {
            self.remember(seen.as_ref(), sight, now);
        }
    }

    /// How many containers have ended since the last look; at the first one nobody knows.
    fn restarted(&mut self, restarts: u32) -> u32 {
        let before = self.restarts.replace(restarts);
        before.map_or(0, |before| restarts.saturating_sub(before))
    }

    /// Whether proxies do what the course says, as far as they are waited for.
    fn is_in_force(&self, now: u64) -> bool {
        self.force.is_whole(&self.course) || now >= self.course.since + LAGGING
    }

    /// Whether nothing of the old version gets anything any more, or is there.
    fn is_replaced(&self, sight: &Sight, now: u64) -> bool {
        let Versions { canary, stable, others, .. } = sight.versions;
        match sight.release.target {
            Target::Deployment(_) => !others && canary.serving > 0,
            Target::Two { .. } => {
                self.course.share(canary, stable) == Share::ALL && self.is_in_force(now)
            }
        }
    }

    /// For people.
    fn remember(&mut self, seen: Option<&BTreeMap<String, Seen>>, sight: &Sight, now: u64) {
        if self.course.step != self.step {
            self.step = self.course.step;
            self.callers.clear();
        }
        let mut all = Seen::default();
        for (caller, seen) in seen.into_iter().flatten() {
            *self.callers.entry(caller.clone()).or_default() += seen.errors;
            all.errors += seen.errors;
            all.slow += seen.slow;
        }
        let verdicts = self.course.findings.verdicts(&sight.release.plan.gates);
        self.curve.push_back(SecondView {
            at: now,
            told: seen.is_some(),
            errors: all.errors,
            slow: all.slow,
            evidence: verdicts.iter().map(|one| (one.gate.to_string(), one.evidence)).collect(),
        });
        while self.curve.len() > CURVE {
            self.curve.pop_front();
        }
    }

    /// Whether it should be written down.
    pub(super) fn is_due(&self, sight: &Sight, now: u64) -> bool {
        !self.course.acts_as(&self.kept)
            || self.course.cause != self.kept.cause
            || self.course.history != self.kept.history
            || (now >= self.kept_at + SELDOM && self.is_news(sight))
    }

    /// Whether what is written down is not what there is.
    fn is_news(&self, sight: &Sight) -> bool {
        let reason = || view::reason(sight, &self.course, &self.force);
        // Of what has never run there is nothing to write.
        let ran = !self.course.stable.is_empty();
        self.course != self.kept || (ran && reason() != self.kept_reason)
    }

    /// What is to be written down.
    pub(super) fn to_keep(&self, sight: &Sight) -> Kept {
        let mut course = self.course.clone();
        course.written += 1;
        course.turn += u64::from(!course.acts_as(&self.kept));
        let status = view::status(sight, &course, &self.force);
        Kept { uid: self.uid.clone(), over: self.kept.written, course: Arc::new(course), status }
    }

    /// It has been.
    pub(super) fn kept(&mut self, Kept { course, status, .. }: Kept, now: u64) {
        (self.course.written, self.course.turn) = (course.written, course.turn);
        self.kept = Arc::unwrap_or_clone(course);
        (self.kept_at, self.kept_reason) = (now, status.reason);
    }

    /// What people see.
    pub(super) fn view(&self, sight: &Sight) -> ReleaseView {
        ReleaseView { curve: self.curve.iter().cloned().collect(), ..self.summary(sight) }
    }

    /// The same without the last minutes.
    pub(super) fn summary(&self, sight: &Sight) -> ReleaseView {
        let caller =
            |(name, errors): (&String, &Pair)| CallerView { name: name.clone(), errors: *errors };
        let callers = self.callers.iter().map(caller).collect();
        ReleaseView { callers, ..ReleaseView::of(sight, &self.course, &self.force) }
    }
}

/// Whether no pod but the canary's is there.
fn is_alone(sight: &Sight) -> bool {
    let Versions { stable, others, .. } = sight.versions;
    match sight.release.target {
        Target::Deployment(_) => !others,
        Target::Two { .. } => stable.wanted == 0,
    }
}

fn canary(versions: &Versions, now: u64) -> Pods {
    let youngest = match versions.youngest {
        0 => Duration::ZERO,
        since => Duration::from_secs(now.saturating_sub(since)),
    };
    Pods { youngest, ..versions.canary }
}
