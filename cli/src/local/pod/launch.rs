//! From a container's description to a running process.
//!
//! ```text
//! runtime ─ nsenter (network, host name and IPC of the pod) ─ unshare (mounts, processes)
//!           ─ `tulle local container SPEC` (root file system) ─ setpriv (user, capabilities) ─ the command
//! ```
//!
//! The root file system is the machine's, seen through an overlay: a container may write anywhere, and
//! nothing of it reaches the machine. Mount points that the machine lacks are made in the overlay.

mod root;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Capabilities, Container, Pod};
use serde::{Deserialize, Serialize};

pub(crate) use self::root::StartError;
use super::{ConfigMaps, Context, env, env::NotThere, volumes::Volumes};

/// Everything the helper needs; a file of the pod's directory, also read by `tulle local exec`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::local) struct Launch {
    /// An existing, empty directory.
    mount_point: PathBuf,
    /// Bind mounts in order.
    mounts: Vec<Bind>,
    read_only_root: bool,
    working_dir: PathBuf,
    /// `setpriv` and its arguments.
    pub(in crate::local) privileges: Vec<String>,
    /// The command.
    argv: Vec<String>,
    /// All its variables.
    pub(in crate::local) env: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Bind {
    source: PathBuf,
    target: PathBuf,
    read_only: bool,
}

/// Why a container cannot be started.
#[derive(Debug, thiserror::Error)]
pub(in crate::local) enum LaunchError {
    /// What it refers to may still come.
    #[error(transparent)]
    NotThere(#[from] NotThere),
    /// It will never work.
    #[error("{0}")]
    Invalid(String),
}

/// Describes how to start `container` (pure but for the paths).
///
/// # Errors
/// See [`LaunchError`].
pub(super) fn describe(
    cx: &Context,
    pod: &Pod,
    container: &Container,
    volumes: &Volumes,
    config_maps: &ConfigMaps,
) -> Result<Launch, LaunchError> {
    let mut env = env::variables(pod, container, config_maps)?;
    let argv = env::command_line(container, &env);
    if argv.is_empty() {
        return Err(LaunchError::Invalid(
            "neither command nor args: containers are host processes here, and an image's \
             entry point is not known"
                .to_owned(),
        ));
    }
    let (uid, privileges) = privileges(&cx.programs.setpriv, pod, container)?;
    let home = if uid == 0 { "/root" } else { "/" };
    env.entry("HOME".to_owned()).or_insert_with(|| home.to_owned());
    let security = container.security_context.as_ref();
    Ok(Launch {
        mount_point: cx.state.mount_point(),
        mounts: mounts(cx, pod, container, volumes)?,
        read_only_root: security.and_then(|s| s.read_only_root_filesystem).unwrap_or(false),
        working_dir: container.working_dir.clone().unwrap_or_else(|| "/".to_owned()).into(),
        privileges,
        argv,
        env,
    })
}

fn mounts(
    cx: &Context,
    pod: &Pod,
    container: &Container,
    volumes: &Volumes,
) -> Result<Vec<Bind>, LaunchError> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let generated = ["resolv.conf", "hosts", "hostname"].map(|name| Bind {
        source: cx.state.pod(uid).join("etc").join(name),
        target: Path::new("/etc").join(name),
        read_only: false,
    });
    // Under a path that every user may walk, wherever they were built.
    let programs = [&cx.programs.tulle, &cx.programs.proxy, &cx.programs.control_plane];
    let programs = programs.into_iter().map(|program| Bind {
        source: program.clone(),
        target: Path::new("/usr/local/bin").join(program.file_name().unwrap_or_default()),
        read_only: true,
    });
    // An image would bring them. Below a path that every user may walk, too.
    let shown = Some(&cx.programs.shown).filter(|path| path.is_dir()).map(|path| Bind {
        source: path.clone(),
        target: env::PROGRAMS.into(),
        read_only: true,
    });
    let mut binds: Vec<Bind> = generated.into_iter().chain(programs).chain(shown).collect();
    let declared: Vec<_> = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).collect();
    let first_own = binds.len();
    for mount in container.volume_mounts.iter().flatten() {
        let Some(volume) = declared.iter().find(|volume| volume.name == mount.name) else {
            let name = &mount.name;
            return Err(LaunchError::Invalid(format!("volumeMounts names no volume: {name}")));
        };
        let mut source = volumes.path(volume);
        if let Some(sub) = &mount.sub_path {
            if !Path::new(sub).components().all(|c| matches!(c, std::path::Component::Normal(_))) {
                return Err(LaunchError::Invalid(format!("subPath {sub} leaves its volume")));
            }
            source.push(sub);
        }
        binds.push(Bind {
            source,
            target: mount.mount_path.clone().into(),
            read_only: mount.read_only.unwrap_or(false),
        });
    }
    // What lies deeper is mounted later.
    if let Some(own) = binds.get_mut(first_own..) {
        own.sort_by_key(|bind| bind.target.components().count());
    }
    Ok(binds)
}

/// Capabilities a container has that asks for nothing: what container runtimes give.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "audit_write",
    "chown",
    "dac_override",
    "fowner",
    "fsetid",
    "kill",
    "mknod",
    "net_bind_service",
    "net_raw",
    "setfcap",
    "setgid",
    "setpcap",
    "setuid",
    "sys_chroot",
];

/// User id, and the command that gives a process its user and rights.
fn privileges(
    setpriv: &Path,
    pod: &Pod,
    container: &Container,
) -> Result<(i64, Vec<String>), LaunchError> {
    let own = container.security_context.clone().unwrap_or_default();
    let shared = pod.spec.clone().unwrap_or_default().security_context.unwrap_or_default();
    let uid = own.run_as_user.or(shared.run_as_user).unwrap_or(0);
    let gid = own.run_as_group.or(shared.run_as_group).unwrap_or(0);
    if uid == 0 && own.run_as_non_root.or(shared.run_as_non_root).unwrap_or(false) {
        return Err(LaunchError::Invalid(
            "runAsNonRoot is true, but the container would run as root: set runAsUser".to_owned(),
        ));
    }
    let groups: Vec<String> = shared
        .fs_group
        .into_iter()
        .chain(shared.supplemental_groups.into_iter().flatten())
        .map(|group| group.to_string())
        .collect();
    let mut command = vec![
        setpriv.display().to_string(),
        format!("--reuid={uid}"),
        format!("--regid={gid}"),
        "--inh-caps=-all".to_owned(),
    ];
    command.push(match groups.as_slice() {
        [] => "--clear-groups".to_owned(),
        groups => format!("--groups={}", groups.join(",")),
    });
    if own.privileged.unwrap_or(false) {
        return Ok((uid, command));
    }
    let kept = capabilities(&own.capabilities.unwrap_or_default());
    let kept: String = kept.iter().map(|name| format!(",+{name}")).collect();
    command.push(format!("--bounding-set=-all{kept}"));
    if own.allow_privilege_escalation == Some(false) {
        command.push("--no-new-privs".to_owned());
    }
    Ok((uid, command))
}

fn capabilities(asked: &Capabilities) -> std::collections::BTreeSet<String> {
    let names = |list: &Option<Vec<String>>| -> Vec<String> {
        let names = list.iter().flatten().map(|name| name.to_lowercase());
        names.map(|name| name.trim_start_matches("cap_").to_owned()).collect()
    };
    let (add, drop) = (names(&asked.add), names(&asked.drop));
    let mut kept: std::collections::BTreeSet<String> =
        DEFAULT_CAPABILITIES.iter().map(|&name| name.to_owned()).collect();
    if drop.iter().any(|name| name == "all") {
        kept.clear();
    }
    kept.extend(add);
    kept.retain(|name| !drop.contains(name));
    kept
}

impl Launch {
    /// The user it runs as.
    pub(super) fn user(&self) -> Option<u32> {
        self.privileges.iter().find_map(|a| a.strip_prefix("--reuid="))?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(pod: &str, container: &str) -> Result<Vec<String>, LaunchError> {
        let pod = Pod { spec: Some(serde_yaml_ng::from_str(pod).unwrap()), ..Pod::default() };
        let container = serde_yaml_ng::from_str(container).unwrap();
        privileges("setpriv".as_ref(), &pod, &container).map(|(_, arguments)| arguments)
    }

    #[test]
    fn users_and_rights() {
        let plain = arguments("{containers: []}", "{name: c}").unwrap();
        assert!(plain.contains(&"--reuid=0".to_owned()));
        assert!(plain.iter().any(|a| a.starts_with("--bounding-set=-all,+audit_write,+chown")));

        let sidecar = arguments(
            "{containers: [], securityContext: {runAsUser: 7, fsGroup: 9}}",
            "{name: c, securityContext: {runAsUser: 5050, runAsGroup: 5050, \
             allowPrivilegeEscalation: false, capabilities: {drop: [ALL], add: [NET_ADMIN]}}}",
        )
        .unwrap();
        for argument in
            ["--reuid=5050", "--groups=9", "--bounding-set=-all,+net_admin", "--no-new-privs"]
        {
            assert!(sidecar.contains(&argument.to_owned()), "{argument} in {sidecar:?}");
        }
        let root =
            arguments("{containers: [], securityContext: {runAsNonRoot: true}}", "{name: c}");
        assert!(root.unwrap_err().to_string().contains("set runAsUser"));
    }
}
