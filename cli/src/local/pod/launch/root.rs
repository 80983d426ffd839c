//! The root file system of a container, made by the helper inside of its namespaces.

use std::{
    ffi::CString,
    fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::{
    mount::{
        MountFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_remount, unmount,
    },
    process::pivot_root,
};

use super::{Bind, Launch};

impl Launch {
    /// Runs in the container's new namespaces: makes the root file system and becomes the command.
    /// Returns only on failure.
    ///
    /// # Errors
    /// The first thing the kernel refused.
    pub(in crate::local) fn become_container(self) -> Result<std::convert::Infallible, StartError> {
        let new_root = self.make_root()?;
        let old = new_root.join(OLD_ROOT);
        fs::create_dir(&old).map_err(|error| failed("making", &old, error))?;
        pivot_root(&new_root, &old).map_err(|error| failed("entering", &new_root, error))?;
        std::env::set_current_dir("/").map_err(|error| failed("entering", "/".as_ref(), error))?;
        let old = Path::new("/").join(OLD_ROOT);
        for bind in &self.mounts {
            bind.apply(&old).map_err(|error| failed("mounting", &bind.target, error))?;
        }
        unmount(&old, UnmountFlags::DETACH).map_err(|error| failed("leaving", &old, error))?;
        fs::remove_dir(&old).map_err(|error| failed("removing", &old, error))?;
        if self.read_only_root {
            mount_remount("/", MountFlags::BIND | MountFlags::RDONLY, c"")
                .map_err(|error| failed("closing", "/".as_ref(), error))?;
        } else {
            fs::create_dir_all(&self.working_dir)
                .map_err(|error| failed("making", &self.working_dir, error))?;
        }
        let (program, arguments) = self.privileges.split_first().ok_or(StartError::Empty)?;
        let error = Command::new(program)
            .args(arguments)
            .arg("--")
            .args(&self.argv)
            .env_clear()
            .envs(&self.env)
            .current_dir(&self.working_dir)
            .exec();
        Err(failed("starting", program.as_ref(), error))
    }

    /// Overlays over the root and every other file system of the machine; fresh `/proc`, `/run` and
    /// `/dev/shm`.
    fn make_root(&self) -> Result<PathBuf, StartError> {
        let base = &self.mount_point;
        let plain = MountFlags::empty();
        let mounted = |result: rustix::io::Result<()>, path: &Path| {
            result.map_err(|error| failed("mounting", path, error))
        };
        mounted(mount("tmpfs", base, "tmpfs", plain, c"mode=755"), base)?;
        let root = base.join("root");
        fs::create_dir(&root).map_err(|error| failed("making", &root, error))?;
        overlay(Path::new("/"), &root, &base.join("0"))
            .map_err(|error| failed("overlaying", "/".as_ref(), error))?;
        for (index, path) in other_file_systems(base)?.into_iter().enumerate() {
            let Ok(inside) = path.strip_prefix("/") else {
                continue;
            };
            let target = root.join(inside);
            if let Err(error) = overlay(&path, &target, &base.join((index + 1).to_string())) {
                // Some file systems cannot lie below an overlay. Seeing them read-only is safe.
                let seen = mount_bind(&path, &target).and_then(|()| {
                    mount_remount(&target, MountFlags::BIND | MountFlags::RDONLY, c"")
                });
                if seen.is_err() {
                    tracing::debug!(path = %path.display(), %error, "not visible in the container");
                }
            }
        }
        let dev = root.join("dev");
        mounted(mount_bind_recursive("/dev", &dev), &dev)?;
        let shm = dev.join("shm");
        mounted(mount("tmpfs", &shm, "tmpfs", MountFlags::NOSUID, c"mode=1777"), &shm)?;
        let sys = root.join("sys");
        mounted(mount_bind_recursive("/sys", &sys), &sys)?;
        let proc = root.join("proc");
        mounted(mount("proc", &proc, "proc", plain, None), &proc)?;
        let run = root.join("run");
        mounted(mount("tmpfs", &run, "tmpfs", plain, c"mode=755"), &run)?;
        Ok(root)
    }
}

/// Where the machine's root is while the mounts are made.
const OLD_ROOT: &str = ".machine";

impl Bind {
    fn apply(&self, old_root: &Path) -> io::Result<()> {
        let source = old_root.join(self.source.strip_prefix("/").unwrap_or(&self.source));
        let kind = fs::metadata(&source).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", self.source.display()))
        })?;
        if kind.is_dir() {
            fs::create_dir_all(&self.target)?;
        } else {
            // A link that leads out of what the container sees (systemd's resolv.conf) gives way.
            if fs::symlink_metadata(&self.target).is_ok_and(|m| m.is_symlink()) {
                fs::remove_file(&self.target)?;
            }
            if let Some(folder) = self.target.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::File::options().create(true).append(true).open(&self.target)?;
        }
        mount_bind_recursive(&source, &self.target)?;
        if self.read_only {
            mount_remount(&self.target, MountFlags::BIND | MountFlags::RDONLY, c"")?;
        }
        Ok(())
    }
}

fn overlay(lower: &Path, target: &Path, work: &Path) -> io::Result<()> {
    let (upper, work) = (work.join("upper"), work.join("work"));
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    // The upper directory's mode becomes that of the overlay's root.
    fs::set_permissions(&upper, fs::metadata(lower)?.permissions())?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        escape(lower)?,
        escape(&upper)?,
        escape(&work)?
    );
    let options = CString::new(options).map_err(io::Error::other)?;
    Ok(mount("overlay", target, "overlay", MountFlags::empty(), options.as_c_str())?)
}

/// `:` and `,` mean something in the options of an overlay.
fn escape(path: &Path) -> io::Result<String> {
    let text = path.to_str().ok_or_else(|| io::Error::other("a path that is not UTF-8"))?;
    Ok(text.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,"))
}

/// Mount points besides the root that hold files; outer ones first. What is below `/proc`, `/sys`,
/// `/dev` and `/run` is the container's own.
fn other_file_systems(own: &Path) -> Result<Vec<PathBuf>, StartError> {
    let path = Path::new("/proc/self/mountinfo");
    let table = fs::read_to_string(path).map_err(|error| failed("reading", path, error))?;
    let mut paths: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        // Spaces and the like are octal there; such mount points are rare, and left out.
        .filter(|point| *point != "/" && !point.contains('\\'))
        .map(PathBuf::from)
        .filter(|point| {
            !point.starts_with(own)
                && !["/proc", "/sys", "/dev", "/run"].iter().any(|own| point.starts_with(own))
        })
        .filter(|point| point.is_dir())
        .collect();
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// The kernel refused to start a container.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// While doing this.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The description names no program.
    #[error("nothing to start")]
    Empty,
}

fn failed(doing: &'static str, path: &Path, error: impl Into<io::Error>) -> StartError {
    StartError::Io { doing, path: path.to_owned(), source: error.into() }
}
