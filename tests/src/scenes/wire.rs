//! What can be read on the way between two pods, and who the two sides say that they met.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::Command,
    time::{Instant, timeout},
};

use tulle_tests::{
    mesh::{Edit, Mesh, Place, Pod},
    scene::{Failure, Figures, Stage, prove, until},
};

/// What the client sends in the path, and looks for on the wire.
const SECRET: &str = "a-secret-on-the-wire";
/// A TLS handshake record that says it is a ServerHello, and the extension in which the server
/// selects TLS 1.3 (RFC 8446, 4.1.3 and 4.2.1): type 43, length 2, version 0x0304.
const SELECTED_TLS_1_3: [u8; 6] = [0x00, 0x2b, 0x00, 0x02, 0x03, 0x04];
/// How long a change of policy may take here. Milliseconds are usual.
const PATIENCE: Duration = Duration::from_secs(10);
const STRICT: &str = "\
apiVersion: tulle.dev/v1alpha1
kind: MeshTLS
metadata: {name: strict, namespace: bookstore}
spec: {mode: Strict}
";
/// Who listens on a node of a cluster: a pod in the node's network.
const WIRETAP: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: wiretap, namespace: outside}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers:
  - {name: wiretap, image: 'curlimages/curl:8.16.0', command: [sleep, infinity]}
";

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let mesh = stage.mesh().await?;
    let client = mesh.pod("bookstore", "client").await?;
    let reviews = mesh.pod("bookstore", "reviews-v1").await?;
    let address = reviews.ip.clone().unwrap_or_default();

    let path = format!("/reviews/1?{SECRET}");
    // A restarted connection, so that the handshake is in the capture.
    let capture = Capture::start(mesh, [&client, &reviews]).await?.listening().await?;
    for _ in 0..20 {
        get(mesh, &client, &format!("http://{address}:9080{path}")).await?;
    }
    let bytes = capture.stop().await?;
    let finds = |wanted: &[u8]| bytes.windows(wanted.len()).any(|w| w == wanted);
    prove(bytes.len() > 2_000, || format!("only {} bytes were captured", bytes.len()))?;
    prove(!finds(SECRET.as_bytes()), || "the request is readable on the wire".into())?;
    prove(!finds(b"HTTP/1.1"), || "HTTP is readable on the wire".into())?;
    prove(finds(&SELECTED_TLS_1_3), || "no server chose TLS 1.3 on the wire".into())?;

    let request = |line: &serde_json::Value| line["path"] == "/reviews/1";
    let sent = mesh.logged(&client, "tulle-proxy", request).await?;
    let received = mesh.logged(&reviews, "tulle-proxy", request).await?;
    let met = |line: &serde_json::Value, account: &str| {
        line["peer"] == format!("spiffe://cluster.local/ns/bookstore/sa/{account}").as_str()
    };
    prove(met(&sent, "reviews"), || format!("the client's proxy met {}", sent["peer"]))?;
    prove(met(&received, "client"), || format!("the server's proxy met {}", received["peer"]))?;

    let stranger = mesh.pod("outside", "stranger").await?;
    let url = format!("http://{address}:9080/reviews/1");
    get(mesh, &stranger, &url).await?;
    let strict = mesh.edit("strict.yaml", STRICT)?;
    let saved = Instant::now();
    while get(mesh, &stranger, &url).await.is_ok() {
        prove(saved.elapsed() < PATIENCE, || "strict, and a stranger still gets through".into())?;
    }
    let strict_after = saved.elapsed();
    get(mesh, &client, &url).await?;
    drop(strict);
    while get(mesh, &stranger, &url).await.is_err() {
        prove(saved.elapsed() < 2 * PATIENCE, || "no longer strict, and still refused".into())?;
    }
    Ok(Figures::from([
        ("captured_bytes", f64::from(u32::try_from(bytes.len()).unwrap_or(u32::MAX))),
        ("strict_in_force_after_s", strict_after.as_secs_f64()),
    ]))
}

async fn get(mesh: &Mesh, from: &Pod, url: &str) -> Result<String, Failure> {
    let container = if from.namespace == "outside" { "stranger" } else { "client" };
    mesh.exec(from, container, &["curl", "-sS", "-f", "-m", "5", url]).await
}

/// `tcpdump` on the mesh's bridge, or on all that the node has.
struct Capture<'a> {
    process: tokio::process::Child,
    mesh: &'a Mesh,
    /// In a cluster, the pod that it runs in, which goes with this.
    wiretap: Option<(Pod, Edit)>,
}

impl<'a> Capture<'a> {
    async fn start(mesh: &'a Mesh, between: [&Pod; 2]) -> Result<Self, Failure> {
        let wiretap = match mesh.place {
            Place::Machine => None,
            Place::Cluster => Some(wiretap(mesh).await?),
        };
        let mut command = match &wiretap {
            None => {
                let mut command = Command::new("nsenter");
                command.args(["-t", &mesh.outer_pid()?, "-n", "tcpdump", "-i", "tulle0"]);
                command
            }
            // It would become a user that the image does not have.
            Some((pod, _)) => mesh.command(pod, "wiretap", &["tcpdump", "-i", "any", "-Z", "root"]),
        };
        let [one, other] = between.map(|pod| pod.ip.as_deref().unwrap_or_default());
        // Immediate: else libpcap holds packets back for up to a second, and loses them at the end.
        let process = command
            .args(["--immediate-mode", "-U", "-s", "0", "-w", "-"])
            .args(["tcp", "and", "host", one, "and", "host", other])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Self { process, mesh, wiretap })
    }

    /// Returns once packets are being captured.
    async fn listening(mut self) -> Result<Self, Failure> {
        let stderr =
            self.process.stderr.take().ok_or_else(|| Failure("tcpdump has no stderr".into()))?;
        let mut lines = BufReader::new(stderr).lines();
        let listening = async {
            let mut said = Vec::new();
            while let Some(line) = lines.next_line().await? {
                if line.contains("listening on") {
                    return Ok(());
                }
                said.push(line);
            }
            Err(Failure(format!("tcpdump ended: {}", said.join("; "))))
        };
        let late = |_| Failure("tcpdump did not start in 10 s".into());
        timeout(Duration::from_secs(10), listening).await.map_err(late)??;
        Ok(self)
    }

    /// Ends the capture; everything that was captured.
    async fn stop(mut self) -> Result<Vec<u8>, Failure> {
        let pid = self.process.id().ok_or_else(|| Failure("tcpdump ended early".into()))?;
        if let Some((pod, _)) = &self.wiretap {
            self.mesh.exec(pod, "wiretap", &["pkill", "-INT", "-x", "tcpdump"]).await?;
        } else {
            Command::new("kill").args(["-INT", &pid.to_string()]).status().await?;
        }
        let mut bytes = Vec::new();
        if let Some(mut out) = self.process.stdout.take() {
            out.read_to_end(&mut bytes).await?;
        }
        self.process.wait().await?;
        Ok(bytes)
    }
}

/// The pod that listens, ready.
async fn wiretap(mesh: &Mesh) -> Result<(Pod, Edit), Failure> {
    let there = mesh.edit("wiretap.yaml", WIRETAP)?;
    let ready = async || Ok(mesh.pod("outside", "wiretap").await.is_ok_and(|pod| pod.ready));
    until("the wiretap is ready", Duration::from_secs(40), ready).await?;
    Ok((mesh.pod("outside", "wiretap").await?, there))
}
