//! One pod over its life: network, volumes, init containers in order, containers, the end.

use std::{fs, io, path::Path, process::Stdio, sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodStatus},
    jiff::Timestamp,
};
use parking_lot::Mutex;
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
    sync::watch,
    task::JoinSet,
    time::Instant,
};

use super::{
    ConfigMaps, Context, News, Shared,
    container::{Goal, Keeper},
    files, grace, log_file,
    status::{self, Board, Phase, Report, Role},
    volumes::{VolumeError, Volumes},
};
use crate::local::network::{self, PodAddresses};

/// Owns a pod until everything of it has gone.
pub(super) struct Actor {
    pub(super) cx: Arc<Context>,
    pub(super) pod: Pod,
    pub(super) addresses: PodAddresses,
    pub(super) board: Board,
    pub(super) goal: watch::Receiver<Option<Duration>>,
    pub(super) news: watch::Sender<News>,
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
    pub(super) async fn live(mut self) {
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
            // An error means that nobody can ask any more: then it is over as well.
            drop(self.goal.wait_for(Option::is_some).await);
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
            stdout.read_exact(&mut ready).await.map_err(SetupError::Anchor)?;
        }
        let pid = anchor.id().ok_or_else(|| SetupError::Anchor(io::Error::other("it ended")))?;
        network::connect(programs, pid, self.addresses).await?;

        let now = Timestamp::now();
        let reports = self.board.reports();
        let status =
            status::status(&reports, Some(self.addresses), None, &PodStatus::default(), &now);
        self.pod.status = Some(status);
        let spec = self.pod.spec.clone().unwrap_or_default();
        let uid = self.pod.metadata.uid.clone().unwrap_or_default();
        let directory = self.cx.state.pod(&uid);
        let etc = directory.join("etc");
        fs::create_dir_all(&etc)?;
        fs::write(etc.join("resolv.conf"), files::resolv_conf(&self.pod))?;
        fs::write(etc.join("hosts"), files::hosts(&self.pod))?;
        fs::write(etc.join("hostname"), files::hostname(&self.pod) + "\n")?;
        if let Some(logs) = log_file(&self.cx.state, &self.pod, "x").parent() {
            fs::create_dir_all(logs)?;
        }
        let shared = Shared {
            cx: Arc::clone(&self.cx),
            pod: self.pod.clone(),
            address: self.addresses.primary(),
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
            keepers.spawn(Keeper { shared, container: container.clone(), role, goal }.keep());
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
            *news = News { status, reports, ready, gone };
            changed
        });
        if changed {
            self.cx.news.notify_one();
        }
    }

    fn remove_files(&self, shared: &Shared) {
        let logs = shared.log_file("x");
        for path in [Some(self.cx.state.pod(shared.uid()).as_path()), logs.parent()] {
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
    shared.volumes.lock().refresh(&shared.pod, maps, &shared.cx.signer)
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
