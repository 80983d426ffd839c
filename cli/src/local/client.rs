//! `status`, `logs`, `exec` and `down`: commands that speak to a running mesh.

use std::{
    fs::{self, File},
    io::{self, IsTerminal as _, Read as _, Seek as _, Write as _},
    path::Path,
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};

use tokio::process::Command;

use super::{
    Error, ExecArgs, LogsArgs, StatusArgs,
    config::Programs,
    control::{Client, Request},
    overview::{Overview, PodLine},
    pod::{self, launch::Launch as ContainerLaunch},
    progress::gathered,
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
        table(&overview)
    };
    say(&mut io::stdout(), &text);
    Ok(ExitCode::SUCCESS)
}

async fn overview(name: &str) -> Result<Overview, ClientError> {
    let state = State::of(name);
    let mut client = Client::ask(&state.socket(), Request::Status)
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Denied(error.to_string()),
            _ => not_running(name),
        })?;
    let overview = client.next().await.map_err(io_error("asking the mesh"))?;
    overview.ok_or_else(|| not_running(name))
}

fn not_running(name: &str) -> ClientError {
    let others: Vec<_> = state::names()
        .into_iter()
        .filter(|other| State::of(other).is_running())
        .collect();
    let others = match others.as_slice() {
        [] => String::new(),
        others => format!(" (but: {})", others.join(", ")),
    };
    ClientError::NotRunning {
        name: name.to_owned(),
        others,
    }
}

fn table(overview: &Overview) -> String {
    let mut text = format!("Mesh {} of {}\n\n", overview.name, overview.directory);
    let pods = overview.pods.iter().map(|pod| {
        let (ready, all) = pod.ready_of();
        let state = if pod.terminating {
            "Terminating".to_owned()
        } else {
            pod.phase.clone()
        };
        [
            pod.namespace.clone(),
            pod.name.clone(),
            format!("{ready}/{all}"),
            state,
            pod.restarts().to_string(),
            pod.ip.clone(),
            pod.waiting.join("; "),
        ]
    });
    let head = ["NAMESPACE", "POD", "READY", "STATUS", "RESTARTS", "IP", ""].map(str::to_owned);
    text.push_str(&columns(std::iter::once(head).chain(pods).collect()));
    let services = overview.services.iter().map(|service| {
        let ports: Vec<String> = service.ports.iter().map(ToString::to_string).collect();
        let addresses = service.addresses.join(", ");
        [
            service.namespace.clone(),
            service.name.clone(),
            if addresses.is_empty() {
                "headless".to_owned()
            } else {
                addresses
            },
            ports.join(", "),
            service.ready_endpoints.to_string(),
        ]
    });
    let head = ["NAMESPACE", "SERVICE", "ADDRESS", "PORTS", "ENDPOINTS"].map(str::to_owned);
    text.push('\n');
    text.push_str(&columns(std::iter::once(head).chain(services).collect()));
    let problems = overview
        .problems
        .iter()
        .map(|problem| format!("  {problem}\n"));
    section(&mut text, "Problems", problems.collect());
    let notes = gathered(&overview.not_honoured)
        .into_iter()
        .map(|note| format!("  {note}\n"));
    section(&mut text, "Not honoured", notes.collect());
    section(
        &mut text,
        "Remarks",
        overview
            .remarks
            .iter()
            .map(|r| format!("  {r}\n"))
            .collect(),
    );
    text
}

fn section(text: &mut String, title: &str, content: String) {
    if !content.is_empty() {
        text.push_str(&format!("\n{title}:\n{content}"));
    }
}

fn columns<const N: usize>(rows: Vec<[String; N]>) -> String {
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: [String; N]| {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.into_iter().map(line).collect()
}

/// A pod by its name, the beginning of it, or either with the namespace in front.
fn find<'a>(overview: &'a Overview, name: &str) -> Result<&'a PodLine, ClientError> {
    let (namespace, wanted) = match name.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, name),
    };
    let pods = overview
        .pods
        .iter()
        .filter(|pod| namespace.is_none_or(|n| n == pod.namespace));
    let exact: Vec<&PodLine> = pods.clone().filter(|pod| pod.name == wanted).collect();
    let fitting: Vec<&PodLine> = if exact.is_empty() {
        // `reviews` means reviews-6b8f…-x2x9k, but one that is ending only if nothing else is meant.
        let begins = |pod: &&PodLine| {
            pod.name
                .strip_prefix(wanted)
                .is_some_and(|rest| rest.starts_with('-'))
        };
        let all: Vec<&PodLine> = pods.clone().filter(begins).collect();
        let living: Vec<&PodLine> = all.iter().copied().filter(|pod| !pod.terminating).collect();
        if living.is_empty() { all } else { living }
    } else {
        exact
    };
    let names = |pods: &mut dyn Iterator<Item = &PodLine>| {
        let names: Vec<String> = pods
            .map(|p| format!("{}/{}", p.namespace, p.name))
            .collect();
        names.join(", ")
    };
    match fitting.as_slice() {
        [pod] => Ok(pod),
        [] => Err(ClientError::NoPod {
            name: name.to_owned(),
            there: names(&mut overview.pods.iter()),
        }),
        several => Err(ClientError::Ambiguous {
            name: name.to_owned(),
            fitting: names(&mut several.iter().copied()),
        }),
    }
}

/// The container asked for, or the first of the pod's own.
fn container<'a>(pod: &'a PodLine, wanted: Option<&'a str>) -> Result<&'a str, ClientError> {
    let own = pod
        .containers
        .iter()
        .find(|container| container.role == "app");
    let found = match wanted {
        Some(name) => pod
            .containers
            .iter()
            .find(|container| container.name == name),
        None => own,
    };
    let all: Vec<&str> = pod.containers.iter().map(|c| c.name.as_str()).collect();
    found
        .map(|container| container.name.as_str())
        .ok_or_else(|| ClientError::NoContainer {
            pod: pod.name.clone(),
            what: wanted.map_or_else(
                || "container".to_owned(),
                |name| format!("container `{name}`"),
            ),
            there: all.join(", "),
        })
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
    let mut command = command(
        &args.name.name,
        &args.pod,
        args.container.as_deref(),
        &args.command,
    )
    .await?;
    if io::stdin().is_terminal() {
        // Ctrl-C is for what runs inside, which is in the same process group.
        tokio::spawn(async { while tokio::signal::ctrl_c().await.is_ok() {} });
    }
    let status = command
        .status()
        .await
        .map_err(io_error("starting nsenter"))?;
    Ok(exit_code(status))
}

fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
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
    let running = pod
        .containers
        .iter()
        .find(|c| c.name == container)
        .and_then(|c| c.pid);
    let pid = running.ok_or_else(|| ClientError::NoContainer {
        pod: pod.name.clone(),
        what: format!("running process in container `{container}`"),
        there: if pod.waiting.is_empty() {
            "none".to_owned()
        } else {
            pod.waiting.join("; ")
        },
    })?;
    let state = State::of(name);
    let read =
        |path: &Path| fs::read_to_string(path).map_err(io_error(&path.display().to_string()));
    let (runtime, _) = state
        .read_host_pids()
        .map_err(io_error("finding the mesh"))?;
    let broken = |error: serde_json::Error| io_error("reading the mesh's files")(error.into());
    let mesh: Launch = serde_json::from_str(&read(&state.launch())?).map_err(broken)?;
    let launch = read(&pod::launch_file(&state, &pod.uid, container))?;
    let launch: ContainerLaunch = serde_json::from_str(&launch).map_err(broken)?;
    let Programs { nsenter, .. } = &mesh.programs;
    let mut command = Command::new(nsenter);
    command
        .args(["-t", &runtime.to_string(), "-p", "-m", "--"])
        .arg(nsenter)
        .args([
            "-t",
            &pid.to_string(),
            "-m",
            "-p",
            "-n",
            "-u",
            "-i",
            "-r",
            "-w",
            "--",
        ])
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
        let parent = state
            .read_host_pids()
            .ok()
            .map(|(_, parent)| format!("/proc/{parent}"));
        let connected = Client::ask(&state.socket(), Request::Down).await;
        let mut client = connected.map_err(io_error("speaking to the mesh"))?;
        while let Ok(Some(_)) = client.next().await {}
        // The connection ends a moment before the processes do.
        let mut poll = tokio::time::interval(Duration::from_millis(10));
        while state.is_running() {
            poll.tick().await;
        }
        // Of a detached mesh, init takes the last process away; it does so in its own time.
        for _ in 0..100 {
            if parent.as_ref().is_none_or(|path| !Path::new(path).exists()) {
                break;
            }
            poll.tick().await;
        }
    }
    state
        .remove()
        .map_err(io_error("removing the state directory"))?;
    say(
        &mut io::stdout(),
        &format!("Mesh {name} has ended; nothing of it is left.\n"),
    );
    Ok(ExitCode::SUCCESS)
}

fn io_error(doing: &str) -> impl Fn(io::Error) -> ClientError {
    let doing = doing.to_owned();
    move |source| ClientError::Io {
        doing: doing.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overview() -> Overview {
        let pod = |namespace: &str, name: &str, terminating| PodLine {
            namespace: namespace.into(),
            name: name.into(),
            terminating,
            ..PodLine::default()
        };
        Overview {
            pods: vec![
                pod("shop", "cart-1-a", true),
                pod("shop", "cart-1-b", false),
                pod("shop", "web-1-c", false),
                pod("test", "web-1-d", false),
            ],
            ..Overview::default()
        }
    }

    #[test]
    fn pods_are_found_by_the_beginning_of_their_name() {
        let overview = overview();
        let found = |name: &str| find(&overview, name).map(|pod| pod.name.as_str());
        assert_eq!(found("cart-1-a").unwrap(), "cart-1-a");
        assert_eq!(found("cart").unwrap(), "cart-1-b");
        assert_eq!(found("test/web").unwrap(), "web-1-d");
        assert!(matches!(found("web"), Err(ClientError::Ambiguous { .. })));
        assert!(matches!(found("we"), Err(ClientError::NoPod { .. })));
    }

    #[test]
    fn a_table_has_straight_columns() {
        let rows = vec![
            ["A".to_owned(), "B".to_owned()],
            ["long".to_owned(), String::new()],
        ];
        assert_eq!(columns(rows), "A     B\nlong\n");
    }
}
