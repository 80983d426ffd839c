//! A pod, from its address to its end: what the kubelet does.
//!
//! One task per pod ([`start`]), one per container ([`container`]). They meet on a board of reports
//! ([`status::Board`]): containers write, the pod reads and publishes the pod's status.
//!
//! ```text
//! anchor (network, host name) → volumes → init containers and sidecars, in order → containers
//! end: preStop of all at once → SIGTERM to the containers → sidecars, last first → SIGKILL in the end
//! ```

mod actor;
mod container;
mod env;
mod files;
pub(super) mod launch;
mod probe;
pub(super) mod status;
mod volumes;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, PodStatus};
use parking_lot::Mutex;
use tokio::{
    process::Command,
    sync::{Notify, watch},
};

use self::{
    actor::Actor,
    launch::{Launch, LaunchError},
    status::{Board, Phase, Report, Role},
    volumes::Volumes,
};
use super::{
    config::Programs, controllers::Id, network::PodAddresses, state::State, token::Signer,
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
        Self { nsenter, pid, privileges, env }
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
            later.into_iter().all(|r| r.role == Role::Init || matches!(r.phase, Phase::Ended(_)))
        });
        // The board lives as long as this does.
        drop(turn.await);
    }
}

/// Where `exec` finds how the container was started.
pub(super) fn launch_file(state: &State, uid: &str, container: &str) -> PathBuf {
    state.pod(uid).join("containers").join(format!("{container}.json"))
}

fn log_file(state: &State, pod: &Pod, container: &str) -> PathBuf {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    state.pod_logs(namespace, name).join(format!("{container}.log"))
}

/// Runs `pod` (complete, injected, with its uid) on these addresses.
pub(super) fn start(cx: Arc<Context>, pod: Pod, addresses: PodAddresses) -> Handle {
    let (goal, goal_receiver) = watch::channel(None);
    let (news_sender, news) = watch::channel(News::default());
    tokio::spawn(async move {
        let board = Board::of(&pod);
        let actor = Actor { cx, pod, addresses, board, goal: goal_receiver, news: news_sender };
        Box::pin(actor.live()).await;
    });
    Handle { goal, news }
}

/// `terminationGracePeriodSeconds`, 30 s by default.
pub(super) fn grace(pod: &Pod) -> Duration {
    let given = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    Duration::from_secs(given.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(30))
}
