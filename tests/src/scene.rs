//! What a scene is, and the stage that it plays on.

mod part;

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;
use tokio::time::{Instant, sleep};

pub use self::part::{Part, SIDECARS, Without};
use crate::{
    mesh::{self, DataPlane, Files, Mesh, Place},
    traces::{CONTROL_PLANE, Traces},
};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What a scene measured, by name; the name ends in the unit: `_s`, `_ms`, `_percent`, `_bytes`, or nothing for
/// a number of things.
pub type Figures = BTreeMap<&'static str, f64>;

/// Why a scene failed, for a person.
#[derive(Debug)]
pub struct Failure(pub String);

/// A scene: something that a user would do, and its proof.
#[derive(Debug)]
pub struct Scene {
    pub number: u32,
    pub name: &'static str,
    /// What it does, for a person, in a sentence or two.
    pub does: &'static str,
    /// What the mesh does for it, without which it fails.
    pub part: Part,
    pub run: Run,
}

/// A scene's code.
pub type Run = for<'a> fn(&'a mut Stage) -> BoxFuture<'a, Result<Figures, Failure>>;

/// A future on the heap, so that scenes of different types stand in one list.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + 'a>>;

/// What the scenes play on: one mesh, brought up by the first that needs it. Whoever changes its YAML does it
/// by [`Mesh::edit`], so that the next finds it as it was.
#[derive(Debug)]
pub struct Stage {
    /// The sidecar.
    pub data_plane: DataPlane,
    /// Where the mesh is.
    pub place: Place,
    /// A few thousand requests have to do.
    pub small: bool,
    /// MiB of the largest upload.
    pub upload: u32,
    /// What the control of this scene leaves out.
    without: Option<Without>,
    before: Traces,
    mesh: Option<Mesh>,
    /// What that was made of.
    made_of: (DataPlane, Files, Vec<String>),
    raw: PathBuf,
}

/// How a scene ended.
#[derive(Debug)]
pub struct Outcome {
    number: u32,
    name: &'static str,
    seconds: f64,
    figures: Figures,
    failure: Option<String>,
    /// What it did without, and so had to fail.
    without: Option<Part>,
}

impl Stage {
    /// `raw` is the folder for what load generators say; what is there from the last time goes.
    pub fn new(raw: &Path) -> io::Result<Self> {
        if raw.exists() {
            fs::remove_dir_all(raw)?;
        }
        fs::create_dir_all(raw)?;
        Ok(Self {
            data_plane: DataPlane::Tulle,
            place: Place::Machine,
            small: false,
            upload: 256,
            without: None,
            before: Traces::now(),
            mesh: None,
            made_of: (DataPlane::Tulle, Files::new(), Vec::new()),
            raw: raw.to_owned(),
        })
    }

    /// The folder for what load generators say.
    pub fn raw(&self) -> &Path {
        &self.raw
    }

    /// Leaves that out from now on.
    pub fn do_without(&mut self, part: Option<Part>) {
        self.without = part.map(|part| part.without);
    }

    /// Whether the mesh's part is left out.
    pub fn is_control(&self) -> bool {
        self.without.is_some()
    }

    /// The mesh of the sample, up and ready.
    pub async fn mesh(&mut self) -> Result<&Mesh, Failure> {
        let files = mesh::sample(self.data_plane)?;
        self.of("sample", files, &[]).await?.ready().await?;
        self.there()
    }

    /// Brings the mesh of the sample up and returns while it still starts.
    pub async fn begin(&mut self) -> Result<&Mesh, Failure> {
        let files = mesh::sample(self.data_plane)?;
        self.of("sample", files, &[]).await
    }

    /// The mesh of this YAML and these options of `up`, ready.
    pub async fn mesh_of(&mut self, yaml: &str, options: &[&str]) -> Result<&Mesh, Failure> {
        let files = Files::from([("mesh.yaml".to_owned(), yaml.to_owned())]);
        self.of("own", files, options).await?.ready().await?;
        self.there()
    }

    /// The mesh of these files; the last is taken down, unless it was made of the same.
    async fn of(
        &mut self,
        name: &str,
        mut files: Files,
        options: &[&str],
    ) -> Result<&Mesh, Failure> {
        for text in files.values_mut() {
            *text = self.without.map_or_else(|| text.clone(), |without| without.applied(text));
        }
        let options_kept = options.iter().map(|option| (*option).to_owned()).collect();
        let made_of = (self.data_plane, files, options_kept);
        if self.made_of != made_of
            && let Some(mesh) = self.mesh.take()
        {
            mesh.down().await?;
        }
        if self.mesh.is_none() {
            let (files, raw) = (&made_of.1, &self.raw);
            let mesh = match self.place {
                Place::Machine => Mesh::up(name, files, self.data_plane, options, raw).await?,
                Place::Cluster => Mesh::in_cluster(files, raw).await?,
            };
            self.mesh = Some(mesh);
            self.made_of = made_of;
        }
        if let Some(mesh) = &mut self.mesh {
            mesh.without = self.without;
        }
        self.there()
    }

    fn there(&self) -> Result<&Mesh, Failure> {
        self.mesh.as_ref().ok_or_else(|| Failure("there is no mesh".into()))
    }

    /// Takes everything down and tells what is left on the machine that was not there before.
    pub async fn strike(self) -> Result<Figures, Failure> {
        if let Some(mesh) = self.mesh {
            mesh.down().await?;
        }
        let mut left = self.before.left();
        if self.place == Place::Cluster {
            // The control plane is not the scenes' own there; one of them lets it start anew.
            left.retain(|trace| !trace.ends_with(CONTROL_PLANE));
        }
        if left.is_empty() { Ok(Figures::new()) } else { Err(Failure(left.join("\n"))) }
    }
}

impl Outcome {
    pub fn new(
        number: u32,
        name: &'static str,
        took: Duration,
        result: Result<Figures, Failure>,
        without: Option<Part>,
    ) -> Self {
        let (figures, failure) = match result {
            Ok(figures) => (figures, None),
            Err(Failure(why)) => (Figures::new(), Some(why)),
        };
        let seconds = took.as_secs_f64();
        Self { number, name, seconds, figures, failure, without }
    }

    /// Whether it ended as it must: well, or without the mesh's part not so.
    pub fn as_it_must(&self) -> bool {
        match (&self.failure, self.without) {
            (failure, None) => failure.is_none(),
            (None, Some(_)) => false,
            (Some(why), Some(part)) => why.contains(part.symptom),
        }
    }

    /// A line of the final table.
    pub fn row(&self) -> String {
        // What is no scene has no number.
        let number = if self.number == 0 { String::new() } else { self.number.to_string() };
        format!("{number:>4}  {}  {:>6.1} s  {}", self.verdict(), self.seconds, self.name)
    }

    fn verdict(&self) -> &'static str {
        match (self.without.is_some(), self.as_it_must()) {
            (false, true) => "pass",
            (false, false) => "FAIL",
            (true, true) => "failed, as it must",
            (true, false) if self.failure.is_some() => "FAILED OF SOMETHING ELSE",
            (true, false) => "PASSED, AND MUST NOT",
        }
    }

    /// How long all took together.
    pub fn total(all: &[Self]) -> f64 {
        all.iter().map(|outcome| outcome.seconds).sum()
    }

    /// All outcomes as `{"scenes": […]}`.
    pub fn json(all: &[Self]) -> String {
        let scenes: Vec<_> = all
            .iter()
            .map(|o| {
                json!({
                    "number": o.number, "name": o.name, "passed": o.failure.is_none(),
                    "seconds": o.seconds, "figures": o.figures, "failure": o.failure,
                    "without": o.without.map(|part| part.name),
                })
            })
            .collect();
        format!("{:#}\n", json!({ "scenes": scenes }))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<_> = self.figures.iter().map(|(name, value)| shown(name, *value)).collect();
        let width = named.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, value) in named {
            writeln!(f, "    {name:width$}  {value}")?;
        }
        write!(f, "    {} ({:.1} s)", self.verdict(), self.seconds)?;
        match &self.failure {
            None => Ok(()),
            Some(why) => write!(f, ": {}", why.trim_end().replace('\n', "\n    ")),
        }
    }
}

/// A figure's name without its unit, and its value with it.
fn shown(name: &str, value: f64) -> (String, String) {
    let units = [("_s", " s"), ("_ms", " ms"), ("_percent", " %"), ("_bytes", " bytes"), ("", "")];
    let known = units.iter().find_map(|(suffix, unit)| Some((name.strip_suffix(suffix)?, unit)));
    let (name, unit) = known.unwrap_or((name, &""));
    let digits = if value.fract() == 0.0 { 0 } else { 3 };
    (name.replace('_', " "), format!("{value:>9.digits$}{unit}"))
}

/// Tells what a scene has just done.
#[expect(clippy::print_stdout, reason = "what it is for")]
pub fn say(text: impl fmt::Display) {
    println!("    {text}");
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Fails with `text` unless `holds`.
pub fn prove(holds: bool, text: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure(text())) }
}

/// Waits until it holds, no longer than `patience`.
pub async fn until(
    what: &str,
    patience: Duration,
    mut holds: impl AsyncFnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let since = Instant::now();
    while !holds().await? {
        prove(since.elapsed() < patience, || format!("not after {patience:?}: {what}"))?;
        sleep(LOOK).await;
    }
    Ok(())
}
