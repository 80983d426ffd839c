//! What a scene is, and the stage that it plays on.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;
use serde_json::json;

use crate::mesh::{Mesh, Traces};

/// What a scene measured, by name; the name ends in the unit.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// Why a scene failed, for a person.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

/// A scene: something that a user would do, and its proof.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) number: u32,
    pub(crate) name: &'static str,
    pub(crate) run: Run,
}

/// A scene's code.
pub(crate) type Run = for<'a> fn(&'a mut Stage) -> BoxFuture<'a, Result<Figures, Failure>>;

/// A future on the heap, so that scenes of different types stand in one list.
pub(crate) type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + 'a>>;

/// What the scenes play on: one mesh, brought up by the first that needs it.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The mesh's part is switched off: scenes must fail.
    pub(crate) control: bool,
    before: Traces,
    mesh: Option<Mesh>,
}

/// How a scene ended.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    number: u32,
    name: &'static str,
    seconds: f64,
    figures: Figures,
    failure: Option<String>,
}

impl Stage {
    pub(crate) fn new(control: bool) -> Self {
        Self { control, before: Traces::now(), mesh: None }
    }

    /// The mesh, up and ready.
    pub(crate) async fn mesh(&mut self) -> Result<&Mesh, Failure> {
        if self.mesh.is_none() {
            let mesh = Mesh::up(!self.control).await?;
            mesh.ready().await?;
            self.mesh = Some(mesh);
        }
        self.mesh.as_ref().ok_or_else(|| Failure("there is no mesh".into()))
    }

    /// Brings the mesh up and returns while it still starts.
    pub(crate) async fn begin(&mut self) -> Result<&Mesh, Failure> {
        self.mesh = Some(Mesh::up(!self.control).await?);
        self.mesh.as_ref().ok_or_else(|| Failure("there is no mesh".into()))
    }

    /// Takes everything down and tells what is left on the machine that was not there before.
    pub(crate) async fn strike(self) -> Result<Figures, Failure> {
        if let Some(mesh) = self.mesh {
            mesh.down().await?;
        }
        let left = self.before.left();
        if left.is_empty() { Ok(Figures::new()) } else { Err(Failure(left.join("\n"))) }
    }
}

impl Outcome {
    pub(crate) fn new(
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

    pub(crate) fn passed(&self) -> bool {
        self.failure.is_none()
    }

    /// A line of the final table.
    pub(crate) fn row(&self) -> String {
        let verdict = if self.passed() { "pass" } else { "FAIL" };
        format!("{:>3}  {verdict}  {:>6.1} s  {}", self.number, self.seconds, self.name)
    }

    /// All outcomes as `{"scenes": […]}`.
    pub(crate) fn json(all: &[Self]) -> String {
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
        for (name, value) in &self.figures {
            writeln!(f, "   {name}: {value:.3}")?;
        }
        match &self.failure {
            None => write!(f, "   pass"),
            Some(why) => write!(f, "   FAIL: {}", why.replace('\n', "\n   ")),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Fails with `text` unless `holds`.
pub(crate) fn prove(holds: bool, text: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure(text())) }
}
