//! `tulle release simulate`: what the plan would do to a bad version, and to a good one.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use kube::{
    Api,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use rand::{SeedableRng as _, rngs::StdRng};
use serde_json::Value;
use tulle_api::{Percent, ReleasePhase as Phase};
use tulle_control_plane::{
    convert::convert,
    files,
    release::{Answers, Outcome, Plan, Traffic, simulate},
    world::objects::Object,
};

use super::{
    canvas::{count, share, span},
    desk::Desk,
};
use crate::{
    cluster::chain,
    observe::{Asked, Error, Source, Where, label},
    table::Table,
};

/// How long a bad version would be let in, and how many requests it would spoil.
///
/// The plan of a Release is followed many times with made-up requests, judged by the code that judges real ones; and as often with a
/// version that is no worse than the one before. Nothing is sent to anybody. Approvals, queries and webhooks are taken for a yes,
/// and the canary's pods for a quarter of all. AFTER: half of those that end so have by then; SPOILED: failed requests of the new
/// version; behind each what holds for nine of ten.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tulle release simulate reviews -n shop --errors 2% --rps 100\n  \
    tulle release simulate -f release.yaml --errors 0.5% --stable-errors 0.1% --rps 20\n  \
    tulle release simulate -f release.yaml --slow 5% --rps 500 --seeds 1000")]
pub(super) struct Args {
    /// The release: NAME or NAMESPACE/NAME.
    #[arg(value_name = "NAME", required_unless_present = "file")]
    release: Option<String>,
    /// Its namespace.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = label)]
    namespace: Option<String>,
    /// The Release in this YAML instead, `-` for stdin.
    #[arg(short, long, value_name = "FILE", conflicts_with = "release")]
    file: Option<PathBuf>,
    /// Of the new version's answers, those that are errors.
    #[arg(long, value_name = "PERCENT", default_value = "0.1%")]
    errors: Percent,
    /// Of the old version's.
    #[arg(long, value_name = "PERCENT", default_value = "0.1%")]
    stable_errors: Percent,
    /// Of the new version's answers, those that are slower than nearly all of the old one's; of its own those are 1%, or what
    /// `gates.latency.quantile` leaves.
    #[arg(long, value_name = "PERCENT")]
    slow: Option<Percent>,
    /// Requests per second, to both versions.
    #[arg(long, value_name = "NUMBER", value_parser = rps)]
    rps: f64,
    /// How many releases are made up.
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: u64,
    #[command(flatten)]
    place: Where,
}

fn rps(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    let sensible = number.filter(|rps| *rps > 0.0 && *rps <= 1e6);
    sensible.ok_or_else(|| "write a number of requests per second".to_owned())
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) bad: Traffic,
    pub(super) seeds: u64,
}

impl Args {
    pub(super) async fn run(&self) -> Result<ExitCode, Error> {
        let (name, plan) = match &self.file {
            Some(file) => read(file)?,
            None => self.ask_cluster().await?,
        };
        let part = |percent: Percent| f64::from(percent.ppm()) / 1e6;
        // By what slow is, so many of the stable version's are.
        let slow = 1.0 - plan.gates.latency.map_or(0.99, |latency| latency.quantile);
        let stable = Answers { bad: part(self.stable_errors), slow };
        let canary = Answers { bad: part(self.errors), slow: self.slow.map_or(slow, part) };
        let question =
            Question { bad: Traffic { rps: self.rps, canary, stable }, seeds: self.seeds };
        let text = tell(&name, plan, question);
        io::stdout().lock().write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }

    async fn ask_cluster(&self) -> Result<(String, Plan), Error> {
        let text = self.release.as_deref().unwrap_or_default();
        let asked = Asked::read(text, self.namespace.as_deref())?;
        let desk = Desk::find(&self.place).await?;
        let Source::Cluster(tunnel) = &desk.source else {
            let told = "`tulle local` has its plan from a file: name that one by -f";
            return Err(Error::Usage(told.to_owned()));
        };
        let Asked { namespace, name } = desk.full(&asked).await?;
        let namespace = namespace.unwrap_or_default();
        let kind = GroupVersionKind::gvk("tulle.dev", "v1alpha1", "Release");
        let resource = ApiResource::from_gvk_with_plural(&kind, "releases");
        let api: Api<DynamicObject> =
            Api::namespaced_with(tunnel.client().clone(), &namespace, &resource);
        let failed = |why: String| Error::Usage(format!("Release {namespace}/{name}: {why}"));
        let object = api.get(&name).await.map_err(|error| failed(chain(&error)))?;
        plan(&serde_json::to_value(object)?).map_err(failed)
    }
}

fn read(path: &Path) -> Result<(String, Plan), Error> {
    let file = path.display();
    let failed = |why: &dyn std::fmt::Display| Error::Usage(format!("{file}: {why}"));
    let content = if path == Path::new("-") {
        let mut content = Vec::new();
        io::stdin().lock().read_to_end(&mut content).map(|_| content)
    } else {
        fs::read(path)
    };
    let content = content.map_err(|error| failed(&error))?;
    let documents = files::values(&content).map_err(|unreadable| failed(&unreadable.reason))?;
    for (line, value) in documents {
        let value = value.map_err(|unreadable| failed(&unreadable.reason))?;
        if value["kind"] == "Release" {
            return plan(&value).map_err(|why| failed(&format!("line {line}: {why}")));
        }
    }
    Err(failed(&"there is no Release in it"))
}

/// Its name, and what it says.
pub(super) fn plan(value: &Value) -> Result<(String, Plan), String> {
    let outcome = convert(value);
    match outcome.object {
        Some(Object::Release(release)) => Ok((release.name.to_string(), release.plan.clone())),
        _ => {
            let faults =
                outcome.faults.iter().map(|fault| format!("{}: {}", fault.field, fault.reason));
            Err(faults.collect::<Vec<_>>().join("; "))
        }
    }
}

/// What becomes of it.
pub(super) fn tell(name: &str, mut plan: Plan, question: Question) -> String {
    plan.approve_promotion = false;
    plan.steps.iter_mut().for_each(|step| step.approve = false);
    let Question { bad, seeds } = question;
    let good = Traffic { canary: bad.stable, ..bad };
    let of =
        |answers: Answers| format!("{} errors, {} slow", share(answers.bad), share(answers.slow));
    let mut text = format!(
        "{name} at {} requests/s, {seeds} times\n\na new version with {}; the old one with {}:\n",
        bad.rps,
        of(bad.canary),
        of(bad.stable)
    );
    text += &outcomes(&plan, bad, seeds);
    if bad.canary != bad.stable {
        text += "\na new version that is as the old one:\n";
        text += &outcomes(&plan, good, seeds);
    }
    text
}

/// How so many releases end.
fn outcomes(plan: &Plan, traffic: Traffic, seeds: u64) -> String {
    let longest = plan.deadline.as_secs().saturating_add(1);
    let all: Vec<_> = (0..seeds)
        .map(|seed| simulate(plan, &mut StdRng::seed_from_u64(seed), longest, |_, _| vec![traffic]))
        .collect();
    let mut table = Table::new(&["OUTCOME", "SHARE", "AFTER", "9 OF 10", "SPOILED", "9 OF 10"]);
    for (what, phases) in [
        ("stopped", &[Phase::Held, Phase::RolledBack][..]),
        ("paused", &[Phase::Paused]),
        ("promoted", &[Phase::Promoted]),
        ("not ended", &[Phase::Waiting, Phase::Progressing, Phase::Promoting]),
    ] {
        let these: Vec<_> = all.iter().filter(|one| phases.contains(&one.phase)).collect();
        if these.is_empty() {
            continue;
        }
        #[expect(clippy::cast_precision_loss, reason = "it is shown with three digits")]
        let part = these.len() as f64 / seeds as f64;
        let [half, most] = [0.5, 0.9].map(|at| span(quantile(&these, |one| one.seconds, at)));
        let [hit, hits] = [0.5, 0.9].map(|at| count(quantile(&these, |one| one.hit, at)));
        table.row([what.to_owned(), share(part), half, most, hit, hits]);
    }
    let mut text = table.to_string();
    if all.iter().any(|one| one.phase == Phase::Paused) {
        text +=
            "paused: it waits for somebody, for too few requests came (lowTraffic) or by onFail\n";
    }
    text
}

fn quantile(all: &[&Outcome], of: impl Fn(&Outcome) -> u64, at: f64) -> u64 {
    let mut values: Vec<_> = all.iter().map(|one| of(one)).collect();
    values.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a list of at most ten thousand"
    )]
    let place = ((values.len() as f64 * at).ceil() as usize).saturating_sub(1);
    values.get(place).copied().unwrap_or_default()
}
