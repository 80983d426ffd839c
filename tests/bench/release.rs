//! Releases: how soon a bad version is out of it, how seldom a good one is, and what becomes of requests meanwhile. What takes many
//! releases is simulated, by the code that judges real ones; the rest is real: pods of their own for each version, and requests
//! to them through sidecars, counted by whoever makes them.

mod chance;
mod real;

use std::{fs, path::PathBuf, time::Duration};

use tokio::time::sleep;
use tulle_api::ReleasePhase as Phase;
use tulle_tests::{
    load::{OFF, float, off},
    mesh::{DataPlane, Mesh, binaries},
    scene::{Failure, prove},
};

use self::real::{Ground, Load};
use crate::{
    Size,
    row::{Row, Subject, table},
};

/// Requests to a version before it is rolled back. What stays open was opened before them.
const BEFORE: u64 = 60;
/// A release goes through, or it does not.
const ENDS: [Phase; 2] = [Phase::Held, Phase::Promoted];
/// What is open to a version that is rolled back ends within this time; and how long is looked at.
const CLOSED: f64 = 10.0;
const CLOSING: Duration = Duration::from_secs(11);
/// Requests of each step of which the share is measured.
const COUNTED: u64 = 20_000;
/// Releases in a cluster.
const IN_CLUSTER: usize = 2;

pub(crate) async fn measure(size: Size) -> Result<Vec<Row>, Failure> {
    let mut rows = chance::measure(size.seeds);
    let mesh = Mesh::up("release", &real::files(), DataPlane::Tulle, &[], &raw()?).await?;
    let real = on(&mesh, size).await;
    mesh.down().await?;
    let (found, failures) = real?;
    rows.extend(found);
    if failures.is_empty() {
        return Ok(rows);
    }
    // It takes long enough to be worth something without the rest.
    real::say(table(&rows).trim_start());
    Err(Failure(failures.join("\n")))
}

/// Whole releases in the cluster of `KUBECONFIG`.
///
/// # Errors
/// Also if a request failed, or a good version was stopped.
pub(crate) async fn in_cluster() -> Result<Vec<Row>, Failure> {
    let mesh = Mesh::in_cluster(&real::files(), &raw()?).await?;
    let real = async { whole(&mut Ground::new(&mesh).await?, IN_CLUSTER).await };
    let real = Box::pin(real).await;
    mesh.down().await?;
    let rows: Vec<_> = real?.into_iter().map(|row| row.by("cluster")).collect();
    prove(rows.iter().all(Row::holds), || table(&rows))?;
    Ok(rows)
}

/// Where it is kept what programs print.
fn raw() -> Result<PathBuf, Failure> {
    let raw = binaries().join("bench.raw");
    fs::create_dir_all(&raw)?;
    Ok(raw)
}

/// What was found, and what could not be.
async fn on(mesh: &Mesh, size: Size) -> Result<(Vec<Row>, Vec<String>), Failure> {
    let mut ground = Ground::new(mesh).await?;
    let (many, few) = (size.releases, size.releases.div_ceil(4));
    let parts = [
        ("a dead version", dead(&mut ground, many).await),
        ("one with errors", errors(&mut ground, few).await),
        ("rollbacks", rollback(&mut ground, many).await),
        ("whole releases", whole(&mut ground, few).await),
        ("shares", shares(&ground, size).await),
    ];
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for (what, part) in parts {
        match part {
            Ok(found) => rows.extend(found),
            Err(Failure(why)) => failures.push(format!("{what}: {why}")),
        }
    }
    let failed = vec![float(ground.failed())];
    rows.push(row(("failed_by_no_version_in_all", "requests"), failed).at_most(0.0));
    Ok((rows, failures))
}

fn row(metric: (&'static str, &'static str), runs: Vec<f64>) -> Row {
    Row::new("release", Subject::Tulle, metric, runs).by("real")
}

/// The largest of them as a figure of its own.
fn worst(metric: (&'static str, &'static str), runs: &[f64]) -> Row {
    row(metric, vec![runs.iter().copied().fold(f64::NAN, f64::max)])
}

/// A version that fails half of its requests, of which it gets twelve a second.
async fn dead(ground: &mut Ground<'_>, times: usize) -> Result<Vec<Row>, Failure> {
    ground.plan("steps: [{weight: 10, for: 60s}]").await?;
    let (mut seconds, mut hit) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let load = Load { posts: 120, ..Load::default() };
        let (version, _, told) = ground.release("dead", load, "0.5", &[Phase::Held]).await?;
        let posts = told.of(&version)?;
        let first = posts.first_bad.ok_or_else(|| Failure("it never failed".into()))?;
        seconds.push(posts.last_sent - first);
        hit.push(float(posts.bad));
    }
    Ok(vec![
        row(("dead_first_error_to_last_request", "s"), seconds.clone()).at_most(5.0),
        worst(("dead_first_error_to_last_request_worst", "s"), &seconds).at_most(10.0),
        row(("dead_hit", "requests"), hit),
    ])
}

/// A version that fails one request of twenty; a hundred a second in all.
async fn errors(ground: &mut Ground<'_>, times: usize) -> Result<Vec<Row>, Failure> {
    ground
        .plan("steps: [{weight: 5, for: 10s}, {weight: 10, for: 90s}]\n  gates: {minRequests: 20}")
        .await?;
    let (mut seconds, mut hit, mut stopped) = (Vec::new(), Vec::new(), 0);
    for _ in 0..times {
        let load = Load { posts: 100, ..Load::default() };
        let (version, ended, told) = ground.release("errors", load, "0.05", &ENDS).await?;
        stopped += u32::from(ended == Phase::Held);
        let posts = told.of(&version)?;
        seconds.push(posts.last_sent - posts.first_sent);
        hit.push(float(posts.bad));
    }
    Ok(vec![
        row(("errors_of_5_%_stopped", "releases"), vec![f64::from(stopped)])
            .at_least(float(times as u64)),
        row(("errors_of_5_%_hit", "requests"), hit).at_most(10.0),
        row(("errors_of_5_%_first_to_last_request", "s"), seconds),
    ])
}

/// Somebody rolls back while requests are made and much is open.
async fn rollback(ground: &mut Ground<'_>, times: usize) -> Result<Vec<Row>, Failure> {
    ground.plan("steps: [{weight: 40, for: 1h}]").await?;
    let (mut last, mut said, mut closed, mut open) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..times {
        let version = ground.deploy("0")?;
        ground.is_in_force(1, 0).await?;
        let load = Load { posts: 100, held: 6, ..Load::default() };
        let ((begun, took), told) = ground
            .load("rollback", load, async {
                ground.is_in_force(1, BEFORE).await?;
                let rolled_back = ground.rolls_back().await?;
                sleep(CLOSING).await;
                Ok(rolled_back)
            })
            .await?;
        last.push(told.of(&version)?.last_sent - begun);
        said.push(took);
        let lasting: Vec<_> = told.lasting_at(&version, begun).collect();
        if lasting.is_empty() {
            return Err(Failure("nothing was open to the version".into()));
        }
        open.push(float(lasting.len() as u64));
        // What has not ended has not ended for as long as was looked.
        let ended =
            lasting.iter().map(|one| one.ended.map_or(f64::INFINITY, |ended| ended - begun));
        closed.push(ended.fold(0.0, f64::max));
    }
    Ok(vec![
        row(("rollback_to_last_request", "s"), last.clone()).at_most(1.0),
        worst(("rollback_to_last_request_worst", "s"), &last).at_most(1.0),
        row(("rollback_until_known_in_force", "s"), said.clone()).at_most(1.0),
        worst(("rollback_until_known_in_force_worst", "s"), &said).at_most(1.0),
        row(("rollback_until_all_is_closed", "s"), closed.clone()).at_most(CLOSED),
        worst(("rollback_until_all_is_closed_worst", "s"), &closed).at_most(CLOSED),
        row(("rollback_was_open", "streams"), open),
    ])
}

/// A good version, from nothing to everything.
async fn whole(ground: &mut Ground<'_>, times: usize) -> Result<Vec<Row>, Failure> {
    ground
        .plan("steps: [{weight: 10, for: 4s}, {weight: 25, for: 4s}]\n  gates: {minRequests: 30}")
        .await?;
    let (mut failed, mut stopped) = (Vec::new(), 0);
    let (mut posts, mut streams, mut talks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..times {
        let load = Load { posts: 100, streams: 6, held: 0 };
        let (_, ended, told) = ground.release("whole", load, "0", &ENDS).await?;
        stopped += u32::from(ended == Phase::Held);
        failed.push(float(told.failed()));
        posts.push(float(told.all()));
        streams.push(float(told.done.grpc));
        talks.push(float(told.done.tcp));
    }
    Ok(vec![
        row(("good_version_stopped", "releases"), vec![f64::from(stopped)]).at_most(0.0),
        worst(("whole_release_failed_worst", "requests"), &failed).at_most(0.0),
        row(("whole_release_posts", "requests"), posts),
        row(("whole_release_grpc_streams", "streams"), streams),
        row(("whole_release_tcp", "talks"), talks),
    ])
}

/// The share that is asked for, and the one that is.
async fn shares(ground: &Ground<'_>, size: Size) -> Result<Vec<Row>, Failure> {
    let all: &[(u16, &str)] = &[
        (1, "share_off_at_1_%"),
        (5, "share_off_at_5_%"),
        (25, "share_off_at_25_%"),
        (40, "share_off_at_40_%"),
    ];
    let requests = COUNTED / size.part().min(10);
    let mut rows = Vec::new();
    for (step, (percent, metric)) in (1..).zip(all) {
        let (new, all) = ground.share(step, requests).await?;
        let z = off(new, all, f64::from(*percent));
        real::say(&format!("{percent} %: {new} of {all}, z = {z:.2}"));
        rows.push(row((metric, "std errors"), vec![z.abs()]).at_most(OFF));
    }
    Ok(rows)
}
