//! One container over its life: start, probe, end, start again with back-off, end for good.

use std::{
    fs::{self, File},
    io,
    os::unix::{fs::fchown, process::ExitStatusExt as _},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Container, LifecycleHandler},
    jiff::Timestamp,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    sync::watch,
    time::Instant,
};

use super::{
    Process, Shared,
    launch::{Launch, LaunchError},
    probe::{self, Target},
    status::{Ended, Phase, Role},
};

/// What a container shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// Run, and be started again as the restart policy says.
    Run,
    /// End, at the latest then.
    End(Instant),
}

/// The kubelet waits 10 s before the second restart; here, where one waits in front of a terminal, 1 s.
/// Doubling and bound are the kubelet's.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const MAX_BACK_OFF: Duration = Duration::from_mins(5);
/// A container that ran for this long begins with a short back-off again.
const STABLE: Duration = Duration::from_mins(10);
/// After a preStop hook that took all of the time.
const LAST_CHANCE: Duration = Duration::from_secs(2);

/// A container of a pod and how to look after it.
pub(super) struct Keeper {
    pub(super) shared: std::sync::Arc<Shared>,
    pub(super) container: Container,
    pub(super) role: Role,
    pub(super) goal: watch::Receiver<Goal>,
}

/// A process that was started.
struct Run {
    child: Child,
    process: Process,
    since: (Instant, Timestamp),
}

/// The task that probes a process. Readiness goes on being probed while the container ends, as the
/// kubelet does it; an address that may soon be another pod's is not.
struct Probing(tokio::task::JoinHandle<String>);

impl Drop for Probing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

enum Outcome {
    Exited(io::Result<ExitStatus>),
    Unhealthy(String),
    Stop(Instant),
}

impl Keeper {
    /// Looks after the container until it has ended for good.
    pub(super) async fn keep(mut self) {
        let mut back_off = FIRST_BACK_OFF;
        let mut restarts = 0;
        while let Some(mut run) = self.start().await {
            let target = Target {
                container: self.container.clone(),
                address: self.shared.address,
                process: run.process.clone(),
                board: self.shared.board.clone(),
            };
            let mut probing = Probing(tokio::spawn(probe::follow(target)));
            let outcome = self.watch(&mut run, &mut probing).await;
            let ran_for = run.since.0.elapsed();
            let (ended, stopped) = Box::pin(self.finish(run, outcome, probing)).await;
            if stopped || !self.restarts_after(&ended) {
                self.update(|report| report.phase = Phase::Ended(ended));
                return;
            }
            if ran_for > STABLE {
                (restarts, back_off) = (0, FIRST_BACK_OFF);
            }
            // The first restart is immediate.
            let wait = if restarts == 0 { Duration::ZERO } else { back_off };
            self.wait_to_restart(&ended, wait).await;
            if restarts > 0 {
                back_off = (back_off * 2).min(MAX_BACK_OFF);
            }
            restarts += 1;
        }
        // Ended before it ever ran: nothing to report but that.
        self.update(|report| {
            if !matches!(report.phase, Phase::Ended(_)) {
                let last = report.last.clone();
                report.phase = Phase::Ended(last.unwrap_or_else(never_ran));
            }
        });
    }

    fn update(&self, change: impl FnOnce(&mut super::status::Report)) {
        self.shared.board.update(&self.container.name, change);
    }

    /// Starts the process as soon as everything it refers to is there. None when it shall not run.
    async fn start(&self) -> Option<Run> {
        let mut config_maps = self.shared.cx.config_maps.clone();
        let mut goal = self.goal.clone();
        loop {
            if *goal.borrow_and_update() != Goal::Run {
                return None;
            }
            let maps = config_maps.borrow_and_update().clone();
            let wait = match self.shared.describe(&self.container, &maps) {
                Ok(launch) => match self.spawn(&launch).await {
                    Ok(run) => return Some(run),
                    Err(error) => ("RunContainerError", error.to_string(), true),
                },
                Err(LaunchError::NotThere(missing)) => {
                    ("CreateContainerConfigError", missing.to_string(), false)
                }
                Err(LaunchError::Invalid(reason)) => ("CreateContainerConfigError", reason, false),
            };
            let (reason, message, again) = wait;
            self.update(|report| report.phase = Phase::Waiting { reason, message });
            tokio::select! {
                changed = goal.changed() => { changed.ok()?; }
                changed = config_maps.changed() => { changed.ok()?; }
                () = tokio::time::sleep(Duration::from_secs(5)), if again => {}
            }
        }
    }

    async fn spawn(&self, launch: &Launch) -> io::Result<Run> {
        let shared = &self.shared;
        let name = &self.container.name;
        let file = shared.launch_file(name);
        fs::create_dir_all(file.parent().unwrap_or(&file))?;
        let content = serde_json::to_vec(launch).map_err(io::Error::other)?;
        crate::local::state::write_atomically(&file, &content)?;
        let log = File::options().create(true).append(true).open(shared.log_file(name))?;
        // Programs that open /dev/stdout need the right to.
        if let Some(uid) = launch.user() {
            fchown(&log, Some(uid), None)?;
        }
        let programs = &shared.cx.programs;
        let mut child = Command::new(&programs.nsenter)
            .args(["-t", &shared.anchor.to_string(), "-n", "-u", "-i", "--"])
            .arg(&programs.unshare)
            .args(["--mount", "--pid", "--fork", "--kill-child", "--"])
            .arg(&programs.tulle)
            .args(["local", "container"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let outer = child.id().ok_or_else(|| io::Error::other("ended at once"))?;
        let pid = tokio::select! {
            pid = first_child(outer) => Some(pid?),
            // It did what it had to before anybody could look. The exit status comes again.
            _ = child.wait() => None,
        };
        let since = (Instant::now(), Timestamp::now());
        self.update(|report| {
            report.phase = Phase::Running { since: since.1 };
            (report.started, report.ready) = (false, false);
            report.pid = pid;
        });
        let process = Process::new(programs.nsenter.clone(), pid, launch);
        Ok(Run { child, process, since })
    }

    async fn watch(&mut self, run: &mut Run, probing: &mut Probing) -> Outcome {
        loop {
            tokio::select! {
                biased;
                status = run.child.wait() => return Outcome::Exited(status),
                changed = self.goal.changed() => {
                    if changed.is_err() {
                        return Outcome::Stop(Instant::now());
                    }
                    if let Goal::End(deadline) = *self.goal.borrow_and_update() {
                        return Outcome::Stop(deadline);
                    }
                }
                Ok(reason) = &mut probing.0 => return Outcome::Unhealthy(reason),
            }
        }
    }

    /// Ends the process if it has not ended, and says how it did and whether it was to end for good.
    async fn finish(&self, mut run: Run, outcome: Outcome, probing: Probing) -> (Ended, bool) {
        let mut killed = false;
        let (status, why, stopped) = match outcome {
            Outcome::Exited(status) => (status, None, matches!(*self.goal.borrow(), Goal::End(_))),
            Outcome::Unhealthy(reason) => {
                let deadline = Instant::now() + self.shared.grace;
                (self.end(&mut run, deadline, &mut killed).await, Some(reason), false)
            }
            Outcome::Stop(deadline) => {
                (self.end(&mut run, deadline, &mut killed).await, None, true)
            }
        };
        drop(probing);
        let (code, signal) = match &status {
            Ok(status) => (status.code(), status.signal()),
            Err(error) => {
                tracing::warn!(container = %self.container.name, %error, "unknown how it ended");
                (None, None)
            }
        };
        // `unshare` passes every signal on but SIGKILL, of which it makes exit status 1.
        let signal = if killed { Some(Signal::KILL.as_raw()) } else { signal };
        let code = match (code, signal) {
            (Some(code), None) => code,
            (_, signal) => 128 + signal.unwrap_or(0),
        };
        let ended = Ended {
            code,
            signal,
            reason: if code == 0 { "Completed" } else { "Error" },
            message: why,
            started: Some(run.since.1),
            finished: Timestamp::now(),
        };
        self.update(|report| {
            (report.pid, report.started, report.ready) = (None, false, false);
            report.not_ready_because = None;
            report.last = Some(ended.clone());
        });
        (ended, stopped)
    }

    /// The kubelet's order: preStop, (sidecars: when their turn comes,) SIGTERM, SIGKILL.
    async fn end(
        &self,
        run: &mut Run,
        deadline: Instant,
        killed: &mut bool,
    ) -> io::Result<ExitStatus> {
        let hook = self.container.lifecycle.as_ref().and_then(|l| l.pre_stop.clone());
        let mut deadline = deadline;
        if let Some(hook) = hook {
            tokio::select! {
                status = run.child.wait() => return status,
                result = self.pre_stop(&run.process, &hook) => {
                    if let Err(error) = result {
                        tracing::warn!(container = %self.container.name, error, "preStop failed");
                    }
                }
                () = tokio::time::sleep_until(deadline) => {}
            }
            deadline = deadline.max(Instant::now() + LAST_CHANCE);
        }
        let for_good = matches!(*self.goal.borrow(), Goal::End(_));
        if for_good && self.role == Role::Sidecar {
            tokio::select! {
                status = run.child.wait() => return status,
                () = self.shared.turn_of(&self.container.name) => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
        run.process.signal(Signal::TERM);
        tokio::select! {
            status = run.child.wait() => return status,
            () = tokio::time::sleep_until(deadline) => {}
        }
        run.process.signal(Signal::KILL);
        *killed = true;
        run.child.wait().await
    }

    async fn pre_stop(&self, process: &Process, hook: &LifecycleHandler) -> Result<(), String> {
        if let Some(action) = &hook.exec {
            probe::exec(process, action).await
        } else if let Some(action) = &hook.http_get {
            probe::http_get(&self.container, self.shared.address, action).await
        } else {
            let seconds = hook.sleep.as_ref().map_or(0, |sleep| sleep.seconds);
            tokio::time::sleep(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))).await;
            Ok(())
        }
    }

    fn restarts_after(&self, ended: &Ended) -> bool {
        match (self.role, self.shared.restart_policy.as_str()) {
            (Role::Sidecar, _) | (Role::App, "Always") => true,
            (Role::App, "OnFailure") => ended.code != 0,
            (Role::Init, policy) => ended.code != 0 && policy != "Never",
            (Role::App, _) => false,
        }
    }

    async fn wait_to_restart(&mut self, ended: &Ended, wait: Duration) {
        let code = ended.code;
        let why = ended.message.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
        let message = format!("ended with {code}{why}; next start in {} s", wait.as_secs());
        self.update(|report| {
            report.restarts += 1;
            if !wait.is_zero() {
                report.phase = Phase::Waiting { reason: "CrashLoopBackOff", message };
            }
        });
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = self.goal.changed() => self.goal.mark_changed(),
        }
    }
}

fn never_ran() -> Ended {
    Ended {
        code: 137,
        signal: None,
        reason: "ContainerStatusUnknown",
        message: Some("ended before it was started".to_owned()),
        started: None,
        finished: Timestamp::now(),
    }
}

impl Process {
    /// Sends a signal. That the process has gone in the meantime is fine.
    fn signal(&self, signal: Signal) {
        let pid = self.pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::debug!(?pid, %error, "signal not sent");
        }
    }
}

/// The process that `unshare` forks into the new namespaces: there a moment after `unshare` itself.
/// Waits for ever if it has gone by then: whoever asks looks for that too.
async fn first_child(parent: u32) -> io::Result<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    loop {
        let children = fs::read_to_string(&path)?;
        if let Some(pid) = children.split_whitespace().next().and_then(|pid| pid.parse().ok()) {
            return Ok(pid);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
