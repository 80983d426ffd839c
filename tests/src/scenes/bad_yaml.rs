//! Whatever a person or an editor can do wrong is named, and requests go on under the good rule beside it.

mod cluster;

use std::{fs, time::Duration};

use tokio::time::{Instant, sleep};

use tulle_tests::{
    load::{Answers, Caller, REVIEWS, float},
    mesh::{Edit, Mesh, Place, Problem},
    scene::{Failure, Figures, Stage, prove, say},
};

/// The rule that must stay in force.
const GOOD: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: good, namespace: bookstore}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews}]
  rules:
  - filters:
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: x-rule, value: good}]}
    backendRefs: [{name: reviews-v1, port: 9080}, {name: reviews-v2, port: 9080}]
";
const MISTAKES: &str = include_str!("bad_yaml/mistakes.yaml");
/// No text.
const JUNK: [u8; 8] = [0x7f, b'E', b'L', b'F', 0x02, 0x00, 0xff, 0xfe];
/// The control plane's program, as the kernel abbreviates the name.
const PROGRAM: &str = "tulle-control-p";
/// How long it may take until all is said.
const PATIENCE: Duration = Duration::from_secs(10);

/// A mistake, and what must be said of it.
#[derive(Debug)]
struct Mistake {
    file: String,
    text: String,
    line: usize,
    field: String,
    reason: String,
}

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let control = stage.is_control();
    let mesh = stage.mesh().await?;
    let before = mesh.status().await?.problems;
    prove(before.is_empty(), || format!("something is wrong already:\n{}", all(&before)))?;
    let caller = Caller::client(mesh).await?;
    let good = mesh.edit("good.yaml", GOOD)?;
    caller.meets(REVIEWS, "good").await?;
    let mischief = async {
        let done = match (mesh.place, control) {
            (Place::Cluster, _) => cluster::mischief(mesh, control).await,
            (Place::Machine, false) => mischief(mesh, &good).await,
            (Place::Machine, true) => {
                mesh.signal("STOP", PROGRAM).await?;
                let done = mischief(mesh, &good).await;
                mesh.signal("CONT", PROGRAM).await?;
                done
            }
        };
        caller.interrupt("wrk").await?;
        done
    };
    let (answers, named) = tokio::join!(caller.reviews("10-load", "60s"), mischief);
    let (answers, (named, slowest)) = (answers?, named?);
    let stray = answers.iter().find(|some| some.rule != "good");
    prove(stray.is_none(), || format!("answers without the good rule: {stray:?}"))?;
    let total = float(Answers::total(&answers));
    Ok(Figures::from([
        ("mistakes_named", named),
        ("slowest_to_be_named_ms", slowest.as_secs_f64() * 1e3),
        ("answers_under_the_good_rule", total),
        ("answers_without_it", 0.0),
    ]))
}

/// Makes all mistakes and waits until each is named. How many, and how long the slowest took.
async fn mischief(mesh: &Mesh, good: &Edit) -> Result<(f64, Duration), Failure> {
    let mistakes = mistakes()?;
    let saved = Instant::now();
    let mut edits = Vec::new();
    for mistake in &mistakes {
        edits.push(mesh.edit(&mistake.file, &mistake.text)?);
    }
    for mistake in &mistakes {
        let said = named(mesh, saved, |problem| mistake.is_named(problem)).await?;
        say(text(&said));
    }
    let mut slowest = saved.elapsed();
    drop(edits);
    gone(mesh).await?;

    let damages = damages();
    for damage in damages {
        let saved = Instant::now();
        fs::write(mesh.path("good.yaml"), damage)?;
        let said = named(mesh, saved, |problem| problem.place.contains("/good.yaml:")).await?;
        say(text(&said));
        slowest = slowest.max(saved.elapsed());
        good.save(GOOD)?;
        gone(mesh).await?;
    }
    Ok((count(mistakes.len() + damages.len()), slowest))
}

/// What can become of the good rule's file: half of it, and no text at all.
fn damages() -> [&'static [u8]; 2] {
    let half = GOOD.find("Service, name").unwrap_or_default();
    [GOOD.as_bytes().get(..half).unwrap_or_default(), &JUNK]
}

fn count(of: usize) -> f64 {
    float(u64::try_from(of).unwrap_or(u64::MAX))
}

/// Waits until something is said for which `wanted` holds.
async fn named(
    mesh: &Mesh,
    saved: Instant,
    wanted: impl Fn(&Problem) -> bool,
) -> Result<Problem, Failure> {
    loop {
        let mut problems = mesh.status().await?.problems;
        if let Some(at) = problems.iter().position(&wanted) {
            return Ok(problems.swap_remove(at));
        }
        prove(saved.elapsed() < PATIENCE, || format!("not named; there is\n{}", all(&problems)))?;
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until nothing is wrong any more.
async fn gone(mesh: &Mesh) -> Result<(), Failure> {
    let start = Instant::now();
    loop {
        let problems = mesh.status().await?.problems;
        if problems.is_empty() {
            return Ok(());
        }
        prove(start.elapsed() < PATIENCE, || format!("still said:\n{}", all(&problems)))?;
        sleep(Duration::from_millis(20)).await;
    }
}

fn mistakes() -> Result<Vec<Mistake>, Failure> {
    MISTAKES.split("---\n").map(Mistake::read).collect()
}

impl Mistake {
    fn read(text: &str) -> Result<Self, Failure> {
        let read = || {
            let at = text.lines().position(|line| line.contains(" # here "))?;
            let (_, told) = text.lines().nth(at)?.split_once(" # here ")?;
            let (field, reason) = told.split_once(": ")?;
            let (_, rest) = text.split_once("{name: ")?;
            let name = rest.split(',').next()?;
            Some(Self {
                file: format!("mistake-{name}.yaml"),
                text: text.to_owned(),
                line: at + 1,
                field: field.to_owned(),
                reason: reason.to_owned(),
            })
        };
        read().ok_or_else(|| Failure(format!("a mistake that says not what it is:\n{text}")))
    }

    /// The name of its object.
    fn name(&self) -> &str {
        let name = self.file.strip_prefix("mistake-").and_then(|rest| rest.strip_suffix(".yaml"));
        name.unwrap_or_default()
    }

    fn is_named(&self, problem: &Problem) -> bool {
        problem.place.ends_with(&format!("/{}:{}", self.file, self.line))
            && problem.field.as_deref().unwrap_or_default() == self.field
            && problem.message.contains(&self.reason)
    }
}

/// As `tulle local status` shows it, without the directory.
fn text(problem: &Problem) -> String {
    let place = problem.place.rsplit('/').next().unwrap_or_default();
    let field = problem.field.as_deref().unwrap_or_default();
    let parts = [place, &problem.object, field, &problem.message];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}

fn all(problems: &[Problem]) -> String {
    problems.iter().map(text).collect::<Vec<_>>().join("\n")
}
