//! Asks those whom the gates of releases name, in the background: a Prometheus, and webhooks.
//!
//! Whoever judges a release each second says so each second, and takes what was answered since. Nobody waits for an answer.

mod hosts;
mod promql;
mod webhook;

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};
use tulle_api::ReleasePhase as Phase;

pub use self::hosts::{AllowedHost, NoHost};
use self::webhook::Question;
use super::{
    asked::Answer,
    course::Course,
    findings::Gate,
    plan::{Plan, Step},
};
use crate::{
    config::Config,
    telemetry::Prometheus,
    world::{
        objects::Name,
        release::{Release, Target},
    },
};

/// For an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions to the Prometheus at once, of all releases.
const QUERIES: usize = 4;
/// Webhooks that are called at once.
const CALLS: usize = 16;

/// See the [module](self). When it is dropped, nobody is asked any more.
#[derive(Debug)]
pub struct Asker {
    whom: Arc<Whom>,
    releases: HashMap<Name, Followed>,
}

/// Who can be asked, and may be.
#[derive(Debug)]
struct Whom {
    prometheus: Option<Prometheus>,
    hosts: Vec<AllowedHost>,
    /// Who signs the hosts' certificates; `None`: whom this system trusts.
    authority: Option<PathBuf>,
    queries: Semaphore,
    calls: Semaphore,
}

/// A release whose gates are asked.
#[derive(Debug)]
struct Followed {
    canary: String,
    step: Option<usize>,
    asked: Vec<Asked>,
}

/// Somebody who is asked again and again.
#[derive(Debug)]
struct Asked {
    to: To,
    /// When the next time, in seconds since 1970.
    due: u64,
    /// Where the answer comes. Without it nobody waits for one any more.
    answer: Option<oneshot::Receiver<Answer>>,
}

/// Who is asked what, as the object says it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct To {
    gate: Gate,
    /// A query's expression, a webhook's address.
    text: String,
    every: Duration,
}

/// What is asked this time.
#[derive(Debug)]
enum Ask {
    Query(String),
    Call { url: String, body: Bytes },
}

impl Asker {
    /// Asks with what the installation says.
    pub fn of(config: &Config) -> Self {
        let credentials = config.prometheus_credentials.clone();
        let prometheus = config.prometheus.clone();
        Self::new(
            prometheus.map(|prometheus| prometheus.with_credentials(credentials)),
            config.release_hosts.clone(),
            config.release_ca.clone(),
        )
    }

    /// Asks this Prometheus, and webhooks at these hosts, whose certificates this file's authorities sign (`None`: those that the
    /// system trusts).
    pub fn new(
        prometheus: Option<Prometheus>,
        hosts: Vec<AllowedHost>,
        authority: Option<PathBuf>,
    ) -> Self {
        let (queries, calls) = (Semaphore::new(QUERIES), Semaphore::new(CALLS));
        let whom = Arc::new(Whom { prometheus, hosts, authority, queries, calls });
        Self { whom, releases: HashMap::new() }
    }

    /// These are the releases that there are, and where they are; whoever shall be asked now, is. To be called each second, on a
    /// runtime of tokio's.
    pub fn follow<'a>(
        &mut self,
        releases: impl IntoIterator<Item = (&'a Release, &'a Course)>,
        now: u64,
    ) {
        let mut before = std::mem::take(&mut self.releases);
        for (release, course) in releases {
            let wanted = wanted(&release.plan, course);
            if wanted.is_empty() {
                continue;
            }
            let known = before.remove(&release.name);
            let mut known = known.filter(|known| known.canary == course.canary);
            let moved = known.as_ref().is_some_and(|known| known.step != course.step);
            let asked = wanted.into_iter().map(|to| {
                let same = |known: &Followed| known.asked.iter().position(|one| one.to == to);
                let known = known.as_mut();
                let known = known.and_then(|known| Some(known.asked.swap_remove(same(known)?)));
                let first = first(course, &to, now);
                let mut asked = known.unwrap_or(Asked { to, due: first, answer: None });
                if moved && asked.answer.take().is_some() {
                    // That was about the step before.
                    asked.due = now;
                }
                if asked.answer.is_none() && asked.due <= now {
                    asked.due = now.saturating_add(asked.to.every.as_secs());
                    asked.answer = Some(self.whom.start(question(release, course, &asked.to)));
                }
                asked
            });
            let asked = asked.collect();
            let followed = Followed { canary: course.canary.clone(), step: course.step, asked };
            self.releases.insert(release.name.clone(), followed);
        }
    }

    /// What was answered of a release since this was asked last.
    pub fn answers(&mut self, release: &Name) -> Vec<(Gate, Answer)> {
        let Some(followed) = self.releases.get_mut(release) else { return Vec::new() };
        let mut answers = Vec::new();
        for one in &mut followed.asked {
            match one.answer.as_mut().map(oneshot::Receiver::try_recv) {
                Some(Ok(answer)) => answers.push((one.to.gate.clone(), answer)),
                None | Some(Err(oneshot::error::TryRecvError::Empty)) => continue,
                // The runtime has ended.
                Some(Err(oneshot::error::TryRecvError::Closed)) => {}
            }
            one.answer = None;
        }
        answers
    }
}

/// Who is asked while a release is there.
fn wanted(plan: &Plan, course: &Course) -> Vec<To> {
    let gates = match course.phase {
        // A canary that has got nothing yet: queries about it have no answer.
        Phase::Waiting => None,
        Phase::Progressing | Phase::Paused | Phase::Promoting => Some(&plan.gates),
        Phase::Idle | Phase::Promoted | Phase::Held | Phase::RolledBack => return Vec::new(),
    };
    let queries = gates.into_iter().flat_map(|gates| &gates.queries).map(|it| To {
        gate: Gate::Query(it.name.clone()),
        text: it.promql.clone(),
        every: it.every,
    });
    let webhooks = gates.into_iter().flat_map(|gates| &gates.webhooks).map(|it| To {
        gate: Gate::Webhook(it.name.clone()),
        text: it.url.clone(),
        every: it.every,
    });
    let step = course.asking.and_then(|at| Some((at, plan.steps.get(at)?)));
    let step = step.map(|(at, step)| To {
        gate: Gate::Step(at),
        text: step.webhook.clone(),
        every: Step::EVERY,
    });
    queries.chain(webhooks).chain(step).collect()
}

/// When somebody is asked first who has not been: about a canary that has just got its first requests nobody knows anything yet.
fn first(course: &Course, to: &To, now: u64) -> u64 {
    match (&to.gate, course.step) {
        (Gate::Step(_), _) | (_, Some(1..)) => now,
        _ => course.since.saturating_add(to.every.as_secs()),
    }
}

fn question(release: &Release, course: &Course, to: &To) -> Ask {
    if let Gate::Query(_) = to.gate {
        let target = match &release.target {
            Target::Deployment(name) | Target::Two { canary: (_, name), .. } => name,
        };
        let namespace = &release.name.namespace;
        return Ask::Query(promql::filled(&to.text, (namespace, target, &course.canary)));
    }
    Ask::Call { url: to.text.clone(), body: Question::new(release, course, &to.gate).to_json() }
}

impl Whom {
    fn start(self: &Arc<Self>, ask: Ask) -> oneshot::Receiver<Answer> {
        let (mut told, answer) = oneshot::channel();
        let whom = Arc::clone(self);
        tokio::spawn(async move {
            let said = tokio::select! {
                biased;
                () = told.closed() => return,
                said = Box::pin(whom.ask(&ask)) => said,
            };
            // Who does not want to know any more is not told.
            drop(told.send(said));
        });
        answer
    }

    async fn ask(&self, ask: &Ask) -> Answer {
        let turns = match ask {
            Ask::Query(_) => &self.queries,
            Ask::Call { .. } => &self.calls,
        };
        // Nobody closes it.
        let _turn = turns.acquire().await;
        let answered = timeout(PATIENCE, async {
            match ask {
                Ask::Query(promql) => self.query(promql).await,
                Ask::Call { url, body } => self.call(url, body.clone()).await,
            }
        });
        let late = |_| Answer::Open(format!("no answer within {PATIENCE:?}"));
        answered.await.unwrap_or_else(late)
    }

    async fn query(&self, promql: &str) -> Answer {
        let Some(prometheus) = &self.prometheus else {
            return Answer::Open(
                "the installation has no Prometheus: controlPlane.prometheus".to_owned(),
            );
        };
        let number = Box::pin(prometheus.number(promql)).await;
        number.map_or_else(Answer::Open, Answer::Number)
    }

    async fn call(&self, url: &str, body: Bytes) -> Answer {
        let called = Box::pin(webhook::call((&self.hosts, self.authority.as_deref()), url, body));
        called.await.unwrap_or_else(Answer::Open)
    }
}

#[cfg(test)]
mod tests;
