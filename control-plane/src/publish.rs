//! The single writer: takes changes in, compiles what they touch, publishes.
//!
//! ```text
//! batches ──► world.apply ──► dirty subjects ──► wanted keys ──► compile ──► cache.put
//! interest ─────────────────────────────────────────^
//! ```
//!
//! A kind that somebody wants whole (stock Envoy, which cannot ask for what it needs) has members:
//! they are listed once, when it becomes wanted, and from then on what is dirty says what joins and
//! leaves.
//!
//! Invariants: nobody else writes the world or the cache; nothing is answered before the source's
//! first batch, or what is there would be reported as missing; only what somebody wants is compiled,
//! and after a change only what it touches; of one change, what is gone is published last.

mod wanted;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    iter, slice,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::{self, Instant},
};
use tulle_runtime::ready::Blocker;
use tulle_xds::{
    cache::{Cache, Contents, Interest, Key, Want},
    model::Kind,
    protocol::WILDCARD,
};

use self::wanted::Wanted;
use crate::{
    admin::Question,
    compile::{self, Settings},
    metrics::{KindLabel, Metrics},
    output::Report,
    parallel,
    problem::{Effect, Place, Problem},
    roster::Roster,
    source::Batch,
    status::{Contributions, Edition, Standing},
    world::{Dirty, Event, Subject, World, objects::ObjectRef},
};

/// How often the cache is asked to forget what nobody wants any more.
const FORGET: Duration = Duration::from_secs(10);

/// Moves changes from the source to the cache.
#[derive(Debug)]
pub struct Publisher {
    settings: Settings,
    debounce: Duration,
    cache: Cache,
    roster: Roster,
    report: watch::Sender<Report>,
    metrics: Arc<Metrics>,
    world: World,
    wanted: Wanted,
    /// What the source says is wrong.
    told: Vec<Problem>,
    /// What is wrong with objects that refer to others, where those stand, and which of them stand elsewhere
    /// than when they were looked at.
    complaints: BTreeMap<ObjectRef, Vec<Problem>>,
    places: HashMap<ObjectRef, Place>,
    moved: BTreeSet<ObjectRef>,
    problems: BTreeSet<Problem>,
    contributions: Contributions,
    standings: BTreeMap<ObjectRef, Arc<Standing>>,
    /// The edition of what each object says now.
    editions: HashMap<ObjectRef, Edition>,
    /// Objects that are to have a status, and of which no subject tells.
    touched: BTreeSet<ObjectRef>,
}

/// Where a publisher publishes to.
#[derive(Debug)]
pub struct Outlets {
    /// What is served.
    pub cache: Cache,
    /// Who may ask for it.
    pub roster: Roster,
    /// What is written back.
    pub report: watch::Sender<Report>,
    /// Which objects are behind what is served.
    pub contributions: Contributions,
}

impl Publisher {
    /// A publisher of nothing yet.
    ///
    /// `debounce` is how long a change waits for others to be compiled together with it; what has
    /// queued up is taken together in any case.
    pub fn new(
        settings: Settings,
        debounce: Duration,
        outlets: Outlets,
        metrics: Arc<Metrics>,
    ) -> Self {
        let Outlets { cache, roster, report, contributions } = outlets;
        Self {
            settings,
            debounce,
            cache,
            roster,
            report,
            metrics,
            world: World::default(),
            wanted: Wanted::default(),
            told: Vec::new(),
            complaints: BTreeMap::new(),
            places: HashMap::new(),
            moved: BTreeSet::new(),
            problems: BTreeSet::new(),
            contributions,
            standings: BTreeMap::new(),
            editions: HashMap::new(),
            touched: BTreeSet::new(),
        }
    }

    /// Runs until it is dropped. `blocker` is dropped once the first batch is in force. Should the
    /// source end, what it said last goes on being served.
    pub async fn run(
        mut self,
        mut batches: mpsc::Receiver<Batch>,
        mut interest: Interest,
        mut questions: mpsc::Receiver<Question>,
        blocker: Blocker,
    ) {
        let Some(first) = batches.recv().await else {
            return;
        };
        self.take(first, &mut batches);
        drop(blocker);
        let mut forget = time::interval(FORGET);
        let mut ended = false;
        loop {
            tokio::select! {
                batch = batches.recv(), if !ended => {
                    let Some(batch) = batch else {
                        tracing::error!("the directories are not followed any more; restart");
                        ended = true;
                        continue;
                    };
                    if !self.debounce.is_zero() {
                        time::sleep(self.debounce).await;
                    }
                    self.take(batch, &mut batches);
                }
                want = interest.recv() => {
                    let all = iter::once(want).chain(iter::from_fn(|| interest.try_recv()));
                    self.want(all.collect());
                }
                Some(question) = questions.recv() => question(&self.world),
                _ = forget.tick() => self.cache.drop_unwanted(Instant::now()),
            }
        }
    }

    /// Takes in a batch and whatever has queued up behind it.
    fn take(&mut self, first: Batch, batches: &mut mpsc::Receiver<Batch>) {
        let mut dirty = Dirty::new();
        self.apply(first, &mut dirty);
        while let Ok(batch) = batches.try_recv() {
            self.apply(batch, &mut dirty);
        }
        self.metrics.generation.inc_by(i64::from(!dirty.is_empty()));
        self.publish(&dirty);
        self.check(&dirty);
        self.stand(&dirty);
        self.tell(&dirty);
    }

    fn apply(&mut self, batch: Batch, dirty: &mut Dirty) {
        self.metrics.events.inc_by(batch.events.len() as u64);
        for event in batch.events {
            let object = match &event {
                Event::Apply(object) => object.reference(),
                Event::Delete(reference) => reference.clone(),
            };
            if object.kind.has_status() && !object.kind.refers() {
                self.touched.insert(object);
            }
            self.world.apply(event, dirty);
        }
        for (object, place) in batch.places {
            self.moved.insert(object.clone());
            match place {
                Some(place) => drop(self.places.insert(object, place)),
                None => drop(self.places.remove(&object)),
            }
        }
        for (object, edition) in batch.editions {
            self.touched.insert(object.clone());
            self.editions.insert(object, edition);
        }
        self.told = batch.problems;
    }

    /// Looks anew at what the touched objects refer to.
    fn check(&mut self, dirty: &Dirty) {
        let touched = dirty.iter().filter_map(|subject| match subject {
            Subject::Policy(object) => Some(object.clone()),
            _ => None,
        });
        let moved = std::mem::take(&mut self.moved);
        for object in moved.into_iter().chain(touched).collect::<BTreeSet<_>>() {
            let complaints = compile::complaints(&self.world, &object).into_iter();
            let place = self.places.get(&object);
            let problems: Vec<_> =
                complaints.map(|complaint| complaint.at(&object, place)).collect();
            if problems.is_empty() {
                self.complaints.remove(&object);
            } else {
                self.complaints.insert(object, problems);
            }
        }
    }

    /// What became of the objects that have a status, those included of which only a document that
    /// does not apply tells.
    fn stand(&mut self, dirty: &Dirty) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.extend(dirty.iter().filter_map(|subject| match subject {
            Subject::Policy(object) => Some(object.clone()),
            _ => None,
        }));
        let wrong = self.told.iter().filter(|problem| problem.effect == Effect::Rejected);
        let mut invalid: BTreeMap<&ObjectRef, String> = BTreeMap::new();
        for (object, problem) in wrong.filter_map(|p| Some((p.about.as_ref()?, p))) {
            if object.kind.has_status() {
                invalid.entry(object).or_insert_with(|| problem.to_string());
            }
        }
        touched.extend(
            self.standings.iter().filter(|(_, s)| s.invalid.is_some()).map(|(o, _)| o.clone()),
        );
        touched.extend(invalid.keys().map(|&object| object.clone()));
        for object in touched {
            let standing = compile::standing(&self.world, &object);
            let invalid = invalid.get(&object).cloned();
            let standing = match (standing, invalid) {
                (None, None) => {
                    self.standings.remove(&object);
                    self.editions.remove(&object);
                    continue;
                }
                (standing, invalid) => {
                    let edition = self.edition(&object);
                    Standing { invalid, edition, ..standing.unwrap_or_default() }
                }
            };
            self.standings.insert(object, Arc::new(standing));
        }
    }

    /// Of what an object says now, and of what became of it.
    fn edition(&self, object: &ObjectRef) -> Option<Edition> {
        let edition = self.editions.get(object);
        match self.world.turn(object) {
            Some(turn) => Some(Edition { turn, ..edition.cloned().unwrap_or_default() }),
            None => edition.cloned(),
        }
    }

    /// Everything that is wrong, with where it stands.
    fn all_problems(&self) -> BTreeSet<Problem> {
        self.complaints.values().flatten().chain(&self.told).cloned().collect()
    }

    fn publish(&mut self, dirty: &Dirty) {
        // The roster first: a proxy whose workload says "here you are" must be let in.
        for subject in dirty {
            if let Subject::Pod(name) = subject {
                let pod = self.world.pod(name).map(|pod| &**pod);
                let zone = pod.map(|pod| self.world.zone(&pod.node)).unwrap_or_default();
                self.roster.set(name, pod, zone);
                let by = pod.filter(|pod| !pod.ended).and_then(|pod| self.world.uncounted_by(pod));
                self.roster.set_uncounted(name, by);
            }
        }
        let wildcards = self.wanted.wildcards();
        self.update(dirty, &wildcards);
    }

    /// Compiles what is about these subjects, and publishes it: what a route leads to before the
    /// route, and what is gone after it.
    fn update(&mut self, subjects: &Dirty, wildcards: &[Key]) {
        let (mut changes, mut keys) = (Vec::new(), Vec::new());
        for subject in subjects {
            for wildcard in wildcards {
                let now = compile::members(&self.world, wildcard, subject);
                let gone = self.wanted.set_members(subject, wildcard, &now);
                changes.extend(gone.into_iter().map(Change::gone));
            }
            let part = |member| if member { Part::Is } else { Part::IsNot };
            keys.extend(
                self.wanted.about(subject).map(|(key, member)| (key.clone(), part(member))),
            );
        }
        changes.extend(self.compile_all(keys));
        changes.sort_by_key(Change::rank);
        for change in changes {
            self.put(change);
        }
    }

    /// Takes in what has become wanted and unwanted. Whoever asks for one thing does not wait for those who want
    /// everything.
    fn want(&mut self, wants: Vec<Want>) {
        let (mut named, mut wildcards) = (Vec::new(), Vec::new());
        for want in wants {
            let (Want::Wanted(key) | Want::Unwanted(key)) = &want;
            match want {
                _ if &*key.name == WILDCARD => wildcards.push(want),
                Want::Wanted(key) => {
                    self.wanted.name(&key, true);
                    named.push((key, Part::IsNot));
                }
                Want::Unwanted(key) => {
                    self.contributions.remove(&key);
                    self.wanted.name(&key, false);
                }
            }
        }
        for change in self.compile_all(named) {
            self.put(change);
        }
        for want in wildcards {
            match want {
                Want::Wanted(wildcard) => {
                    self.wanted.want_all(wildcard.clone());
                    self.update(&self.world.served(), slice::from_ref(&wildcard));
                    self.cache.complete(wildcard);
                }
                Want::Unwanted(wildcard) => {
                    for key in self.wanted.unwant_all(&wildcard) {
                        self.put(Change::gone(key));
                    }
                }
            }
        }
    }

    fn compile_all(&self, keys: Vec<(Key, Part)>) -> Vec<Change> {
        let contents = parallel::map(&keys, |(key, _)| self.compile(key));
        let of = |((key, part), contents)| Change { key, contents, part };
        keys.into_iter().zip(contents).map(of).collect()
    }

    /// What a key stands for now; notes which objects it comes from.
    fn compile(&self, key: &Key) -> Contents {
        self.metrics.compiled.inc();
        let from = compile::contributors(&self.world, key.kind, &key.name);
        self.contributions.set(key, from);
        compile::contents(&self.world, &self.settings, key)
    }

    fn put(&self, change: Change) {
        let Change { key, contents, part } = change;
        let changed = match part {
            Part::Is => self.cache.add_member(key.clone(), contents),
            Part::Was => {
                self.contributions.remove(&key);
                self.cache.remove_member(&key)
            }
            Part::IsNot => self.cache.put(key.clone(), contents),
        };
        if changed {
            self.metrics.published.inc();
            self.contributions.published(&key);
        }
    }

    /// Says what is wrong, and for which namespaces the roots are needed.
    fn tell(&mut self, dirty: &Dirty) {
        for (kind, count) in self.world.counts() {
            let label = KindLabel { kind: kind.as_str() };
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.metrics.objects.get_or_create(&label).set(count);
        }
        let problems = self.all_problems();
        self.metrics.problems.set(i64::try_from(problems.len()).unwrap_or(i64::MAX));
        for problem in problems.difference(&self.problems) {
            let effect = match problem.effect {
                Effect::Rejected => "not applied",
                Effect::Applied => "applied without this part",
            };
            tracing::warn!(effect, "{problem}");
        }
        self.problems.clone_from(&problems);
        self.report.send_if_modified(|report| {
            let mut changed = !report.complete;
            report.complete = true;
            for subject in dirty {
                let Subject::Namespace(namespace) = subject else {
                    continue;
                };
                changed |= match self.world.needs_roots(namespace) {
                    true => report.namespaces.insert(namespace.to_string()),
                    false => report.namespaces.remove(&**namespace),
                };
            }
            // No news by itself: it matters while there are others.
            report.sidecars = self.world.sidecars();
            changed |= report.problems.iter().ne(&problems);
            report.problems = problems.into_iter().collect();
            changed |= report.standings != self.standings;
            report.standings.clone_from(&self.standings);
            changed
        });
    }
}

/// Something to publish.
struct Change {
    key: Key,
    contents: Contents,
    part: Part,
}

/// Whether a key is a member of a kind that somebody wants whole.
enum Part {
    Is,
    Was,
    IsNot,
}

impl Change {
    fn gone(key: Key) -> Self {
        Self { key, contents: Contents::default(), part: Part::Was }
    }

    fn rank(&self) -> u8 {
        let gone = self.contents == Contents::default();
        match self.key.kind {
            Kind::Cluster | Kind::Endpoints if gone => 2,
            Kind::Cluster | Kind::Endpoints => 0,
            Kind::Workload | Kind::Listener | Kind::Route | Kind::Host => 1,
        }
    }
}
