//! A pod's network namespace and one outside of it, joined by a pair of devices.

use std::{path::Path, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use tulle_tests::{mesh::output_of, scene::Failure};

/// Addresses of the pod, and of what is outside: IPv4 and IPv6.
pub(super) const POD: [&str; 2] = ["10.99.0.2", "fd99::2"];
pub(super) const OUTSIDE: [&str; 2] = ["10.99.0.1", "fd99::1"];
/// More addresses of the outside, in ranges of their own.
pub(super) const ELSEWHERE: [&str; 2] = ["203.0.113.1", "2001:db8::1"];

/// A network namespace, as long as this is not dropped.
#[derive(Debug)]
pub(super) struct Namespace {
    anchor: Child,
}

/// `ends.py` in a namespace, as a user; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct End {
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Namespace {
    async fn new() -> Result<Self, Failure> {
        let mut anchor = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "ip link set lo up && echo up && cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut up = [0; 3];
        let stdout = anchor.stdout.as_mut().ok_or_else(|| Failure("no output".into()))?;
        let root = |error| Failure(format!("no network namespace; root is needed: {error}"));
        stdout.read_exact(&mut up).await.map_err(root)?;
        Ok(Self { anchor })
    }

    /// The pod's and the outside, joined.
    pub(super) async fn pair() -> Result<[Self; 2], Failure> {
        let (pod, outside) = (Self::new().await?, Self::new().await?);
        let (inner, outer) = (pod.pid(), outside.pid());
        let join = ["link", "add", "eth0", "netns", &inner, "type", "veth", "peer", "name", "eth0"];
        let mut link = Command::new("ip");
        link.args(join).args(["netns", &outer]);
        output_of(link).await?;
        let on = |length: [u8; 2], ips: [&str; 2]| {
            let [v4, v6] = length;
            format!(
                "ip addr add {}/{v4} dev eth0; ip addr add {}/{v6} dev eth0 nodad; ",
                ips[0], ips[1]
            )
        };
        let start = "set -e; ip link set eth0 up; ";
        let routes = OUTSIDE.map(|ip| format!("ip route add default via {ip}; ")).concat();
        let inside = format!("{start}{}{routes}", on([24, 64], POD));
        let beyond = format!("{start}{}{}", on([24, 64], OUTSIDE), on([32, 128], ELSEWHERE));
        for (namespace, script) in [(&pod, inside), (&outside, beyond)] {
            let mut command = namespace.command("sh");
            command.args(["-c", &script]);
            output_of(command).await?;
        }
        Ok([pod, outside])
    }

    fn pid(&self) -> String {
        self.anchor.id().unwrap_or_default().to_string()
    }

    /// A program inside of it.
    pub(super) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid(), "-n", "--"]).arg(program.as_ref());
        command
    }

    /// Starts the program of an end inside of it, as another user.
    pub(super) fn end(&self, program: &Path, uid: u32, words: &[String]) -> Result<End, Failure> {
        let id = uid.to_string();
        let mut command = self.command("setpriv");
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--", "/usr/bin/python3"]);
        command.arg(program).args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.kill_on_drop(true).spawn()?;
        let none = || Failure("a process has no pipes".into());
        let input = process.stdin.take().ok_or_else(none)?;
        let output = BufReader::new(process.stdout.take().ok_or_else(none)?).lines();
        Ok(End { _process: process, input, output })
    }
}

impl End {
    /// What it says next.
    pub(super) async fn line(&mut self) -> Result<String, Failure> {
        self.output.next_line().await?.ok_or_else(|| Failure("an end has ended".into()))
    }

    /// Asks all at once; what is told, in the same order.
    pub(super) async fn ask(&mut self, urls: &[String]) -> Result<Vec<String>, Failure> {
        self.input.write_all(format!("{}\n", urls.join(" ")).as_bytes()).await?;
        let mut told = Vec::new();
        for _ in urls {
            told.push(self.line().await?);
        }
        Ok(told)
    }
}
