//! What can be read on the bridge between two pods, and who the two sides say that they met.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::Command,
    time::{Instant, timeout},
};

use tulle_tests::{
    mesh::{Mesh, Pod},
    scene::{Failure, Figures, Stage, prove},
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

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let mesh = stage.mesh().await?;
    let client = mesh.pod("bookstore", "client").await?;
    let reviews = mesh.pod("bookstore", "reviews-v1").await?;
    let address = reviews.ip.clone().unwrap_or_default();

    let path = format!("/reviews/1?{SECRET}");
    // A restarted connection, so that the handshake is in the capture.
    let capture = Capture::start(mesh, [&client, &reviews])?.listening().await?;
    for _ in 0..20 {
        get(mesh, &client, &format!("http://{address}:9080{path}")).await?;
    }
    let bytes = capture.stop().await?;
    let finds = |wanted: &[u8]| bytes.windows(wanted.len()).any(|w| w == wanted);
    prove(bytes.len() > 2_000, || format!("only {} bytes were captured", bytes.len()))?;
    prove(!finds(SECRET.as_bytes()), || "the request is readable on the bridge".into())?;
    prove(!finds(b"HTTP/1.1"), || "HTTP is readable on the bridge".into())?;
    prove(finds(&SELECTED_TLS_1_3), || "no server chose TLS 1.3 on the bridge".into())?;

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

/// `tcpdump` on the mesh's bridge.
struct Capture {
    process: tokio::process::Child,
}

impl Capture {
    fn start(mesh: &Mesh, between: [&Pod; 2]) -> Result<Self, Failure> {
        let pid = mesh.outer_pid()?;
        let [one, other] = between.map(|pod| pod.ip.as_deref().unwrap_or_default());
        // Immediate: else libpcap holds packets back for up to a second, and loses them at the end.
        let process = Command::new("nsenter")
            .args(["-t", &pid, "-n", "tcpdump", "--immediate-mode", "-i", "tulle0"])
            .args(["-U", "-s", "0", "-w", "-"])
            .args(["tcp", "and", "host", one, "and", "host", other])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Self { process })
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
        Command::new("kill").args(["-INT", &pid.to_string()]).status().await?;
        let mut bytes = Vec::new();
        if let Some(mut out) = self.process.stdout.take() {
            out.read_to_end(&mut bytes).await?;
        }
        self.process.wait().await?;
        Ok(bytes)
    }
}
