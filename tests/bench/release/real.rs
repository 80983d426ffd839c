//! A mesh with a service whose Deployment gets one version after the other, under load.

use std::{
    cell::Cell,
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;
use tokio::{
    join,
    time::{Instant, sleep},
};
use tulle_api::ReleasePhase as Phase;
use tulle_tests::{
    load::{Caller, json},
    mesh::{Files, Mesh, Release},
    scene::{Failure, prove, until},
};

const MESH: [(&str, &str); 2] = [
    ("namespaces.yaml", include_str!("namespaces.yaml")),
    ("mesh.yaml", include_str!("mesh.yaml")),
];
const CART: &str = include_str!("cart.yaml");
const SHELF: &str = include_str!("shelf.yaml");
const LOAD: &str = include_str!("load.py");
/// wrk's script.
const VERSIONS: (&str, &str) = ("/tmp/versions.lua", include_str!("versions.lua"));
/// How long a release may take here to come anywhere.
const PATIENCE: Duration = Duration::from_secs(150);
/// How long is looked at whether nothing comes any more.
const AFTER: Duration = Duration::from_secs(3);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The mesh, how many versions there have been, and how many requests failed that no version has failed.
pub(super) struct Ground<'a> {
    mesh: &'a Mesh,
    caller: Caller<'a>,
    versions: u32,
    failed: Cell<u64>,
}

/// As `load.py` has them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    pub(super) posts: u32,
    pub(super) streams: u32,
    pub(super) held: u32,
}

/// What `load.py` says. Times are seconds since 1970.
#[derive(Debug, Deserialize)]
pub(super) struct Told {
    /// By who answered.
    posts: BTreeMap<String, Posts>,
    failures: Vec<String>,
    pub(super) done: Done,
    lasting: Vec<Lasting>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Posts {
    all: u64,
    pub(super) bad: u64,
    pub(super) first_bad: Option<f64>,
    pub(super) first_sent: f64,
    pub(super) last_sent: f64,
}

/// That went well.
#[derive(Debug, Deserialize)]
pub(super) struct Done {
    pub(super) grpc: u64,
    pub(super) tcp: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Lasting {
    version: String,
    opened: f64,
    /// Not while the load lasted, if none.
    pub(super) ended: Option<f64>,
}

/// What is in the mesh from the beginning.
pub(super) fn files() -> Files {
    MESH.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

impl<'a> Ground<'a> {
    /// Waits until the mesh is there, and the first version serves.
    pub(super) async fn new(mesh: &'a Mesh) -> Result<Self, Failure> {
        mesh.ready().await?;
        let caller = Caller::new(mesh, "bench", "caller", "caller").await?;
        let mut ground = Self { mesh, caller, versions: 0, failed: Cell::default() };
        ground.deploy("0")?;
        serves(mesh, "cart").await?;
        Ok(ground)
    }

    /// Puts the Release there, with this in its spec.
    pub(super) async fn plan(&self, spec: &str) -> Result<(), Failure> {
        let release = "apiVersion: tulle.dev/v1alpha1\nkind: Release\nmetadata: {name: cart, namespace: bench}\n\
                       spec:\n  target: {kind: Deployment, name: cart}\n  ";
        self.mesh.save("release.yaml", &format!("{release}{spec}\n"))?;
        self.waits("cart", "known", |release| !release.stable.is_empty()).await.map(drop)
    }

    /// Puts the next version there, of whose answers so many fail; its name.
    pub(super) fn deploy(&mut self, fails: &str) -> Result<String, Failure> {
        self.versions += 1;
        let version = self.versions.to_string();
        self.save(&version, fails)?;
        Ok(version)
    }

    fn save(&self, version: &str, fails: &str) -> Result<(), Failure> {
        let yaml = CART.replace("\"RUN\"", &format!("\"{version}\""));
        self.mesh.save("cart.yaml", &yaml.replace("\"SHARE\"", &format!("\"{fails}\"")))
    }

    /// Puts the next version there under load: its name, in which of these phases its release ended, and what came of the load.
    pub(super) async fn release(
        &mut self,
        label: &str,
        load: Load,
        fails: &str,
        phases: &[Phase],
    ) -> Result<(String, Phase, Told), Failure> {
        self.versions += 1;
        let version = self.versions.to_string();
        let before = get(self.mesh, "cart").await?;
        let work = async {
            self.save(&version, fails)?;
            let of = |release: &Release| (release.stable.clone(), release.canary.clone());
            let ends =
                |release: &Release| phases.contains(&release.phase) && of(release) != of(&before);
            let ended = self.waits("cart", &format!("{phases:?}"), ends).await?;
            sleep(AFTER).await;
            Ok(ended.phase)
        };
        let (phase, told) = self.load(label, load, work).await?;
        Ok((version, phase, told))
    }

    /// Does `work` under load.
    pub(super) async fn load<T>(
        &self,
        label: &str,
        Load { posts, streams, held }: Load,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<(T, Told), Failure> {
        let numbers = [posts, streams, held].map(|number| number.to_string());
        let [posts, streams, held] = &numbers;
        let label = format!("release-{label}");
        let program = ["python3", "-c", LOAD, posts, streams, held];
        let both = async {
            join!(self.caller.run(&label, &program), async {
                let done = work.await;
                self.caller.interrupt("python3").await?;
                done
            })
        };
        let (said, done) = Box::pin(both).await;
        let (done, told): (T, Told) = (done?, json(&said?)?);
        for why in told.why() {
            say(&format!("{label}: {why}"));
        }
        self.failed.set(self.failed.get() + told.failures.len() as u64);
        Ok((done, told))
    }

    /// How many requests have failed that no version has failed.
    pub(super) fn failed(&self) -> u64 {
        self.failed.get()
    }

    /// Waits until all proxies are in this step, from 1 on, and the new version has had so many requests in it.
    pub(super) async fn is_in_force(&self, step: usize, requests: u64) -> Result<(), Failure> {
        let here = |release: &Release| {
            release.step == step && release.in_force && release.requests >= requests
        };
        self.waits("cart", &format!("in step {step}"), here).await.map(drop)
    }

    /// Rolls back by the command: when that began, and how many seconds later it said that it is in force everywhere.
    pub(super) async fn rolls_back(&self) -> Result<(f64, f64), Failure> {
        let now = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.map(|now| now.as_secs_f64()).map_err(|error| Failure(error.to_string()))
        };
        let begun = now()?;
        let said =
            self.mesh.ask(&["release", "rollback", "bench/cart", "--reason", "bench"]).await?;
        prove(said.contains("in force on"), || said.clone())?;
        Ok((begun, now()? - begun))
    }

    /// Of so many requests or more in this step, from 1 on, how many the new version answered, and all.
    pub(super) async fn share(&self, step: usize, requests: u64) -> Result<(u64, u64), Failure> {
        let saved = |version: &str| {
            let yaml = SHELF.replace("\"RUN\"", &format!("\"{version}\""));
            self.mesh.save("shelf.yaml", &yaml)
        };
        if step == 1 {
            saved("old")?;
            serves(self.mesh, "shelf").await?;
            self.waits("shelf", "known", |release| release.phase == Phase::Idle).await?;
            saved("new")?;
            self.caller.file(VERSIONS.0, VERSIONS.1).await?;
        } else {
            self.mesh.ask(&["release", "step", "bench/shelf"]).await?;
        }
        let here = |release: &Release| release.step == step && release.in_force;
        self.waits("shelf", "in force", here).await?;
        let (mut new, mut all) = (0, 0);
        let url = "http://shelf.bench/";
        let args = ["-t", "1", "-c", "16", "-d", "2s", "-s", VERSIONS.0, url];
        while all < requests {
            let (counted, said) = self.caller.wrk(&format!("share-{step}"), &args).await?;
            let bad = counted.but(&["2xx"]);
            prove(bad.is_empty(), || format!("failed requests: {}", bad.join("; ")))?;
            for (version, count) in said.lines().filter_map(read) {
                all += count;
                new += if version == "new" { count } else { 0 };
            }
        }
        let still = get(self.mesh, "shelf").await?;
        prove(here(&still), || format!("not step {step} any more: {still:?}"))?;
        Ok((new, all))
    }

    async fn waits(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&Release) -> bool,
    ) -> Result<Release, Failure> {
        let since = Instant::now();
        loop {
            // Right after the control plane's start nobody steers yet.
            match get(self.mesh, name).await {
                Ok(release) if wanted(&release) => return Ok(release),
                other => prove(since.elapsed() < PATIENCE, || {
                    format!("{name} is not {what} after {PATIENCE:?}: {other:?}")
                })?,
            }
            sleep(LOOK).await;
        }
    }
}

/// `version new 17`.
fn read(line: &str) -> Option<(&str, u64)> {
    let (version, count) = line.strip_prefix("version ")?.split_once(' ')?;
    Some((version, count.parse().ok()?))
}

/// Waits until both pods of a Deployment are ready.
async fn serves(mesh: &Mesh, name: &str) -> Result<(), Failure> {
    until(name, PATIENCE, async || {
        let pods = mesh.status().await?.pods;
        Ok(pods.iter().filter(|pod| pod.name.starts_with(name) && pod.ready).count() == 2)
    })
    .await
}

async fn get(mesh: &Mesh, name: &str) -> Result<Release, Failure> {
    mesh.release(&format!("bench/{name}")).await
}

impl Told {
    /// What a version answered.
    pub(super) fn of(&self, version: &str) -> Result<&Posts, Failure> {
        self.posts.get(version).ok_or_else(|| Failure(format!("version {version} got nothing")))
    }

    /// What failed, and how often.
    fn why(&self) -> Vec<String> {
        let mut times = BTreeMap::<_, u64>::new();
        for failure in &self.failures {
            *times.entry(failure).or_default() += 1;
        }
        times.into_iter().map(|(failure, times)| format!("{times} times: {failure}")).collect()
    }

    /// How many requests, streams and conversations failed, whoever failed them.
    pub(super) fn failed(&self) -> u64 {
        self.failures.len() as u64 + self.posts.values().map(|posts| posts.bad).sum::<u64>()
    }

    /// How many requests were answered.
    pub(super) fn all(&self) -> u64 {
        self.posts.values().map(|posts| posts.all).sum()
    }

    /// What was open to a version then.
    pub(super) fn lasting_at(&self, version: &str, then: f64) -> impl Iterator<Item = &Lasting> {
        let of = move |one: &&Lasting| one.version == version && one.opened < then;
        self.lasting.iter().filter(of).filter(move |one| one.ended.is_none_or(|ended| ended > then))
    }
}

#[expect(clippy::print_stdout, reason = "what happened is said beside the figures")]
pub(super) fn say(text: &str) {
    println!("   {text}");
}
