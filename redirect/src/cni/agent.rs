//! The agent of a node: keeps what is ours there, and redirects pods that started before it.

use std::{
    io,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

use super::{
    node::{Node, NodeError},
    waiting::{self, Waiting},
};

/// How often it looks. A few files and the names of all processes are a millisecond's work.
const EVERY: Duration = Duration::from_secs(1);
/// Runtimes see at once that a configuration has changed; a pod that is just starting may still ask
/// for the plugin.
const GRACE: Duration = Duration::from_secs(1);

/// Until `stop`; then all that is ours is taken off the node. Pods of the mesh that start without an
/// agent wait for the next one, all others start as ever.
///
/// # Errors
/// If something of ours stays.
pub async fn run(node: &Node, stop: impl Future<Output = ()>) -> Result<(), NodeError> {
    if let Err(error) = node.bring() {
        warn!(%error, "cannot put the plugin onto the node");
    }
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trouble = Trouble::default();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            _ = ticks.tick() => {}
        }
        trouble.tell(node.repair().map(|done| {
            for file in done {
                info!(file, "tulle-cni is in place");
            }
        }));
        let found = waiting::find(Path::new("/proc")).unwrap_or_else(|error| {
            warn!(%error, "cannot look for pods that wait");
            Vec::new()
        });
        for pod in found {
            let process = pod.process;
            match repair(node, pod) {
                Ok(()) => info!(process, "a pod that waited is redirected"),
                Err(error) => warn!(process, %error, "cannot redirect a pod that waits"),
            }
        }
    }
    node.leave()?;
    sleep(GRACE).await;
    node.remove_program()
}

/// Redirects a pod, in a process of its own: it enters the pod's network for good.
fn repair(node: &Node, pod: Waiting) -> io::Result<()> {
    let done = Command::new(&node.program)
        .args(["repair", "--tools"])
        .arg(&node.tools)
        .args(&pod.options)
        .stdin(pod.namespace)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    if done.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&done.stderr).trim().to_owned()))
}

/// Says what is wrong when it changes, not every second.
#[derive(Default)]
struct Trouble(Option<String>);

impl Trouble {
    fn tell(&mut self, outcome: Result<(), NodeError>) {
        let now = outcome.err().map(|error| error.to_string());
        if now == self.0 {
            return;
        }
        match &now {
            Some(error) => warn!(error, "pods of the mesh cannot start on this node"),
            None => info!("the node is as it should be"),
        }
        self.0 = now;
    }
}
