//! The processes of a mesh on this machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tokio::process::Command;

use super::{Mesh, Pod, STATE, output_of};
use crate::scene::Failure;

impl Mesh {
    /// Where `tulle local` keeps what it needs.
    pub fn state(&self) -> PathBuf {
        Path::new(STATE).join(&self.name)
    }

    /// The processes of its runtime on the host: its first one, and the parent of that.
    pub fn pids(&self) -> Result<Vec<String>, Failure> {
        let pids = fs::read_to_string(self.state().join("runtime.pid"))?;
        Ok(pids.split_whitespace().map(ToOwned::to_owned).collect())
    }

    /// A process in whose network namespace the mesh's bridge is.
    pub fn outer_pid(&self) -> Result<String, Failure> {
        Ok(self.pids()?.into_iter().next().unwrap_or_default())
    }

    /// Sends a signal to all processes of the mesh with this name, and to nobody else's; whether there was
    /// one. The mesh has a process namespace of its own.
    pub async fn signal(&self, signal: &str, program: &str) -> Result<bool, Failure> {
        let pid = self.outer_pid()?;
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid"));
        if namespace(&pid)? == namespace("self")? {
            return Err(Failure(format!("{pid} is not inside of the mesh's process namespace")));
        }
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid, "-p", "-m", "pkill", &format!("-{signal}"), "-x", program]);
        Ok(command.status().await?.success())
    }

    /// Kills the first process of a container with -9, which nobody in there could.
    pub async fn kill(&self, pod: &Pod, container: &str) -> Result<(), Failure> {
        let namespace = self.exec(pod, container, &["readlink", "/proc/1/ns/pid"]).await?;
        let inside = |pid: &Path| {
            fs::read_link(pid.join("ns/pid")).is_ok_and(|link| link == Path::new(namespace.trim()))
        };
        // The oldest of that namespace: numbers go around too seldom to matter.
        let all = fs::read_dir("/proc")?.flatten().map(|entry| entry.path());
        let pids = all.filter(|path| inside(path));
        let pids = pids.filter_map(|path| path.file_name()?.to_str()?.parse::<u32>().ok());
        let pid = pids.min().ok_or_else(|| Failure(format!("{}: no process", pod.name)))?;
        let mut kill = Command::new("kill");
        kill.args(["-KILL", &pid.to_string()]);
        output_of(kill).await.map(drop)
    }
}
