//! `status`, `logs`, `exec`, `forward` and `down`: commands that speak to a running mesh.

mod choose;
mod forward;
mod table;

use std::{
    fs::{self, File},
    io::{self, IsTerminal as _, Read as _, Seek as _, Write as _},
    path::Path,
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};

use tokio::process::Command;

use self::choose::{container, find};
pub(super) use self::forward::{Ports, forward};
use super::{
    Error, ExecArgs, LogsArgs, StatusArgs,
    config::Programs,
    control::{Client, Request},
    overview::Overview,
    pod::{self, launch::Launch as ContainerLaunch},
    state::{self, Launch, State},
    up::say,
};

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// No such mesh.
    #[error("no mesh named `{name}` is running{others}; start one with `tulle local up DIR`")]
    NotRunning {
        /// The name.
        name: String,
        /// Those that are.
        others: String,
    },
    /// The rights are missing.
    #[error("{0}: are you root?")]
    Denied(String),
    /// No such pod.
    #[error("no pod is named `{name}`; there are: {there}")]
    NoPod {
        /// What was asked for.
        name: String,
        /// What there is.
        there: String,
    },
    /// The beginning fits several.
    #[error("`{name}` is the beginning of several pods: {fitting}")]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// What it could be.
        fitting: String,
    },
    /// No such container, or none that runs.
    #[error("pod {pod} has no {what}; it has: {there}")]
    NoContainer {
        /// The pod.
        pod: String,
        /// What was looked for.
        what: String,
        /// What there is.
        there: String,
    },
    /// No such Service.
    #[error("no Service is named `{name}`; there are: {there}")]
    NoService {
        /// What was asked for.
        name: String,
        /// What there is.
        there: String,
    },
    /// The name fits several.
    #[error("`{name}` are several Services: {fitting}; say which, as svc/NAMESPACE/NAME")]
    SeveralServices {
        /// What was asked for.
        name: String,
        /// What it could be.
        fitting: String,
    },
    /// No such port.
    #[error("{what} has no port {port}; it has: {there}")]
    NoPort {
        /// The Service.
        what: String,
        /// What was asked for.
        port: u16,
        /// What there is.
        there: String,
    },
    /// Nowhere to connect to.
    #[error("{what} has no address; {next}")]
    NoAddress {
        /// The pod or Service.
        what: String,
        /// What to do about it.
        next: &'static str,
    },
    /// Somebody else listens there.
    #[error("port {0} of 127.0.0.1 is in use; choose another one: LOCAL:PORT")]
    PortInUse(u16),
    /// The command itself.
    #[error("`{command}` in pod {pod} failed ({status}): {said}")]
    Failed {
        /// What was run.
        command: String,
        /// Where.
        pod: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to stderr.
        said: String,
    },
    /// Anything else.
    #[error("{doing}: {source}")]
    Io {
        /// While doing this.
        doing: String,
        /// What happened.
        source: io::Error,
    },
}

/// Prints the overview.
///
/// # Errors
/// See [`ClientError`].
pub(super) async fn status(args: &StatusArgs) -> Result<ExitCode, Error> {
    let overview = overview(&args.name.name).await?;
    let text = if args.output.is_some() {
        serde_json::to_string_pretty(&overview).map_err(|e| io_error("printing")(e.into()))? + "\n"
    } else {
        table::table(&overview, crate::table::terminal_width())
    };
    say(&mut io::stdout(), &text);
    Ok(ExitCode::SUCCESS)
}

async fn overview(name: &str) -> Result<Overview, ClientError> {
    latest(&mut ask(name, Request::Status).await?, name).await
}

async fn ask(name: &str, request: Request) -> Result<Client, ClientError> {
    let asked = Client::ask(&State::of(name).socket(), request).await;
    asked.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => ClientError::Denied(error.to_string()),
        _ => not_running(name),
    })
}

/// The mesh as it is now. Cancel safe.
async fn latest(mesh: &mut Client, name: &str) -> Result<Overview, ClientError> {
    let news = mesh.next().await.map_err(io_error("asking the mesh"))?;
    news.ok_or_else(|| not_running(name))
}

fn not_running(name: &str) -> ClientError {
    let others: Vec<_> =
        state::names().into_iter().filter(|other| State::of(other).is_running()).collect();
    let others = match others.as_slice() {
        [] => String::new(),
        others => format!(" (but: {})", others.join(", ")),
    };
    ClientError::NotRunning { name: name.to_owned(), others }
}

/// Prints what a container wrote; with `-f`, also what it writes.
///
/// # Errors
/// See [`ClientError`].
pub(super) async fn logs(args: &LogsArgs) -> Result<ExitCode, Error> {
    let overview = overview(&args.name.name).await?;
    let pod = find(&overview, &args.pod)?;
    let container = container(pod, args.container.as_deref())?;
    let directory = State::of(&args.name.name).pod_logs(&pod.namespace, &pod.name);
    let path = directory.join(format!("{container}.log"));
    let mut offset = 0;
    loop {
        match copy_from(&path, offset) {
            Ok(end) => offset = end,
            // Not started yet, or gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !directory.exists() || !args.follow {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => return Err(io_error("reading the log")(error).into()),
        }
        if !args.follow {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Copies what a file holds from `offset` on to stdout; returns where it ended. A shorter file was
/// begun anew.
fn copy_from(path: &Path, offset: u64) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let from = if length < offset { 0 } else { offset };
    file.seek(io::SeekFrom::Start(from))?;
    let mut out = io::stdout().lock();
    let copied = io::copy(&mut file.take(length - from), &mut out)?;
    out.flush()?;
    Ok(from + copied)
}

/// Runs a command in a container, with this process's stdin, stdout and stderr; its exit status is
/// ours.
///
/// # Errors
/// See [`ClientError`].
pub(super) async fn exec(args: &ExecArgs) -> Result<ExitCode, Error> {
    let mut command =
        command(&args.name.name, &args.pod, args.container.as_deref(), &args.command).await?;
    if io::stdin().is_terminal() {
        // Ctrl-C is for what runs inside, which is in the same process group.
        tokio::spawn(async { while tokio::signal::ctrl_c().await.is_ok() {} });
    }
    let status = command.status().await.map_err(io_error("starting nsenter"))?;
    Ok(exit_code(status))
}

fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Runs a command in a container and collects what it writes to stdout.
///
/// # Errors
/// See [`ClientError`].
pub(super) async fn exec_output(
    name: &str,
    pod: &str,
    container: &str,
    argv: &[String],
) -> Result<String, ClientError> {
    let mut command = command(name, pod, Some(container), argv).await?;
    let output = command.stdin(Stdio::null()).output().await;
    let output = output.map_err(io_error("starting nsenter"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(ClientError::Failed {
        command: argv.join(" "),
        pod: pod.to_owned(),
        status: output.status,
        said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// Two steps: into the runtime's namespaces, where process ids mean what the runtime means by them, and
/// from there into the container's.
async fn command(
    name: &str,
    pod: &str,
    wanted: Option<&str>,
    argv: &[String],
) -> Result<Command, ClientError> {
    let overview = overview(name).await?;
    let pod = find(&overview, pod)?;
    let container = container(pod, wanted)?;
    let running = pod.containers.iter().find(|c| c.name == container).and_then(|c| c.pid);
    let pid = running.ok_or_else(|| ClientError::NoContainer {
        pod: pod.name.clone(),
        what: format!("running process in container `{container}`"),
        there: if pod.waiting.is_empty() { "none".to_owned() } else { pod.waiting.join("; ") },
    })?;
    let state = State::of(name);
    let read =
        |path: &Path| fs::read_to_string(path).map_err(io_error(&path.display().to_string()));
    let (runtime, _) = state.read_host_pids().map_err(io_error("finding the mesh"))?;
    let broken = |error: serde_json::Error| io_error("reading the mesh's files")(error.into());
    let mesh: Launch = serde_json::from_str(&read(&state.launch())?).map_err(broken)?;
    let launch = read(&pod::launch_file(&state, &pod.uid, container))?;
    let launch: ContainerLaunch = serde_json::from_str(&launch).map_err(broken)?;
    let Programs { nsenter, .. } = &mesh.programs;
    let mut command = Command::new(nsenter);
    command
        .args(["-t", &runtime.to_string(), "-p", "-m", "--"])
        .arg(nsenter)
        .args(["-t", &pid.to_string(), "-m", "-p", "-n", "-u", "-i", "-r", "-w", "--"])
        .args(&launch.privileges)
        .arg("--")
        .args(argv)
        .env_clear()
        .envs(&launch.env);
    Ok(command)
}

/// Ends the mesh and removes what is left of it, also of one that crashed.
///
/// # Errors
/// See [`ClientError`].
pub(super) async fn down(name: &str) -> Result<ExitCode, Error> {
    let state = State::of(name);
    if !state.root().exists() {
        return Err(not_running(name).into());
    }
    if state.is_running() {
        let parent = state.read_host_pids().ok().map(|(_, parent)| format!("/proc/{parent}"));
        let connected = Client::ask(&state.socket(), Request::Down).await;
        let mut client = connected.map_err(io_error("speaking to the mesh"))?;
        while let Ok(Some(_)) = client.next().await {}
        // The connection ends a moment before the processes do.
        let mut poll = tokio::time::interval(Duration::from_millis(10));
        while state.is_running() {
            poll.tick().await;
        }
        // Of a detached mesh, init takes the last process away; it does so in its own time.
        for _ in 0..500 {
            if parent.as_ref().is_none_or(|path| !Path::new(path).exists()) {
                break;
            }
            poll.tick().await;
        }
    }
    state.remove().map_err(io_error("removing the state directory"))?;
    say(&mut io::stdout(), &format!("Mesh {name} has ended; nothing of it is left.\n"));
    Ok(ExitCode::SUCCESS)
}

fn io_error(doing: &str) -> impl Fn(io::Error) -> ClientError {
    let doing = doing.to_owned();
    move |source| ClientError::Io { doing: doing.clone(), source }
}
