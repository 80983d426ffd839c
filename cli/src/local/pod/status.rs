//! What is known about a pod's containers, and the pod's status that follows from it (pure).

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
        ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use tokio::sync::watch;

use crate::local::network::PodAddresses;

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::local) enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container that stays (`restartPolicy: Always`).
    Sidecar,
    /// What the pod is for.
    App,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::local) enum Phase {
    /// Not started, or between two starts.
    Waiting { reason: &'static str, message: String },
    /// Its process runs.
    Running { since: Timestamp },
    /// It ended and will not be started again.
    Ended(Ended),
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::local) struct Ended {
    pub(in crate::local) code: i32,
    pub(in crate::local) signal: Option<i32>,
    pub(in crate::local) reason: &'static str,
    /// Why it was ended, if it did not end by itself.
    pub(in crate::local) message: Option<String>,
    pub(in crate::local) started: Option<Timestamp>,
    pub(in crate::local) finished: Timestamp,
}

/// All that is known about one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::local) struct Report {
    pub(in crate::local) name: String,
    pub(in crate::local) image: String,
    pub(in crate::local) role: Role,
    pub(in crate::local) phase: Phase,
    /// Past its startup probe.
    pub(in crate::local) started: bool,
    pub(in crate::local) ready: bool,
    /// What the last probe said, while not ready.
    pub(in crate::local) not_ready_because: Option<String>,
    pub(in crate::local) restarts: i32,
    /// Its process as the runtime sees it.
    pub(in crate::local) pid: Option<u32>,
    pub(in crate::local) last: Option<Ended>,
}

/// Reports of a pod's containers, written by those who look after them, read by the pod.
#[derive(Debug, Clone)]
pub(in crate::local) struct Board {
    reports: Arc<watch::Sender<Vec<Report>>>,
}

impl Board {
    pub(super) fn of(pod: &Pod) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let init = spec.init_containers.into_iter().flatten().map(|container| {
            let role = init_role(&container);
            report(&container, role)
        });
        let apps = spec.containers.iter().map(|container| report(container, Role::App));
        let reports = init.chain(apps).collect();
        Self { reports: Arc::new(watch::Sender::new(reports)) }
    }

    pub(super) fn update(&self, name: &str, change: impl FnOnce(&mut Report)) {
        self.reports.send_if_modified(|reports| {
            let Some(report) = reports.iter_mut().find(|report| report.name == name) else {
                return false;
            };
            let before = report.clone();
            change(report);
            *report != before
        });
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Vec<Report>> {
        self.reports.subscribe()
    }

    pub(super) fn reports(&self) -> Vec<Report> {
        self.reports.borrow().clone()
    }
}

/// What an init container is.
pub(super) fn init_role(container: &Container) -> Role {
    match container.restart_policy.as_deref() {
        Some("Always") => Role::Sidecar,
        _ => Role::Init,
    }
}

fn report(container: &Container, role: Role) -> Report {
    let reason = if role == Role::App { "PodInitializing" } else { "ContainerCreating" };
    Report {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        role,
        phase: Phase::Waiting { reason, message: String::new() },
        started: false,
        ready: false,
        not_ready_because: None,
        restarts: 0,
        pid: None,
        last: None,
    }
}

/// Are all init containers done, and all sidecars started?
pub(super) fn initialized(reports: &[Report]) -> bool {
    reports.iter().all(|report| match (report.role, &report.phase) {
        (Role::Init, Phase::Ended(ended)) => ended.code == 0,
        (Role::Init, _) => false,
        (Role::Sidecar, _) => report.started,
        (Role::App, _) => true,
    })
}

/// Are all containers that have to be ready so?
pub(in crate::local) fn ready(reports: &[Report]) -> bool {
    let running = |report: &Report| matches!(report.phase, Phase::Running { .. });
    reports.iter().filter(|r| r.role != Role::Init).all(|r| r.ready && running(r))
        && initialized(reports)
}

/// The phase of a pod, as Kubernetes names it.
pub(in crate::local) fn phase(reports: &[Report]) -> &'static str {
    let failed = |report: &Report| matches!(&report.phase, Phase::Ended(ended) if ended.code != 0);
    let ended = |report: &Report| matches!(report.phase, Phase::Ended(_));
    let mut apps = reports.iter().filter(|report| report.role == Role::App);
    if reports.iter().any(|report| report.role == Role::Init && failed(report)) {
        return "Failed";
    }
    let begun =
        |report: &Report| report.restarts > 0 || !matches!(report.phase, Phase::Waiting { .. });
    if apps.clone().all(ended) {
        if apps.any(failed) { "Failed" } else { "Succeeded" }
    } else if apps.all(begun) && initialized(reports) {
        "Running"
    } else {
        "Pending"
    }
}

/// Why the pod is not ready: of its containers, what each waits for.
pub(in crate::local) fn why_not_ready(reports: &[Report]) -> Vec<String> {
    let blocked = reports.iter().filter(|r| match r.role {
        Role::Init => !matches!(&r.phase, Phase::Ended(ended) if ended.code == 0),
        Role::Sidecar | Role::App => !r.ready,
    });
    let mut texts: Vec<(bool, String)> = blocked
        .map(|report| {
            let (idle, text) = match &report.phase {
                Phase::Waiting { reason, message } if message.is_empty() => {
                    (true, (*reason).to_owned())
                }
                Phase::Waiting { reason, message } => (false, format!("{reason}: {message}")),
                Phase::Running { .. } => {
                    (false, report.not_ready_because.clone().unwrap_or_else(|| "starting".into()))
                }
                Phase::Ended(ended) => (false, format!("ended with {}", ended.code)),
            };
            (idle, format!("{}: {text}", report.name))
        })
        .collect();
    // Who only waits for others has nothing to say when they do.
    if texts.iter().any(|(idle, _)| !idle) {
        texts.retain(|(idle, _)| !idle);
    }
    texts.into_iter().map(|(_, text)| text).collect()
}

/// The status object.
pub(super) fn status(
    reports: &[Report],
    addresses: Option<PodAddresses>,
    message: Option<String>,
    previous: &PodStatus,
    now: &Timestamp,
) -> PodStatus {
    let ready = ready(reports);
    let why = why_not_ready(reports).join("; ");
    let condition = |type_: &str, holds: bool, message: &str| {
        let status = if holds { "True" } else { "False" };
        let before = previous.conditions.iter().flatten().find(|c| c.type_ == type_);
        let since =
            before.filter(|c| c.status == status).and_then(|c| c.last_transition_time.clone());
        PodCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            last_transition_time: since.or(Some(Time(*now))),
            message: (!holds && !message.is_empty()).then(|| message.to_owned()),
            ..PodCondition::default()
        }
    };
    let of = |init: bool| -> Option<Vec<ContainerStatus>> {
        let wanted = reports.iter().filter(|report| (report.role != Role::App) == init);
        let statuses: Vec<_> = wanted.map(container_status).collect();
        (!statuses.is_empty()).then_some(statuses)
    };
    let node = addresses.into_iter().flat_map(PodAddresses::node);
    let host_ips: Vec<_> = node.map(|ip| HostIP { ip: ip.to_string() }).collect();
    let pod_ips = addresses.map(|addresses| addresses.all().map(|ip| PodIP { ip: ip.to_string() }));
    PodStatus {
        phase: Some(phase(reports).to_owned()),
        message,
        conditions: Some(vec![
            condition("PodScheduled", true, ""),
            condition("Initialized", initialized(reports), &why),
            condition("ContainersReady", ready, &why),
            condition("Ready", ready, &why),
        ]),
        host_ip: host_ips.first().map(|host| host.ip.clone()),
        host_ips: (!host_ips.is_empty()).then_some(host_ips),
        pod_ip: addresses.map(|addresses| addresses.primary().to_string()),
        pod_ips: pod_ips.map(Iterator::collect),
        start_time: previous.start_time.clone().or(Some(Time(*now))),
        init_container_statuses: of(true),
        container_statuses: of(false),
        ..PodStatus::default()
    }
}

fn container_status(report: &Report) -> ContainerStatus {
    ContainerStatus {
        name: report.name.clone(),
        image: report.image.clone(),
        ready: report.ready,
        started: Some(report.started),
        restart_count: report.restarts,
        state: Some(match &report.phase {
            Phase::Waiting { reason, message } => ContainerState {
                waiting: Some(ContainerStateWaiting {
                    reason: Some((*reason).to_owned()),
                    message: Some(message.clone()).filter(|message| !message.is_empty()),
                }),
                ..ContainerState::default()
            },
            Phase::Running { since } => ContainerState {
                running: Some(ContainerStateRunning { started_at: Some(Time(*since)) }),
                ..ContainerState::default()
            },
            Phase::Ended(ended) => terminated(ended),
        }),
        last_state: report.last.as_ref().map(terminated),
        ..ContainerStatus::default()
    }
}

fn terminated(ended: &Ended) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: ended.code,
            signal: ended.signal,
            reason: Some(ended.reason.to_owned()),
            message: ended.message.clone(),
            started_at: ended.started.map(Time),
            finished_at: Some(Time(ended.finished)),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        serde_yaml_ng::from_str(
            "spec: {initContainers: [{name: i}, {name: s, restartPolicy: Always}], containers: [{name: a}]}",
        )
        .unwrap()
    }

    fn ended(code: i32) -> Phase {
        Phase::Ended(Ended {
            code,
            signal: None,
            reason: "Completed",
            message: None,
            started: None,
            finished: Timestamp::UNIX_EPOCH,
        })
    }

    #[test]
    fn a_pod_goes_through_its_phases() {
        let board = Board::of(&pod());
        let state =
            || (phase(&board.reports()), initialized(&board.reports()), ready(&board.reports()));
        assert_eq!(state(), ("Pending", false, false));
        board.update("i", |r| r.phase = ended(0));
        assert_eq!(state(), ("Pending", false, false));
        let run = |r: &mut Report| {
            r.phase = Phase::Running { since: Timestamp::UNIX_EPOCH };
            (r.started, r.ready) = (true, true);
        };
        board.update("s", run);
        assert_eq!(state(), ("Pending", true, false));
        board.update("a", run);
        assert_eq!(state(), ("Running", true, true));
        // A sidecar that is not ready makes the pod not ready.
        board.update("s", |r| r.ready = false);
        assert_eq!(state(), ("Running", true, false));
        board.update("a", |r| r.phase = ended(0));
        assert_eq!(state().0, "Succeeded");
        board.update("a", |r| r.phase = ended(1));
        assert_eq!(state().0, "Failed");
    }

    #[test]
    fn who_only_waits_for_others_says_nothing() {
        let board = Board::of(&pod());
        board.update("i", |r| r.phase = Phase::Running { since: Timestamp::UNIX_EPOCH });
        assert_eq!(why_not_ready(&board.reports()), ["i: starting"]);
    }

    #[test]
    fn conditions_keep_their_time() {
        let board = Board::of(&pod());
        let (first, later) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        let before = status(&board.reports(), None, None, &PodStatus::default(), &first);
        let after = status(&board.reports(), None, None, &before, &later);
        assert_eq!(after.conditions, before.conditions);
        assert_eq!(after.start_time, before.start_time);
    }
}
