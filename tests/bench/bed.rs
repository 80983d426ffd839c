//! The meshes that are measured, and what the kernel says of their processes.

use std::{fs, time::Duration};

use tokio::time::sleep;
use tulle_tests::{
    load::Caller,
    mesh::{DataPlane, Mesh, Pod, binaries, cpu},
    scene::{BoxFuture, Failure, SIDECARS, until},
};

use crate::{
    Size,
    row::{Row, Subject},
};

const YAML: &str = include_str!("mesh.yaml");
/// The admin socket of stock Envoy in a sidecar's container.
const ENVOY_ADMIN: &str = "/run/tulle/envoy-admin.sock";
/// What the server answers at.
pub(crate) const SERVER: &str = "http://server.bench:8080/";
/// The container of a sidecar.
const SIDECAR: &str = "tulle-proxy";
/// How often a condition is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(20);
/// How long something may take to come true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A mesh of a caller and a server.
#[derive(Debug)]
pub(crate) struct Bed {
    subject: Subject,
    pub(crate) mesh: Mesh,
    pub(crate) caller: Pod,
    pub(crate) server: Pod,
}

/// What is measured in a mesh.
pub(crate) type Measure = for<'a> fn(&'a Bed, Size) -> BoxFuture<'a, Result<Vec<Row>, Failure>>;

impl Bed {
    /// Measures our own sidecars in a mesh that ends with it, whatever comes of it.
    pub(crate) async fn once(size: Size, measure: Measure) -> Result<Vec<Row>, Failure> {
        let bed = Self::up(Subject::Tulle).await?;
        let rows = measure(&bed, size).await;
        bed.mesh.down().await?;
        rows
    }

    /// Brings one up, ready, with this in place of sidecars.
    pub(crate) async fn up(subject: Subject) -> Result<Self, Failure> {
        let yaml = YAML.replace("KIB", &"x".repeat(1024));
        let (yaml, data_plane) = match subject {
            Subject::Tulle => (yaml, DataPlane::Tulle),
            Subject::Envoy => (yaml, DataPlane::Envoy),
            Subject::Direct => (SIDECARS.without.applied(&yaml), DataPlane::Tulle),
        };
        let raw = binaries().join("bench.raw");
        fs::create_dir_all(&raw)?;
        let mesh = Mesh::of(subject.as_str(), &yaml, data_plane, &[], &raw).await?;
        mesh.ready().await?;
        let (caller, server) =
            (mesh.pod("bench", "caller").await?, mesh.pod("bench", "server").await?);
        let bed = Self { subject, mesh, caller, server };
        bed.answers(SERVER).await?;
        Ok(bed)
    }

    /// Calls from the caller's container.
    pub(crate) fn calls(&self) -> Caller<'_> {
        Caller::of(&self.mesh, self.caller.clone(), "caller")
    }

    /// Whether a request of the caller is answered with 200.
    pub(crate) async fn get(&self, url: &str) -> Result<bool, Failure> {
        let curl = ["curl", "-s", "-o", "/dev/null", "-m", "5", "-w", "%{http_code}", url];
        // Its exit status says no more than its output: what matters is an answer, or none.
        Ok(self.mesh.exec(&self.caller, "caller", &curl).await.is_ok_and(|code| code == "200"))
    }

    /// Waits until a request of the caller is answered with 200.
    pub(crate) async fn answers(&self, url: &str) -> Result<(), Failure> {
        until(url, PATIENCE, async || self.get(url).await).await
    }

    /// Memory of a pod's sidecar in MiB, once it has stood still for two seconds: what it needed for its start alone it
    /// has given back by then.
    pub(crate) async fn sidecar_memory(&self, pod: &Pod) -> Result<f64, Failure> {
        let (mut last, mut still) = (self.resident(pod).await?, 0);
        for _ in 0..30 {
            sleep(Duration::from_millis(500)).await;
            let now = self.resident(pod).await?;
            still = if (now - last).abs() < 0.05 { still + 1 } else { 0 };
            last = now;
            if still == 4 {
                break;
            }
        }
        Ok(last)
    }

    async fn resident(&self, pod: &Pod) -> Result<f64, Failure> {
        let status = self.mesh.exec(pod, SIDECAR, &["cat", "/proc/1/status"]).await?;
        resident(&status)
    }

    /// Processor time of both sidecars so far, in seconds.
    pub(crate) async fn sidecars_cpu(&self) -> Result<f64, Failure> {
        let mut sum = 0.0;
        if self.subject == Subject::Direct {
            return Ok(sum);
        }
        for pod in [&self.caller, &self.server] {
            sum += cpu(&self.mesh.exec(pod, SIDECAR, &["cat", "/proc/1/stat"]).await?)?;
        }
        Ok(sum)
    }

    /// What the caller's sidecar works by, in a few words. All of it goes into a file beside what load generators
    /// say.
    pub(crate) async fn effective(&self) -> Result<String, Failure> {
        let name = self.subject.as_str();
        let envoy =
            ["curl", "-s", "--unix-socket", ENVOY_ADMIN, "http://envoy/config_dump?include_eds"];
        let dump: &[&str] = match self.subject {
            Subject::Direct => return Ok(format!("{name}: no proxy")),
            Subject::Tulle => &["tulle-proxy", "ctl", "/debug/config"],
            Subject::Envoy => &envoy,
        };
        let file = self.mesh.raw().join(format!("{name}-config.json"));
        fs::write(&file, self.mesh.exec(&self.caller, SIDECAR, dump).await?)?;
        let threads = ["sh", "-c", "cat /proc/1/task/*/comm"];
        let threads = self.mesh.exec(&self.caller, SIDECAR, &threads).await?;
        // Ours are called `worker`, Envoy's `wrk:worker_0` and so on; its `dog:workers` watches them.
        let worker = |name: &&str| name.starts_with("worker") || name.starts_with("wrk:");
        let workers = threads.lines().filter(worker).count();
        let log = self.mesh.logs(&self.caller, SIDECAR).await?;
        let last = log.lines().rfind(|line| line.starts_with('{') && line.contains("\"status\""));
        let last = last.unwrap_or("no access log");
        Ok(format!("{name}: {workers} workers, all settings in {}\n   log: {last}", file.display()))
    }

    /// Bytes that a pod's sidecar has received from the control plane, as the kernel counts them.
    pub(crate) async fn told(&self, pod: &Pod) -> Result<f64, Failure> {
        let sockets = self
            .mesh
            .exec(pod, SIDECAR, &["ss", "-tinOH", "state", "established", "dport = :15010"])
            .await?;
        let counts = sockets
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("bytes_received:"))
            .filter_map(|count| count.parse::<f64>().ok());
        Ok(counts.sum())
    }

    /// When the control plane was started, in seconds after the machine (proc(5): field 22, in ticks of 10 ms).
    pub(crate) async fn control_plane_started(&self) -> Result<f64, Failure> {
        let pod = self.mesh.pod("tulle-system", "tulle-control-plane").await?;
        let stat = self.mesh.exec(&pod, "control-plane", &["cat", "/proc/1/stat"]).await?;
        let ticks = stat.split_whitespace().nth(21).and_then(|field| field.parse::<f64>().ok());
        ticks.map(|ticks| ticks / 100.0).ok_or_else(|| Failure(format!("no start in {stat:?}")))
    }

    /// Memory of the control plane in MiB.
    pub(crate) async fn control_plane_memory(&self) -> Result<f64, Failure> {
        let pod = self.mesh.pod("tulle-system", "tulle-control-plane").await?;
        let status = self.mesh.exec(&pod, "control-plane", &["cat", "/proc/1/status"]).await?;
        resident(&status)
    }
}

/// `VmRSS` of `/proc/PID/status`, in MiB.
fn resident(status: &str) -> Result<f64, Failure> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| Failure(format!("no VmRSS in:\n{status}")))
}
