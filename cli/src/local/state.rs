//! The state directory of a mesh: its layout, its lock, and how it goes away.
//!
//! ```text
//! /run/tulle-local/NAME/
//!   lock               held by the running mesh (flock): the proof that it lives
//!   launch.json        what `up` tells the runtime
//!   runtime.pid        process ids of the mesh's first process and of its parent, on the host
//!   control.sock       commands, one JSON document a line
//!   runtime.log        what the runtime itself has to say
//!   objects/           Pod, ReplicaSet, EndpointSlice and Service YAML: written here, read by the control plane
//!   control-plane/     what the control plane writes: statuses, ConfigMaps
//!   ca/                the mesh's root certificate and its key
//!   token-keys.json    public keys of the workload tokens (JWKS)
//!   logs/NS_POD/CONTAINER.log
//!   pods/UID/          volumes and generated files of a pod
//! ```

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tulle_control_plane::inject::DataPlane;

use super::{config::Programs, network::Families};

const ROOT: &str = "/run/tulle-local";

/// The paths of one mesh.
#[derive(Debug, Clone)]
pub(super) struct State {
    root: PathBuf,
}

/// What `up` leaves for the runtime and for later commands.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Launch {
    /// Name of the mesh.
    pub(super) name: String,
    /// Directory with the user's YAML, absolute.
    pub(super) directory: PathBuf,
    /// The sidecar of pods that do not choose theirs.
    pub(super) data_plane: DataPlane,
    /// IP versions of pods and Services.
    pub(super) families: Families,
    /// How long a certificate is valid.
    pub(super) certificate_lifetime: tulle_api::Duration,
    /// Whom the control plane asks about what it has forgotten.
    #[serde(default)]
    pub(super) prometheus: Option<String>,
    /// Directory with what it is asked with, absolute.
    #[serde(default)]
    pub(super) prometheus_credentials: Option<PathBuf>,
    /// Whom releases may ask.
    #[serde(default)]
    pub(super) release_hosts: Vec<String>,
    /// Where the programs are.
    pub(super) programs: Programs,
}

/// Why a mesh cannot have the name it asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another one has it.
    #[error(
        "a mesh named `{name}` is running already; end it with `tulle local down --name {name}`, \
         or give this one another --name"
    )]
    Running {
        /// The name.
        name: String,
    },
    /// The directory is out of reach.
    #[error("cannot make the state directory {path}: {source}")]
    Io {
        /// Which path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl State {
    /// The state of the mesh `name`.
    pub(super) fn of(name: &str) -> Self {
        Self { root: Path::new(ROOT).join(name) }
    }

    /// The directory itself.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    pub(super) fn control_plane(&self) -> PathBuf {
        self.root.join("control-plane")
    }

    pub(super) fn ca(&self) -> PathBuf {
        self.root.join("ca")
    }

    pub(super) fn token_keys(&self) -> PathBuf {
        self.root.join("token-keys.json")
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.root.join("control.sock")
    }

    pub(super) fn launch(&self) -> PathBuf {
        self.root.join("launch.json")
    }

    /// Where the process ids of the mesh's first process and of its parent are, as the host sees them.
    pub(super) fn host_pids(&self) -> PathBuf {
        self.root.join("runtime.pid")
    }

    /// Process ids of the mesh's first process and of its parent.
    ///
    /// # Errors
    /// The mesh is only just starting, or gone.
    pub(super) fn read_host_pids(&self) -> io::Result<(u32, u32)> {
        let text = fs::read_to_string(self.host_pids())?;
        let mut pids = text.split(' ').map(str::parse);
        match (pids.next(), pids.next()) {
            (Some(Ok(first)), Some(Ok(parent))) => Ok((first, parent)),
            _ => Err(io::Error::other("runtime.pid holds no process ids")),
        }
    }

    pub(super) fn runtime_log(&self) -> PathBuf {
        self.root.join("runtime.log")
    }

    /// Where a container mounts its root file system; empty outside of its mount namespace.
    pub(super) fn mount_point(&self) -> PathBuf {
        self.root.join("root")
    }

    pub(super) fn pod(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid)
    }

    pub(super) fn pod_logs(&self, namespace: &str, pod: &str) -> PathBuf {
        self.root.join("logs").join(format!("{namespace}_{pod}"))
    }

    /// Whether the parent of the mesh's first process is gone: the kernel kills the rest then.
    fn has_lost_its_parent(&self) -> bool {
        // One that is dead and that nobody has waited for has no program.
        let program = |(_, parent)| fs::read_link(format!("/proc/{parent}/exe"));
        self.read_host_pids().is_ok_and(|pids| program(pids).is_err())
    }

    /// Takes the lock, removes what a crashed mesh of this name left, and makes the directories.
    ///
    /// The kernel holds the lock for exactly as long as a process of that mesh lives, so getting it
    /// proves that what lies here is left over.
    ///
    /// # Errors
    /// [`LockError::Running`] if a mesh of this name runs.
    pub(super) fn take(&self, name: &str) -> Result<File, LockError> {
        let io = |source| LockError::Io { path: self.root.clone(), source };
        loop {
            fs::create_dir_all(&self.root).map_err(io)?;
            let path = self.root.join("lock");
            let lock = File::options()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(&path)
                .map_err(io)?;
            match lock.try_lock() {
                Ok(()) => {}
                // Its processes are being killed: that takes a moment.
                Err(TryLockError::WouldBlock) if self.has_lost_its_parent() => {
                    lock.lock().map_err(io)?;
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::Running { name: name.to_owned() });
                }
                Err(TryLockError::Error(error)) => return Err(io(error)),
            }
            // Between open and lock the last owner may have removed the directory.
            let ours = lock.metadata().map_err(io)?.ino();
            if fs::metadata(&path).is_ok_and(|there| there.ino() == ours) {
                self.clean_except_lock().map_err(io)?;
                self.make_directories().map_err(io)?;
                return Ok(lock);
            }
        }
    }

    /// Whether a process of this mesh lives.
    pub(super) fn is_running(&self) -> bool {
        File::open(self.root.join("lock"))
            .is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// Removes everything, once no process of the mesh lives any more.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Other meshes may still be there: then it is not empty, and stays.
        drop(fs::remove_dir(ROOT));
        Ok(())
    }

    fn clean_except_lock(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if entry.file_name() == "lock" {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn make_directories(&self) -> io::Result<()> {
        for name in ["objects", "control-plane", "ca", "logs", "pods", "root"] {
            fs::create_dir(self.root.join(name))?;
        }
        Ok(())
    }
}

/// Names of all meshes that have a state directory.
pub(super) fn names() -> Vec<String> {
    let entries = fs::read_dir(ROOT).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Writes a file so that a reader sees the old or the new content, never half of it.
///
/// The file being written has a name that no reader of YAML looks at.
///
/// # Errors
/// What the file system says.
pub(super) fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = path.with_file_name(format!(".{name}.unfinished"));
    fs::write(&unfinished, content)?;
    fs::rename(&unfinished, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(dir: &tempfile::TempDir) -> State {
        State { root: dir.path().join("mesh") }
    }

    #[test]
    fn a_second_mesh_of_the_same_name_is_refused_and_a_crash_is_cleaned() {
        let dir = tempfile::tempdir().unwrap();
        let state = state(&dir);
        let lock = state.take("m").unwrap();
        fs::write(state.objects().join("left-over.yaml"), "x").unwrap();
        assert!(state.is_running());
        assert!(matches!(state.take("m"), Err(LockError::Running { .. })));

        drop(lock);
        assert!(!state.is_running());
        let _lock = state.take("m").unwrap();
        assert!(!state.objects().join("left-over.yaml").exists());
    }

    #[test]
    fn an_atomic_write_leaves_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        write_atomically(&path, b"1").unwrap();
        write_atomically(&path, b"2").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
