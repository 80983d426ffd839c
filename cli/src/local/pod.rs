//! A pod, from its address to its end: what the kubelet does.
//!
//! One task per pod ([`start`]), one per container ([`container`]). They meet on a board of reports
//! ([`status::Board`]): containers write, the pod reads and publishes the pod's status.
//!
//! ```text
//! anchor (network, host name) → volumes → init containers and sidecars, in order → containers
//! end: preStop of all at once → SIGTERM to the containers → sidecars, last first → SIGKILL in the end
//! ```

mod container;
mod env;
mod files;
pub(super) mod launch;
mod probe;
pub(super) mod status;
mod volumes;

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{ConfigMap, Container, Pod, PodStatus},
    jiff::Timestamp,
};
use parking_lot::Mutex;
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
    sync::{Notify, watch},
    task::JoinSet,
    time::Instant,
};

use self::{
    container::{Goal, Keeper},
    launch::{Launch, LaunchError},
    status::{Board, Phase, Report, Role},
    volumes::{VolumeError, Volumes},
};
use super::{
    config::Programs,
    controllers::Id,
    network::{self, PodAddresses},
    state::State,
    token::Signer,
};

/// ConfigMaps by name, of the user's and of the control plane's.
pub(super) type ConfigMaps = BTreeMap<Id, ConfigMap>;

/// What all pods of a mesh share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) state: State,
    pub(super) programs: Programs,
    pub(super) signer: Signer,
    pub(super) config_maps: watch::Receiver<Arc<ConfigMaps>>,
    /// Rung whenever a pod has news.
    pub(super) news: Arc<Notify>,
}

/// What is known of a running pod.
#[derive(Debug, Clone, Default)]
pub(super) struct News {
    /// The status object.
    pub(super) status: PodStatus,
    pub(super) reports: Vec<Report>,
    pub(super) ready: bool,
    /// Everything of it has gone.
    pub(super) gone: bool,
}

/// A running pod.
#[derive(Debug)]
pub(super) struct Handle {
    goal: watch::Sender<Option<Duration>>,
    news: watch::Receiver<News>,
}

impl Handle {
    /// Ends the pod within this time.
    pub(super) fn end(&self, grace: Duration) {
        self.goal.send_replace(Some(grace));
    }

    /// Was it told to end, within this time at the most?
    pub(super) fn is_told_within(&self, grace: Duration) -> bool {
        self.goal.borrow().is_some_and(|told| told <= grace)
    }

    pub(super) fn news(&self) -> News {
        self.news.borrow().clone()
    }
}

/// A process inside of a container, and how to run others beside it.
#[derive(Debug, Clone)]
struct Process {
    nsenter: PathBuf,
    /// None if it ended at once.
    pid: Option<u32>,
    privileges: Vec<String>,
    env: BTreeMap<String, String>,
}

impl Process {
    fn new(nsenter: PathBuf, pid: Option<u32>, launch: &Launch) -> Self {
        let (privileges, env) = (launch.privileges.clone(), launch.env.clone());
        Self {
            nsenter,
            pid,
            privileges,
            env,
        }
    }

    /// A command in all of the container's namespaces, with its user, rights and variables.
    fn command(&self, argv: &[String]) -> Command {
        let mut command = Command::new(&self.nsenter);
        command
            .args([
                "-t",
                &self.pid.unwrap_or_default().to_string(),
                "-m",
                "-p",
                "-n",
                "-u",
                "-i",
                "-r",
                "-w",
                "--",
            ])
            .args(&self.privileges)
            .arg("--")
            .args(argv)
            .env_clear()
            .envs(&self.env);
        command
    }
}

/// What the containers of a pod share.
struct Shared {
    cx: Arc<Context>,
    /// With its addresses.
    pod: Pod,
    address: IpAddr,
    anchor: u32,
    board: Board,
    volumes: Mutex<Volumes>,
    restart_policy: String,
    grace: Duration,
}

impl Shared {
    fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    fn describe(&self, container: &Container, maps: &ConfigMaps) -> Result<Launch, LaunchError> {
        launch::describe(&self.cx, &self.pod, container, &self.volumes.lock(), maps)
    }

    fn launch_file(&self, container: &str) -> PathBuf {
        launch_file(&self.cx.state, self.uid(), container)
    }

    fn log_file(&self, container: &str) -> PathBuf {
        log_file(&self.cx.state, &self.pod, container)
    }

    /// When all containers and all later sidecars have ended.
    async fn turn_of(&self, sidecar: &str) {
        let mut reports = self.board.subscribe();
        let turn = reports.wait_for(|reports| {
            let later = reports.iter().skip_while(|r| r.name != sidecar).skip(1);
            later
                .into_iter()
                .all(|r| r.role == Role::Init || matches!(r.phase, Phase::Ended(_)))
        });
        // The board lives as long as this does.
        drop(turn.await);
    }
}

/// Where `exec` finds how the container was started.
pub(super) fn launch_file(state: &State, uid: &str, container: &str) -> PathBuf {
    state
        .pod(uid)
        .join("containers")
        .join(format!("{container}.json"))
}

fn log_file(state: &State, pod: &Pod, container: &str) -> PathBuf {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    state
        .pod_logs(namespace, name)
        .join(format!("{container}.log"))
}

/// Runs `pod` (complete, injected, with its uid) on these addresses.
pub(super) fn start(cx: Arc<Context>, pod: Pod, addresses: PodAddresses) -> Handle {
    let (goal, goal_receiver) = watch::channel(None);
    let (news_sender, news) = watch::channel(News::default());
    tokio::spawn(async move {
        let board = Board::of(&pod);
        let actor = Actor {
            cx,
            pod,
            addresses,
            board,
            goal: goal_receiver,
            news: news_sender,
        };
        actor.live().await;
    });
    Handle { goal, news }
}

struct Actor {
    cx: Arc<Context>,
    pod: Pod,
    addresses: PodAddresses,
    board: Board,
    goal: watch::Receiver<Option<Duration>>,
    news: watch::Sender<News>,
}

/// Why a pod did not come up; it is tried again.
#[derive(Debug, thiserror::Error)]
enum SetupError {
    #[error(transparent)]
    Network(#[from] network::NetworkError),
    #[error("cannot start the pod's first process: {0}")]
    Anchor(io::Error),
    #[error("cannot write the pod's files: {0}")]
    Files(#[from] io::Error),
}

impl Actor {
    async fn live(mut self) {
        self.publish(None, None, false);
        let (mut anchor, shared) = loop {
            match self.set_up().await {
                Ok((anchor, shared)) => break (anchor, Arc::new(shared)),
                Err(error) => {
                    self.publish(None, Some(error.to_string()), false);
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_secs(1)) => {}
                        _ = self.goal.changed() => {}
                    }
                    if self.goal.borrow().is_some() {
                        self.publish(None, None, true);
                        return;
                    }
                }
            }
        };
        self.publish(Some(self.addresses), None, false);
        self.run(&shared).await;
        shared.volumes.lock().release();
        if let Err(error) = anchor.kill().await {
            tracing::warn!(%error, "pod's first process");
        }
        network::disconnect(&self.cx.programs, self.addresses).await;
        // The object of a pod that has run to its end stays until somebody deletes it.
        if self.goal.borrow().is_none() {
            self.publish(Some(self.addresses), None, false);
            let _: Result<_, _> = self.goal.wait_for(Option::is_some).await;
        }
        self.remove_files(&shared);
        self.publish(Some(self.addresses), None, true);
    }

    /// Network namespace with addresses, and the files every container gets.
    async fn set_up(&mut self) -> Result<(Child, Shared), SetupError> {
        let programs = &self.cx.programs;
        let mut anchor = Command::new(&programs.unshare)
            .args(["--net", "--uts", "--ipc", "--"])
            .arg(&programs.tulle)
            .args(["local", "pause", "--hostname", &files::hostname(&self.pod)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(SetupError::Anchor)?;
        let mut ready = [0];
        if let Some(stdout) = anchor.stdout.as_mut() {
            stdout
                .read_exact(&mut ready)
                .await
                .map_err(SetupError::Anchor)?;
        }
        let pid = anchor
            .id()
            .ok_or_else(|| SetupError::Anchor(io::Error::other("it ended")))?;
        network::connect(programs, pid, self.addresses).await?;

        let now = Timestamp::now();
        let reports = self.board.reports();
        let status = status::status(
            &reports,
            Some(self.addresses),
            None,
            &PodStatus::default(),
            &now,
        );
        self.pod.status = Some(status);
        let spec = self.pod.spec.clone().unwrap_or_default();
        let uid = self.pod.metadata.uid.clone().unwrap_or_default();
        let directory = self.cx.state.pod(&uid);
        let etc = directory.join("etc");
        fs::create_dir_all(&etc)?;
        fs::write(etc.join("resolv.conf"), files::resolv_conf(&self.pod))?;
        fs::write(etc.join("hosts"), files::hosts(&self.pod))?;
        fs::write(etc.join("hostname"), files::hostname(&self.pod) + "\n")?;
        fs::create_dir_all(
            log_file(&self.cx.state, &self.pod, "x")
                .parent()
                .unwrap_or(Path::new("/")),
        )?;
        let shared = Shared {
            cx: Arc::clone(&self.cx),
            pod: self.pod.clone(),
            address: self.addresses.v4().into(),
            anchor: pid,
            board: self.board.clone(),
            volumes: Mutex::new(Volumes::new(directory.join("volumes"))),
            restart_policy: spec.restart_policy.unwrap_or_else(|| "Always".to_owned()),
            grace: grace(&self.pod),
        };
        Ok((anchor, shared))
    }

    /// From the volumes to the last container's end.
    async fn run(&mut self, shared: &Arc<Shared>) {
        if !self.make_volumes(shared).await {
            return;
        }
        let (goal, goals) = watch::channel(Goal::Run);
        let (mut keepers, mut kept) = (JoinSet::new(), Vec::new());
        let mut keep = |container: &Container, role| {
            kept.push(container.name.clone());
            let (shared, goal) = (Arc::clone(shared), goals.clone());
            keepers.spawn(
                Keeper {
                    shared,
                    container: container.clone(),
                    role,
                    goal,
                }
                .keep(),
            );
        };
        let spec = self.pod.spec.clone().unwrap_or_default();
        let mut failed = false;
        for container in spec.init_containers.iter().flatten() {
            let role = status::init_role(container);
            keep(container, role);
            let name = container.name.clone();
            let done = move |reports: &[Report]| {
                let report = reports.iter().find(|r| r.name == name);
                report.is_none_or(|r| match role {
                    Role::Sidecar => r.started,
                    Role::Init | Role::App => matches!(r.phase, Phase::Ended(_)),
                })
            };
            self.until(shared, done).await;
            failed = status::phase(&self.board.reports()) == "Failed";
            if failed || self.goal.borrow().is_some() {
                break;
            }
        }
        if !failed && self.goal.borrow().is_none() {
            for container in &spec.containers {
                keep(container, Role::App);
            }
            self.until(shared, |reports| {
                let mut apps = reports.iter().filter(|r| r.role == Role::App);
                apps.all(|r| matches!(r.phase, Phase::Ended(_)))
            })
            .await;
        }
        self.never_started(&kept);
        // Told to end, or nothing is left to do: what still runs ends in order.
        let grace = self.goal.borrow().unwrap_or(shared.grace);
        goal.send_replace(Goal::End(Instant::now() + grace));
        let mut reports = self.board.subscribe();
        loop {
            tokio::select! {
                joined = keepers.join_next() => if joined.is_none() { break },
                _ = reports.changed() => self.publish(Some(self.addresses), None, false),
                // Asked to hurry.
                Ok(()) = self.goal.changed() => {
                    let grace = self.goal.borrow_and_update().unwrap_or(shared.grace);
                    goal.send_replace(Goal::End(Instant::now() + grace));
                }
            }
        }
        self.publish(Some(self.addresses), None, false);
    }

    /// Containers whose turn never came must not hold up those that end after them.
    fn never_started(&self, started: &[String]) {
        for report in self.board.reports() {
            if !started.contains(&report.name) {
                self.board.update(&report.name, |report| {
                    report.phase = Phase::Ended(status::Ended {
                        code: 137,
                        signal: None,
                        reason: "ContainerStatusUnknown",
                        message: Some("the pod ended before it was started".to_owned()),
                        started: None,
                        finished: Timestamp::now(),
                    });
                });
            }
        }
    }

    /// Waits for volumes, like the kubelet: a missing ConfigMap may still come. `false`: told to end.
    async fn make_volumes(&mut self, shared: &Arc<Shared>) -> bool {
        let mut maps = self.cx.config_maps.clone();
        loop {
            let newest = maps.borrow_and_update().clone();
            match refresh(shared, &newest) {
                Ok(()) => return true,
                Err(error) => self.publish(Some(self.addresses), Some(error.to_string()), false),
            }
            tokio::select! {
                _ = maps.changed() => {}
                _ = self.goal.changed() => {}
                () = tokio::time::sleep(REFRESH) => {}
            }
            if self.goal.borrow().is_some() {
                return false;
            }
        }
    }

    /// Publishes news and refreshes volumes until `done` or told to end.
    async fn until(&mut self, shared: &Arc<Shared>, done: impl Fn(&[Report]) -> bool) {
        let mut reports = self.board.subscribe();
        let mut maps = self.cx.config_maps.clone();
        let mut refresh_at = Instant::now() + REFRESH;
        loop {
            self.publish(Some(self.addresses), None, false);
            if done(&reports.borrow_and_update()) || self.goal.borrow().is_some() {
                return;
            }
            tokio::select! {
                _ = reports.changed() => continue,
                _ = self.goal.changed() => continue,
                _ = maps.changed() => {}
                () = tokio::time::sleep_until(refresh_at) => refresh_at = Instant::now() + REFRESH,
            }
            let newest = maps.borrow_and_update().clone();
            if let Err(error) = refresh(shared, &newest) {
                tracing::warn!(%error, "a volume keeps its old content");
            }
            for container in self.board.reports() {
                bound_log(&shared.log_file(&container.name));
            }
        }
    }

    fn publish(&self, addresses: Option<PodAddresses>, message: Option<String>, gone: bool) {
        let reports = self.board.reports();
        let changed = self.news.send_if_modified(|news| {
            let now = Timestamp::now();
            let status = status::status(&reports, addresses, message, &news.status, &now);
            let ready = status::ready(&reports);
            let changed = status != news.status || gone != news.gone || reports != news.reports;
            *news = News {
                status,
                reports,
                ready,
                gone,
            };
            changed
        });
        if changed {
            self.cx.news.notify_one();
        }
    }

    fn remove_files(&self, shared: &Shared) {
        let logs = shared.log_file("x");
        for path in [
            Some(self.cx.state.pod(shared.uid()).as_path()),
            logs.parent(),
        ] {
            if let Some(path) = path
                && let Err(error) = fs::remove_dir_all(path)
            {
                tracing::warn!(path = %path.display(), %error, "files stay");
            }
        }
    }
}

/// Volumes are looked at this often, besides on each change: tokens get old, logs get long.
const REFRESH: Duration = Duration::from_secs(5);

fn refresh(shared: &Shared, maps: &ConfigMaps) -> Result<(), VolumeError> {
    shared
        .volumes
        .lock()
        .refresh(&shared.pod, maps, &shared.cx.signer)
}

/// `terminationGracePeriodSeconds`, 30 s by default.
pub(super) fn grace(pod: &Pod) -> Duration {
    let given = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.termination_grace_period_seconds);
    Duration::from_secs(
        given
            .and_then(|seconds| u64::try_from(seconds).ok())
            .unwrap_or(30),
    )
}

/// A log of this size becomes the old log, of which there is one. Processes write to the file itself
/// and keep on doing so, so it is copied and emptied; lines written in between are lost.
const MAX_LOG: u64 = 16 << 20;

fn bound_log(path: &Path) {
    let too_long = fs::metadata(path).is_ok_and(|metadata| metadata.len() > MAX_LOG);
    if !too_long {
        return;
    }
    let turned = fs::copy(path, path.with_extension("log.old"))
        .and_then(|_| fs::File::options().write(true).open(path)?.set_len(0));
    if let Err(error) = turned {
        tracing::warn!(path = %path.display(), %error, "log grows");
    }
}
