//! Drives the real `tulle local` as a person would: by its commands, and nothing else.

mod cluster;
mod processes;
mod release;
mod status;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::{Instant, sleep},
};

pub use self::cluster::Away;
pub use self::release::Release;
pub use self::status::{Force, Object, Pod, Problem, Rejection, Status};
use crate::scene::{Failure, Without};

/// How long a mesh may take until all is ready. A loaded two-core machine takes a fifth of it.
const READY: Duration = Duration::from_secs(90);
/// Where `tulle local` keeps what a running mesh needs.
pub const STATE: &str = "/run/tulle-local";
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// In the template of reviews-v2, and what makes it our own sidecar's in any mesh.
const V2: &str = "      labels: {app: reviews, version: v2}\n";
const OURS: &str = "      annotations: {tulle.dev/data-plane: tulle}\n";

/// YAML files of a mesh, by name.
pub type Files = BTreeMap<String, String>;

/// A mesh of its own, made from a copy of the sample.
#[derive(Debug)]
pub struct Mesh {
    /// What is left out of all that is saved.
    pub without: Option<Without>,
    name: String,
    directory: TempDir,
    raw: PathBuf,
    /// Where it is.
    pub place: Place,
}

/// Where a mesh is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `tulle local` on this machine.
    Machine,
    /// The Kubernetes cluster of `KUBECONFIG`, in which Tulle is installed.
    Cluster,
}

/// The sidecar of a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataPlane {
    /// Our own.
    Tulle,
    /// Stock Envoy; our own in reviews-v2.
    Envoy,
}

/// A YAML file that a scene has put into the mesh's directory. It goes with this value.
#[derive(Debug)]
pub struct Edit {
    without: Option<Without>,
    path: PathBuf,
    place: Place,
}

impl Mesh {
    /// Starts the mesh of one YAML file, with more options of `up`, and returns at once. `name` tells it from
    /// others of this process. What load generators say goes into the folder `raw`.
    pub async fn of(
        name: &str,
        yaml: &str,
        data_plane: DataPlane,
        options: &[&str],
        raw: &Path,
    ) -> Result<Self, Failure> {
        let files = Files::from([("mesh.yaml".to_owned(), yaml.to_owned())]);
        Self::up(name, &files, data_plane, options, raw).await
    }

    /// The same of several files.
    pub async fn up(
        name: &str,
        files: &Files,
        data_plane: DataPlane,
        options: &[&str],
        raw: &Path,
    ) -> Result<Self, Failure> {
        let directory = tempfile::tempdir()?;
        for (file, text) in files {
            fs::write(directory.path().join(file), text)?;
        }
        let name = format!("{}-{name}", own_name());
        let (raw, place) = (raw.to_owned(), Place::Machine);
        let mesh = Self { without: None, name, directory, raw, place };
        mesh.start(data_plane, options).await?;
        Ok(mesh)
    }

    /// The mesh of these files in a cluster.
    pub async fn in_cluster(files: &Files, raw: &Path) -> Result<Self, Failure> {
        let directory = tempfile::tempdir()?;
        for (file, text) in files {
            fs::write(directory.path().join(file), text)?;
        }
        cluster::up(directory.path()).await?;
        let (name, raw, place) = (own_name(), raw.to_owned(), Place::Cluster);
        Ok(Self { without: None, name, directory, raw, place })
    }

    /// Starts it with more options of `up`, also again after its runtime has died.
    pub async fn start(&self, data_plane: DataPlane, options: &[&str]) -> Result<(), Failure> {
        let path = self.path("").display().to_string();
        let mut up = self.tulle(&["up", &path, "--detach", "--no-wait"]);
        up.args(options);
        if data_plane == DataPlane::Envoy {
            up.args(["--data-plane", "envoy"]);
        }
        output_of(up).await.map(drop)
    }

    /// The path of one of its YAML files.
    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// The folder for what load generators say.
    pub fn raw(&self) -> &Path {
        &self.raw
    }

    /// Puts a YAML file into its directory, for as long as the value lives.
    pub fn edit(&self, file: &str, yaml: &str) -> Result<Edit, Failure> {
        let edit = Edit { path: self.path(file), without: self.without, place: self.place };
        edit.save(yaml)?;
        Ok(edit)
    }

    /// Puts a YAML file into its directory, where it stays.
    pub fn save(&self, file: &str, yaml: &str) -> Result<(), Failure> {
        let text = self.without.map(|without| without.applied(yaml));
        let path = self.path(file);
        save(&path, text.as_deref().unwrap_or(yaml))?;
        self.place.saved(&path)
    }

    /// YAML with the sidecar in it, as `tulle inject` makes it.
    pub async fn inject(&self, yaml: &str) -> Result<String, Failure> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), yaml)?;
        let mut command = Command::new(binaries().join("tulle"));
        command.args(["inject", "-f"]).arg(file.path());
        output_of(command).await
    }

    /// Waits until every pod is ready.
    pub async fn ready(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + READY;
        loop {
            let status = self.status().await?;
            let late: Vec<String> = status
                .pods
                .iter()
                .filter(|p| !p.ready)
                .map(|p| format!("{}/{}: {}", p.namespace, p.name, p.waiting.join("; ")))
                .collect();
            if late.is_empty() && !status.pods.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Failure(format!("not ready after {READY:?}:\n{}", late.join("\n"))));
            }
            sleep(LOOK).await;
        }
    }

    /// What `tulle local status` says.
    pub async fn status(&self) -> Result<Status, Failure> {
        if self.place == Place::Cluster {
            return cluster::status().await;
        }
        let text = output_of(self.tulle(&["status", "-o", "json"])).await?;
        serde_json::from_str(&text).map_err(|e| Failure(format!("status is no JSON: {e}\n{text}")))
    }

    /// The one pod whose name begins with `prefix`.
    pub async fn pod(&self, namespace: &str, prefix: &str) -> Result<Pod, Failure> {
        let status = self.status().await?;
        let mut fitting = status
            .pods
            .into_iter()
            .filter(|p| p.namespace == namespace && p.name.starts_with(prefix));
        match (fitting.next(), fitting.next()) {
            (Some(pod), None) => Ok(pod),
            (None, _) => Err(Failure(format!("there is no pod {namespace}/{prefix}…"))),
            (Some(_), Some(_)) => Err(Failure(format!("{namespace}/{prefix}… are several pods"))),
        }
    }

    /// Runs a command in a container; its standard output.
    pub async fn exec(&self, pod: &Pod, container: &str, argv: &[&str]) -> Result<String, Failure> {
        output_of(self.command(pod, container, argv)).await
    }

    /// A command in a container, not yet started.
    pub fn command(&self, pod: &Pod, container: &str, argv: &[&str]) -> Command {
        let (namespace, pod) = (&pod.namespace, &pod.name);
        let mut command = match self.place {
            Place::Machine => {
                self.tulle(&["exec", &format!("{namespace}/{pod}"), "-c", container, "--"])
            }
            Place::Cluster => {
                cluster::kubectl(&["-n", namespace, "exec", pod, "-c", container, "--"])
            }
        };
        command.args(argv);
        command
    }

    /// `tulle local forward`, which ends with what is returned, and the URL that leads there.
    pub async fn forward(&self, what: &str, ports: &str) -> Result<(Child, String), Failure> {
        announced(self.tulle(&["forward", what, ports])).await
    }

    /// `tulle dashboard`, which ends with what is returned, and the address that it prints.
    pub async fn dashboard(&self) -> Result<(Child, String), Failure> {
        announced(self.about_traffic(&["dashboard", "--no-open"])).await
    }

    /// A container's log so far.
    pub async fn logs(&self, pod: &Pod, container: &str) -> Result<String, Failure> {
        if self.place == Place::Cluster {
            return cluster::logs(pod, container).await;
        }
        let name = format!("{}/{}", pod.namespace, pod.name);
        output_of(self.tulle(&["logs", &name, "-c", container])).await
    }

    /// Waits until a container's log has a line for which `wanted` holds, and returns it.
    pub async fn logged(
        &self,
        pod: &Pod,
        container: &str,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> Result<serde_json::Value, Failure> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let log = self.logs(pod, container).await?;
            let found =
                log.lines().rev().filter_map(|l| serde_json::from_str(l).ok()).find(&wanted);
            if let Some(line) = found {
                return Ok(line);
            }
            if Instant::now() > deadline {
                let tail: Vec<&str> = log.lines().rev().take(5).collect();
                let text = tail.join("\n");
                return Err(Failure(format!("no such line in {}/{container}:\n{text}", pod.name)));
            }
            sleep(LOOK).await;
        }
    }

    /// `tulle proxy config` of a pod's sidecar.
    pub async fn config(&self, pod: &Pod) -> Result<serde_json::Value, Failure> {
        let name = format!("{}/{}", pod.namespace, pod.name);
        let mut command = Command::new(binaries().join("tulle"));
        command.args(["proxy", "config", &name, "--name", &self.name, "-o", "json"]);
        let text = output_of(command).await?;
        serde_json::from_str(&text).map_err(|e| Failure(format!("config is no JSON: {e}\n{text}")))
    }

    /// What `tulle` says to these words about its traffic.
    pub async fn ask(&self, words: &[&str]) -> Result<String, Failure> {
        output_of(self.about_traffic(words)).await
    }

    fn about_traffic(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binaries().join("tulle"));
        command.args(words).stdin(Stdio::null());
        if self.place == Place::Machine {
            command.args(["--name", &self.name]);
        }
        command
    }

    /// Takes it down.
    pub async fn down(&self) -> Result<(), Failure> {
        match self.place {
            Place::Machine => output_of(self.tulle(&["down"])).await.map(drop),
            Place::Cluster => cluster::down(self.directory.path()).await,
        }
    }

    fn tulle(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binaries().join("tulle"));
        command.arg("local").args(words.iter().take(1)).args(["--name", &self.name]);
        command.args(words.iter().skip(1)).stdin(Stdio::null());
        command
    }
}

impl Place {
    /// On this machine files are watched.
    fn saved(self, file: &Path) -> Result<(), Failure> {
        if self == Self::Cluster { cluster::apply(file) } else { Ok(()) }
    }
}

impl Edit {
    /// Saves it anew. When that began.
    pub fn save(&self, yaml: &str) -> Result<Instant, Failure> {
        let now = Instant::now();
        let text = self.without.map(|without| without.applied(yaml));
        fs::write(&self.path, text.as_deref().unwrap_or(yaml))?;
        self.place.saved(&self.path)?;
        Ok(now)
    }
}

impl Drop for Edit {
    fn drop(&mut self) {
        // What this leaves goes with the mesh.
        if self.place == Place::Cluster {
            let _gone = cluster::delete(&self.path);
        }
        let _gone = fs::remove_file(&self.path);
    }
}

/// The sample's files, for sidecars of this kind.
pub fn sample(data_plane: DataPlane) -> Result<Files, Failure> {
    let mut files = Files::new();
    for entry in fs::read_dir(root().join("deploy/samples/bookstore"))? {
        let path = entry?.path();
        let Some(name) = path.file_name().filter(|_| path.extension().is_some_and(|e| e == "yaml"))
        else {
            continue;
        };
        let text = fs::read_to_string(&path)?;
        let text = match data_plane {
            DataPlane::Tulle => text,
            DataPlane::Envoy => text.replace(V2, &format!("{V2}{OURS}")),
        };
        files.insert(name.to_string_lossy().into_owned(), text);
    }
    Ok(files)
}

/// Saves a file as editors do: moved into place, so that nobody reads half of it.
pub fn save(path: &Path, text: &str) -> Result<(), Failure> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.new"));
    fs::write(&new, text)?;
    Ok(fs::rename(new, path)?)
}

/// Runs a command to its end; its standard output, or what it said if it failed.
pub async fn output_of(mut command: Command) -> Result<String, Failure> {
    let Output { status, stdout, stderr } = command.output().await?;
    let text = String::from_utf8_lossy(&stdout).into_owned();
    if status.success() {
        return Ok(text);
    }
    let said = String::from_utf8_lossy(&stderr);
    let what =
        command.as_std().get_args().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ");
    Err(Failure(format!("{what}: {status}\n{said}{text}")))
}

/// Starts a command that goes on until it is dropped, and the address that it prints first.
async fn announced(mut command: Command) -> Result<(Child, String), Failure> {
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let out = child.stdout.take().ok_or_else(|| Failure("it has no stdout".into()))?;
    let told = BufReader::new(out).lines().next_line().await?.unwrap_or_default();
    let url = told.split_whitespace().find(|word| word.starts_with("http://"));
    let url = url.ok_or_else(|| Failure(format!("it does not say where it is: {told:?}")))?;
    Ok((child, url.to_owned()))
}

/// Where the programs are: beside this one.
pub fn binaries() -> PathBuf {
    let this = env::current_exe().unwrap_or_default();
    this.parent().map(Path::to_owned).unwrap_or_default()
}

/// The checkout that this is run in. Not the one that it was built in: a target directory can be kept while clones come and go.
pub fn root() -> PathBuf {
    let here = env::current_dir().unwrap_or_default();
    let root = here.ancestors().find(|folder| folder.join("deploy/samples").is_dir());
    root.unwrap_or(&here).to_owned()
}

/// The name of the mesh of these scenes.
pub fn own_name() -> String {
    format!("scenes-{}", std::process::id())
}

/// User and system time of `/proc/PID/stat`, in seconds: fields 14 and 15, in ticks of 10 ms. The
/// name before them stands in parentheses and may hold anything (proc(5)).
pub fn cpu(stat: &str) -> Result<f64, Failure> {
    let fields: Vec<_> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
    let ticks = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<f64>().ok());
    let both = ticks(14).zip(ticks(15)).map(|(user, system)| (user + system) / 100.0);
    both.ok_or_else(|| Failure(format!("no times in {stat:?}")))
}
