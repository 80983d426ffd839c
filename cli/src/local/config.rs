//! What `tulle local` needs of the machine: rights, tools and Tulle's own programs.
//!
//! The only file of the room that reads the environment.

use std::{
    env, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tulle_control_plane::inject::DataPlane;

/// Where everything that the runtime starts was found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Programs {
    /// util-linux: new namespaces.
    pub(super) unshare: PathBuf,
    /// util-linux: a process into another one's namespaces.
    pub(super) nsenter: PathBuf,
    /// util-linux: users, groups and capabilities.
    pub(super) setpriv: PathBuf,
    /// iproute2: bridge, pairs, addresses and routes.
    pub(super) ip: PathBuf,
    /// nftables: service addresses.
    pub(super) nft: PathBuf,
    /// This very program.
    pub(super) tulle: PathBuf,
    /// The sidecar.
    pub(super) proxy: PathBuf,
    /// The control plane.
    pub(super) control_plane: PathBuf,
    /// A folder of more programs, seen by every container if it is there.
    pub(super) shown: PathBuf,
}

/// What is missing, one line each, with how to get it.
#[derive(Debug, thiserror::Error)]
#[error("`tulle local` cannot run here:{}", .missing.iter().map(|m| format!("\n  - {m}")).collect::<String>())]
pub(crate) struct Missing {
    missing: Vec<String>,
}

impl Programs {
    /// Finds all of them and checks the rights.
    ///
    /// # Errors
    /// Everything that is missing at once, so that nobody has to try five times.
    pub(super) fn find(data_plane: DataPlane) -> Result<Self, Missing> {
        let mut missing = Vec::new();
        rights(&mut missing);
        let mut tool = |name: &str, package: &str| {
            in_path(name).unwrap_or_else(|| {
                missing.push(format!("the program `{name}`; on Debian: apt-get install {package}"));
                PathBuf::new()
            })
        };
        let [unshare, nsenter, setpriv] =
            ["unshare", "nsenter", "setpriv"].map(|name| tool(name, "util-linux"));
        let ip = tool("ip", "iproute2");
        let nft = tool("nft", "nftables");
        let tulle = own_path().unwrap_or_else(|error| {
            missing.push(format!("the path of this program: {error}"));
            PathBuf::new()
        });
        let mut ours = |name: &str| {
            beside(&tulle, name).or_else(|| in_path(name)).unwrap_or_else(|| {
                missing.push(format!(
                    "the program `{name}`, beside {} or in PATH; build it: cargo build -p {name}",
                    tulle.display()
                ));
                PathBuf::new()
            })
        };
        let (proxy, control_plane) = (ours("tulle-proxy"), ours("tulle-control-plane"));
        let shown = cache().join("tulle/programs");
        let envoy = shown.join("bin/envoy");
        if data_plane == DataPlane::Envoy && !is_program(&envoy) {
            missing.push(format!(
                "the program `{}`; get it: deploy/samples/bookstore/programs",
                envoy.display()
            ));
        }
        if missing.is_empty() {
            Ok(Self { unshare, nsenter, setpriv, ip, nft, tulle, proxy, control_plane, shown })
        } else {
            Err(Missing { missing })
        }
    }
}

/// `CAP_SYS_ADMIN` makes namespaces and mounts, `CAP_NET_ADMIN` the network, and files of other
/// users are written: in practice, root.
fn rights(missing: &mut Vec<String>) {
    const SYS_ADMIN: u64 = 1 << 21;
    const NET_ADMIN: u64 = 1 << 12;
    let effective = fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(line.trim(), 16).ok()
    });
    let needed = SYS_ADMIN | NET_ADMIN;
    let root = rustix::process::geteuid().is_root();
    if !root || effective.is_some_and(|effective| effective & needed != needed) {
        missing.push(
            "the right to make namespaces, mounts and network devices (CAP_SYS_ADMIN and \
             CAP_NET_ADMIN); run it as root: sudo tulle local …; in a container, give it \
             --privileged"
                .to_owned(),
        );
    }
}

/// Where the user keeps what can be made again (XDG Base Directory Specification).
fn cache() -> PathBuf {
    let given = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    given.unwrap_or_else(|| {
        PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache")
    })
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Tools for administrators are often not in the PATH of others.
    let fallback = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    env::split_paths(&path).chain(fallback).map(|dir| dir.join(name)).find(|p| is_program(p))
}

fn beside(program: &Path, name: &str) -> Option<PathBuf> {
    Some(program.parent()?.join(name)).filter(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// The path of the running program.
pub(super) fn own_path() -> io::Result<PathBuf> {
    env::current_exe()
}
