//! What a scene is, and the stage that it plays on.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;
use serde_json::json;

use crate::{
    mesh::{DataPlane, Mesh},
    traces::Traces,
};

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
    /// The mesh's part is switched off, by not injecting sidecars: scenes must fail. They should do so because
    /// of what callers met, and not for the lack of a sidecar's log.
    pub control: bool,
    /// The sidecar, unless that is switched off.
    pub data_plane: DataPlane,
    /// A few thousand requests have to do.
    pub small: bool,
    before: Traces,
    mesh: Option<Mesh>,
    /// What that was made of, if it is not the sample.
    made_of: Vec<String>,
    raw: PathBuf,
}

/// How a scene ended.
#[derive(Debug, Serialize)]
pub struct Outcome {
    number: u32,
    name: &'static str,
    seconds: f64,
    figures: Figures,
    failure: Option<String>,
}

impl Stage {
    /// `raw` is the folder for what load generators say; what is there from the last time goes.
    pub fn new(control: bool, raw: &Path) -> io::Result<Self> {
        if raw.exists() {
            fs::remove_dir_all(raw)?;
        }
        fs::create_dir_all(raw)?;
        Ok(Self {
            control,
            data_plane: DataPlane::Tulle,
            small: false,
            before: Traces::now(),
            mesh: None,
            made_of: Vec::new(),
            raw: raw.to_owned(),
        })
    }

    /// The folder for what load generators say.
    pub fn raw(&self) -> &Path {
        &self.raw
    }

    /// The mesh, up and ready.
    pub async fn mesh(&mut self) -> Result<&Mesh, Failure> {
        if self.mesh.is_none() {
            self.begin().await?.ready().await?;
        }
        self.mesh.as_ref().ok_or_else(|| Failure("there is no mesh".into()))
    }

    /// Brings the mesh up and returns while it still starts.
    pub async fn begin(&mut self) -> Result<&Mesh, Failure> {
        let data_plane = if self.control { DataPlane::None } else { self.data_plane };
        self.mesh = Some(Mesh::up(data_plane, &self.raw).await?);
        self.mesh.as_ref().ok_or_else(|| Failure("there is no mesh".into()))
    }

    /// The mesh of this YAML and these options of `up`, ready; another one is taken down before.
    pub async fn mesh_of(&mut self, yaml: &str, options: &[&str]) -> Result<&Mesh, Failure> {
        let made_of: Vec<_> = [yaml].iter().chain(options).map(|part| (*part).to_owned()).collect();
        if self.made_of != made_of {
            if let Some(mesh) = self.mesh.take() {
                mesh.down().await?;
            }
            self.made_of = made_of;
        }
        if self.mesh.is_none() {
            let (yaml, data_plane) = match self.control {
                true => (yaml.replace("inject: enabled", "inject: disabled"), DataPlane::None),
                false => (yaml.to_owned(), self.data_plane),
            };
            let mesh = Mesh::of("own", &yaml, data_plane, options, &self.raw).await?;
            self.mesh.insert(mesh).ready().await?;
        }
        self.mesh.as_ref().ok_or_else(|| Failure("there is no mesh".into()))
    }

    /// Takes everything down and tells what is left on the machine that was not there before.
    pub async fn strike(self) -> Result<Figures, Failure> {
        if let Some(mesh) = self.mesh {
            mesh.down().await?;
        }
        let left = self.before.left();
        if left.is_empty() { Ok(Figures::new()) } else { Err(Failure(left.join("\n"))) }
    }
}

impl Outcome {
    pub fn new(
        number: u32,
        name: &'static str,
        took: Duration,
        result: Result<Figures, Failure>,
    ) -> Self {
        let (figures, failure) = match result {
            Ok(figures) => (figures, None),
            Err(Failure(why)) => (Figures::new(), Some(why)),
        };
        let seconds = took.as_secs_f64();
        Self { number, name, seconds, figures, failure }
    }

    pub fn passed(&self) -> bool {
        self.failure.is_none()
    }

    /// A line of the final table.
    pub fn row(&self) -> String {
        let verdict = if self.passed() { "pass" } else { "FAIL" };
        // What is no scene has no number.
        let number = if self.number == 0 { String::new() } else { self.number.to_string() };
        format!("{number:>4}  {verdict}  {:>6.1} s  {}", self.seconds, self.name)
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
                    "number": o.number, "name": o.name, "passed": o.passed(),
                    "seconds": o.seconds, "figures": o.figures, "failure": o.failure,
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
        let seconds = self.seconds;
        match &self.failure {
            None => write!(f, "    pass ({seconds:.1} s)"),
            Some(why) => {
                write!(f, "    FAIL ({seconds:.1} s): {}", why.trim_end().replace('\n', "\n    "))
            }
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
