//! `tulle local up`: start the mesh, show how it comes up, end it on ctrl-C.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::Instant,
};

use super::{
    Error, UpArgs,
    config::{Missing, Programs},
    control::{Client, Request},
    overview::Overview,
    progress::Progress,
    state::{Launch, LockError, State, write_atomically},
};
use crate::{dashboard::Front, observe::Source};

/// Why a mesh does not come up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpError {
    /// Rights or programs.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The name is taken, or the state directory cannot be made.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// DIR is no directory.
    #[error("`up` wants a directory with Kubernetes YAML: {path}: {source}")]
    Directory {
        /// What was given.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The same of the credentials.
    #[error("`--prometheus-credentials` wants a directory: {path}: {source}")]
    Credentials {
        /// What was given.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The runtime ended by itself.
    #[error("the mesh ended ({status}) before it was up:\n{log}")]
    Ended {
        /// How.
        status: ExitStatus,
        /// The end of what it had to say.
        log: String,
    },
    /// Not everything became ready in time.
    #[error("after {} s not everything is ready:{}", .seconds, .waiting.iter().map(|w| format!("\n  {w}")).collect::<String>())]
    NotReady {
        /// How long it had.
        seconds: u64,
        /// Who is not, and why.
        waiting: Vec<String>,
    },
    /// Anything else.
    #[error("{doing}: {source}")]
    Io {
        /// While doing this.
        doing: &'static str,
        /// What happened.
        source: io::Error,
    },
}

/// Starts the mesh; in the foreground, stays until it ends.
///
/// # Errors
/// See [`UpError`].
pub(super) async fn up(args: UpArgs) -> Result<ExitCode, Error> {
    let directory = folder(&args.directory)
        .map_err(|source| UpError::Directory { path: args.directory.clone(), source })?;
    let credentials = args.prometheus_credentials.as_deref().map(|path| {
        folder(path).map_err(|source| UpError::Credentials { path: path.to_owned(), source })
    });
    let prometheus_credentials = credentials.transpose()?;
    let programs = Programs::find(args.data_plane).map_err(UpError::from)?;
    let state = State::of(&args.name.name);
    let lock = state.take(&args.name.name).map_err(UpError::from)?;
    let launch = Launch {
        name: args.name.name.clone(),
        directory,
        data_plane: args.data_plane,
        families: args.ip_families,
        certificate_lifetime: args.certificate_lifetime,
        prometheus: args.prometheus.as_ref().map(ToString::to_string),
        prometheus_credentials,
        release_hosts: args.release_hosts.iter().map(ToString::to_string).collect(),
        programs,
    };
    let mesh = start(&args, &state, &launch, lock).await;
    let outcome = match mesh {
        Ok(mesh) => mesh.follow(&args).await,
        Err(error) => Err(error),
    };
    if !state.is_running() {
        state.remove().map_err(io_error("removing the state directory"))?;
    }
    Ok(outcome?)
}

/// Where this directory is, whoever asks.
fn folder(path: &Path) -> io::Result<PathBuf> {
    let path = fs::canonicalize(path)?;
    if path.is_dir() { Ok(path) } else { Err(io::Error::other("not a directory")) }
}

/// A mesh that was started.
struct Mesh {
    state: State,
    child: Child,
    begun: Instant,
}

async fn start(args: &UpArgs, state: &State, launch: &Launch, lock: File) -> Result<Mesh, UpError> {
    let begun = Instant::now();
    let text =
        serde_json::to_vec_pretty(launch).map_err(|error| io_error("launch")(error.into()))?;
    write_atomically(&state.launch(), &text).map_err(io_error("writing the launch file"))?;
    let log = File::create(state.runtime_log()).map_err(io_error("making the log"))?;
    let log_too = log.try_clone().map_err(io_error("making the log"))?;
    let programs = &launch.programs;
    // The kernel ends the mesh with this process, however it ends: the parent's death kills
    // `unshare`, whose death kills the first process of the namespace, and with it all others.
    let mut command = if args.detach {
        Command::new(&programs.unshare)
    } else {
        let mut command = Command::new(&programs.setpriv);
        command.args(["--pdeathsig", "KILL", "--"]).arg(&programs.unshare);
        command
    };
    let mut child = command
        .args(["--net", "--pid", "--mount", "--ipc", "--uts", "--fork", "--kill-child"])
        .args(["--mount-proc", "--"])
        .arg(&programs.tulle)
        .args(["local", "init", "--name", &launch.name])
        // The lock lives as long as somebody has the file open.
        .stdin(Stdio::from(lock))
        .stdout(Stdio::from(log))
        .stderr(Stdio::from(log_too))
        // Ctrl-C is for this process, which ends the mesh in order.
        .process_group(0)
        .spawn()
        .map_err(io_error("starting unshare"))?;
    wait_for_socket(state, &mut child).await?;
    record_host_pids(state, &child).map_err(io_error("finding the runtime's process"))?;
    Ok(Mesh { state: state.clone(), child, begun })
}

async fn wait_for_socket(state: &State, child: &mut Child) -> Result<(), UpError> {
    let mut poll = tokio::time::interval(Duration::from_millis(5));
    while !state.socket().exists() {
        tokio::select! {
            status = child.wait() => {
                let status = status.map_err(io_error("waiting for the mesh"))?;
                return Err(UpError::Ended { status, log: end_of(&state.runtime_log()) });
            }
            _ = poll.tick() => {}
        }
    }
    Ok(())
}

/// `exec` enters the mesh through its first process; `down` waits for that one's parent's end.
fn record_host_pids(state: &State, child: &Child) -> io::Result<()> {
    let parent = child.id().ok_or_else(|| io::Error::other("it has ended"))?;
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
    let pid = children.split_whitespace().next().ok_or_else(|| io::Error::other("no child"))?;
    write_atomically(&state.host_pids(), format!("{pid} {parent}").as_bytes())
}

impl Mesh {
    async fn follow(self, args: &UpArgs) -> Result<ExitCode, UpError> {
        let mut client = Client::ask(&self.state.socket(), Request::Watch)
            .await
            .map_err(io_error("speaking to the mesh"))?;
        let mut progress = Progress::new(self.begun, io::stdout());
        let dashboard = if args.detach { None } else { dashboard(&args.name.name).await };
        let timeout = tokio::time::sleep_until(self.begun + Duration::from_secs(args.timeout));
        let mut timeout = std::pin::pin!(timeout);
        let mut last = Overview::default();
        let (mut settled, mut late) = (false, false);
        loop {
            tokio::select! {
                overview = client.next() => match overview {
                    Ok(Some(overview)) => {
                        progress.show(&overview);
                        last = overview;
                    }
                    Ok(None) | Err(_) => return self.ended().await,
                },
                () = interrupted(), if !args.detach => return self.end(&mut progress).await,
                () = &mut timeout, if !settled && !late => late = true,
            }
            if late && !settled {
                let waiting = waiting(&last);
                if args.detach && args.wait() {
                    return Err(UpError::NotReady { seconds: args.timeout, waiting });
                }
                progress.late(&waiting);
                settled = true;
            }
            if last.settled && !settled {
                settled = true;
                progress.settled(&last, &args.name.name, dashboard.as_deref());
            }
            if args.detach && (settled || !args.wait()) {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }

    /// Ctrl-C: what `down` does.
    async fn end(mut self, progress: &mut Progress<io::Stdout>) -> Result<ExitCode, UpError> {
        progress.ending();
        let mut client = Client::ask(&self.state.socket(), Request::Down)
            .await
            .map_err(io_error("speaking to the mesh"))?;
        loop {
            tokio::select! {
                overview = client.next() => match overview {
                    Ok(Some(overview)) => progress.show(&overview),
                    Ok(None) | Err(_) => break,
                },
                // Asked twice: at once.
                () = interrupted() => {
                    self.child.kill().await.map_err(io_error("ending the mesh"))?;
                    break;
                }
            }
        }
        self.child.wait().await.map_err(io_error("waiting for the mesh"))?;
        Ok(ExitCode::SUCCESS)
    }

    /// The runtime closed the connection: `down` was called, or it broke.
    async fn ended(mut self) -> Result<ExitCode, UpError> {
        let status = self.child.wait().await.map_err(io_error("waiting for the mesh"))?;
        if status.success() {
            return Ok(ExitCode::SUCCESS);
        }
        Err(UpError::Ended { status, log: end_of(&self.state.runtime_log()) })
    }
}

async fn interrupted() {
    if let Err(error) = tulle_runtime::signal::terminate().await {
        // Then only `down` ends the mesh.
        tracing::error!(%error, "no signals");
        std::future::pending::<()>().await;
    }
}

/// Serves the dashboard for as long as this process lives, and says where. The mesh does without it.
async fn dashboard(mesh: &str) -> Option<String> {
    let front = Front::listen(Source::Local(super::control_plane_socket(mesh)), 0).await;
    let front = front.inspect_err(|error| tracing::warn!(%error, "no dashboard")).ok()?;
    let address = front.address();
    tokio::spawn(front.serve());
    Some(address)
}

/// Who is not ready, and why.
pub(super) fn waiting(overview: &Overview) -> Vec<String> {
    let pods = overview.pods.iter().filter(|pod| !pod.ready && pod.phase != "Succeeded");
    let pods = pods.map(|pod| {
        let why = if pod.terminating { "ending".to_owned() } else { pod.waiting.join("; ") };
        format!("pod {}/{}: {why}", pod.namespace, pod.name)
    });
    let problems = overview.problems.iter().map(ToString::to_string);
    pods.chain(problems).collect()
}

fn end_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(10).collect();
    lines.into_iter().rev().map(|line| format!("  {line}\n")).collect()
}

fn io_error(doing: &'static str) -> impl Fn(io::Error) -> UpError {
    move |source| UpError::Io { doing, source }
}

/// Writes to the terminal; that nobody reads any more is no reason to stop the mesh.
pub(super) fn say(out: &mut impl io::Write, text: &str) {
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}
