//! Startup, readiness and liveness probes, as the kubelet makes them: from outside of the pod against
//! its address, or a command inside of the container.

use std::{future::Future, net::IpAddr, process::Stdio, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::{
    api::core::v1::{Container, ExecAction, HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use tokio::{net::TcpStream, time::Instant};

use super::{Process, status::Board};

/// As much of an answer's body as is read: the kubelet's number.
const BODY: usize = 10 << 10;
/// The first pause between probes of a container's readiness.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Characters of it that are shown.
const SHOWN: usize = 300;

/// What a probe is made on.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) container: Container,
    /// Address of the pod.
    pub(super) address: IpAddr,
    pub(super) process: Process,
    pub(super) board: Board,
}

/// Follows a running container with its probes; returns when it has to be restarted, with the reason.
/// Its results are on the board. To be dropped when the container ends.
pub(super) async fn follow(target: Target) -> String {
    let name = target.container.name.clone();
    if let Some(probe) = target.container.startup_probe.clone()
        && let Err(reason) = until_started(&target, &probe).await
    {
        return format!("startup probe failed: {reason}");
    }
    let ready_at_once = target.container.readiness_probe.is_none();
    target.board.update(&name, |report| {
        report.started = true;
        report.ready = ready_at_once;
        report.not_ready_because = None;
    });
    let readiness = async {
        if let Some(probe) = &target.container.readiness_probe {
            watch_readiness(&target, probe).await;
        }
        std::future::pending::<()>().await;
    };
    let liveness = async {
        match &target.container.liveness_probe {
            Some(probe) => until_dead(&target, probe).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = readiness => String::new(),
        reason = liveness => format!("liveness probe failed: {reason}"),
    }
}

async fn until_started(target: &Target, probe: &Probe) -> Result<(), String> {
    let mut failures = 0;
    let mut rounds = Rounds::new(probe);
    loop {
        rounds.next().await;
        match once(target, probe).await {
            Ok(()) => return Ok(()),
            Err(reason) => {
                failures += 1;
                let text = format!("startup probe: {reason}");
                target.board.update(&target.container.name, |report| {
                    report.not_ready_because = Some(text);
                });
                if failures >= probe.failure_threshold.unwrap_or(3).max(1) {
                    return Err(reason);
                }
            }
        }
    }
}

async fn watch_readiness(target: &Target, probe: &Probe) {
    let (mut successes, mut failures) = (0, 0);
    let mut rounds = Rounds::eager(probe);
    loop {
        rounds.next().await;
        let result = once(target, probe).await;
        (successes, failures) = match result {
            Ok(()) => (successes + 1, 0),
            Err(_) => (0, failures + 1),
        };
        let name = &target.container.name;
        match result {
            Ok(()) if successes >= probe.success_threshold.unwrap_or(1).max(1) => {
                target.board.update(name, |report| {
                    report.ready = true;
                    report.not_ready_because = None;
                });
            }
            Ok(()) => {}
            Err(reason) => {
                let gone = failures >= probe.failure_threshold.unwrap_or(3).max(1);
                target.board.update(name, |report| {
                    report.ready &= !gone;
                    if !report.ready {
                        report.not_ready_because = Some(format!("readiness probe: {reason}"));
                    }
                });
            }
        }
    }
}

async fn until_dead(target: &Target, probe: &Probe) -> String {
    let mut failures = 0;
    let mut rounds = Rounds::new(probe);
    loop {
        rounds.next().await;
        match once(target, probe).await {
            Ok(()) => failures = 0,
            Err(reason) => {
                failures += 1;
                if failures >= probe.failure_threshold.unwrap_or(3).max(1) {
                    return reason;
                }
            }
        }
    }
}

/// When to probe next: after `initialDelaySeconds`, then every `periodSeconds`. The kubelet's period begins at a random
/// time, here it begins at once.
struct Rounds {
    begin: Instant,
    next: Instant,
    period: Duration,
    eager: bool,
}

impl Rounds {
    fn new(probe: &Probe) -> Self {
        let begin = Instant::now() + seconds(probe.initial_delay_seconds, 0);
        let period = seconds(probe.period_seconds, 10);
        Self { begin, next: begin, period, eager: false }
    }

    /// With shorter pauses at first, which Kubernetes leaves open for the readiness of a container that has just started:
    /// whoever is ready after 1.1 s waits for a fifth of that, and no whole period. (The failures of other probes count.)
    fn eager(probe: &Probe) -> Self {
        Self { eager: true, ..Self::new(probe) }
    }

    async fn next(&mut self) {
        tokio::time::sleep_until(self.next).await;
        let now = Instant::now();
        let soon = ((now - self.begin) / 5).max(FIRST_PAUSE);
        self.next = now + if self.eager { soon.min(self.period) } else { self.period };
    }
}

fn seconds(given: Option<i32>, default: u64) -> Duration {
    let given = given.and_then(|seconds| u64::try_from(seconds).ok());
    Duration::from_secs(given.unwrap_or(default))
}

async fn once(target: &Target, probe: &Probe) -> Result<(), String> {
    let limit = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
    let (container, address) = (&target.container, target.address);
    if let Some(action) = &probe.http_get {
        within(limit, Box::pin(http_get(container, address, action))).await
    } else if let Some(action) = &probe.tcp_socket {
        let host = action.host.as_deref();
        within(limit, async { connect(container, address, host, &action.port).await.map(drop) })
            .await
    } else if let Some(action) = &probe.exec {
        within(limit, exec(&target.process, action)).await
    } else {
        // Named when the file was read; not honoured is not failed.
        Ok(())
    }
}

async fn within(
    limit: Duration,
    action: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    let out_of_time = || format!("no answer within {} s", limit.as_secs());
    tokio::time::timeout(limit, action).await.unwrap_or_else(|_| Err(out_of_time()))
}

async fn connect(
    container: &Container,
    address: IpAddr,
    host: Option<&str>,
    port: &IntOrString,
) -> Result<TcpStream, String> {
    let port = number(container, port).ok_or_else(|| format!("unknown port {port:?}"))?;
    let host = host.map_or_else(|| address.to_string(), str::to_owned);
    TcpStream::connect((host.as_str(), port)).await.map_err(|error| format!("port {port}: {error}"))
}

fn number(container: &Container, port: &IntOrString) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let found = ports.find(|port| port.name.as_deref() == Some(name));
            u16::try_from(found?.container_port).ok().or_else(|| name.parse().ok())
        }
    }
}

/// Any answer from 200 to 399 is a success.
pub(super) async fn http_get(
    container: &Container,
    address: IpAddr,
    action: &HTTPGetAction,
) -> Result<(), String> {
    let stream = connect(container, address, action.host.as_deref(), &action.port).await?;
    let peer = stream.peer_addr().map_err(|error| error.to_string())?;
    let path = action.path.as_deref().unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut request = http::Request::get(&path).header("user-agent", "kube-probe/tulle-local");
    let headers = action.http_headers.iter().flatten();
    if !headers.clone().any(|header| header.name.eq_ignore_ascii_case("host")) {
        request = request.header("host", peer.to_string());
    }
    for header in headers {
        request = request.header(&header.name, &header.value);
    }
    let request = request
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        // What is not there, or too long, is no reason to fail.
        let body = Limited::new(response.into_body(), BODY).collect().await;
        Ok((status, body.map(|body| body.to_bytes()).unwrap_or_default()))
    };
    let exchange = async {
        tokio::select! {
            biased;
            answer = answer => answer,
            Err(error) = connection => Err(error),
        }
    };
    let (status, body) = exchange.await.map_err(|error: hyper::Error| error.to_string())?;
    if status.is_success() || status.is_redirection() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&body);
    let said: String = said.lines().next().unwrap_or_default().chars().take(SHOWN).collect();
    let said = said.replace(char::is_control, "");
    let colon = if said.is_empty() { "" } else { ": " };
    Err(format!("HTTP status {}{colon}{said}", status.as_u16()))
}

/// Exit status 0 is a success.
pub(super) async fn exec(process: &Process, action: &ExecAction) -> Result<(), String> {
    let argv: Vec<String> = action.command.clone().unwrap_or_default();
    let mut command = process.command(&argv);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = child.kill_on_drop(true).output().await.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{} ended with {}: {}", argv.join(" "), output.status, said.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When the first so many probes are made, in milliseconds.
    async fn times(mut rounds: Rounds, count: usize) -> Vec<u128> {
        let (begun, mut times) = (Instant::now(), Vec::new());
        for _ in 0..count {
            rounds.next().await;
            times.push(begun.elapsed().as_millis());
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn only_readiness_is_probed_more_often_at_first() {
        let probe =
            Probe { initial_delay_seconds: Some(2), period_seconds: Some(1), ..Probe::default() };
        assert_eq!(times(Rounds::new(&probe), 3).await, [2000, 3000, 4000]);
        let eager = times(Rounds::eager(&probe), 30).await;
        assert_eq!(eager[..4], [2000, 2050, 2100, 2150]);
        let pauses = eager.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(pauses.clone().is_sorted(), "{eager:?}");
        assert_eq!(pauses.max(), Some(1000));
        // A container that takes 1.1 s is found within a fifth of that.
        assert!(eager.iter().any(|at| (3100..3330).contains(at)), "{eager:?}");
    }
}
