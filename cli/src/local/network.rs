//! The mesh's network: one bridge in the outer namespace, a pair of devices per pod, and the
//! translation of service addresses.
//!
//! A pod has its address as /32 (/128) and everything else behind the gateway, so that all of its
//! traffic passes the outer namespace: service addresses are translated there, and the answers find
//! the way back. Nothing here leaves the mesh: its namespace has no route out.

pub(super) mod families;
pub(super) mod rules;

use std::{
    collections::HashSet,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    process::Stdio,
};

use tokio::{io::AsyncWriteExt as _, process::Command};

pub(super) use self::families::Families;
use super::{config::Programs, controllers::services::Family};

/// Gateway of all pods and address of the "node".
pub(super) const GATEWAY: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(10, 244, 0, 1), Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 1));

/// The gateway's address.
pub(super) fn gateway(family: Family) -> IpAddr {
    match family {
        Family::V4 => GATEWAY.0.into(),
        Family::V6 => GATEWAY.1.into(),
    }
}

/// Addresses of one pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PodAddresses {
    /// The number all follow from.
    index: u16,
    families: Families,
}

impl PodAddresses {
    /// All of them, the primary one first.
    pub(super) fn all(self) -> impl Iterator<Item = IpAddr> {
        self.families.list().iter().map(move |family| match family {
            Family::V4 => self.v4().into(),
            Family::V6 => self.v6().into(),
        })
    }

    /// The one that the kubelet asks at.
    pub(super) fn primary(self) -> IpAddr {
        match self.families.primary() {
            Family::V4 => self.v4().into(),
            Family::V6 => self.v6().into(),
        }
    }

    /// Addresses of the pod's node, the primary one first.
    pub(super) fn node(self) -> impl Iterator<Item = IpAddr> {
        self.families.list().iter().map(|family| gateway(*family))
    }

    fn v4(self) -> Ipv4Addr {
        let [high, low] = self.index.to_be_bytes();
        Ipv4Addr::new(10, 244, high, low)
    }

    fn v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, self.index)
    }

    /// Name of the pod's device in the outer namespace.
    fn device(self) -> String {
        format!("pod{}", self.index)
    }
}

/// Gives addresses to pods; a freed one rests for as long as possible, since callers may remember it.
#[derive(Debug)]
pub(super) struct PodRange {
    next: u16,
    taken: HashSet<u16>,
    families: Families,
}

impl PodRange {
    pub(super) fn new(families: Families) -> Self {
        Self { next: FIRST_POD, taken: HashSet::new(), families }
    }

    /// The next free addresses; none when 65,000 pods run.
    pub(super) fn take(&mut self) -> Option<PodAddresses> {
        for _ in FIRST_POD..LAST_POD {
            let index = self.next;
            self.next = if index >= LAST_POD { FIRST_POD } else { index + 1 };
            if self.taken.insert(index) {
                return Some(PodAddresses { index, families: self.families });
            }
        }
        None
    }

    pub(super) fn free(&mut self, addresses: PodAddresses) {
        self.taken.remove(&addresses.index);
    }
}

const FIRST_POD: u16 = 2;
/// 10.244.255.255 is the broadcast address.
const LAST_POD: u16 = u16::MAX - 1;

/// Something that a tool of the network refused.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {tool} says: {message}")]
pub(crate) struct NetworkError {
    doing: &'static str,
    tool: String,
    message: String,
}

/// Makes bridge, gateway addresses and the route of service addresses, in the namespace it runs in.
///
/// # Errors
/// What `ip` or the kernel says.
pub(super) async fn prepare(programs: &Programs) -> Result<(), NetworkError> {
    let (v4, v6) = GATEWAY;
    let (services4, services6) = (Family::V4.range(), Family::V6.range());
    // A fixed hardware address: a bridge otherwise takes the lowest of its ports', and every pod
    // would have to learn the gateway anew. The service ranges need a route to reach the rule that
    // refuses what was not translated.
    let batch = format!(
        "link set lo up\n\
         link add tulle0 address 02:54:75:6c:6c:65 type bridge\n\
         addr add {v4}/16 dev tulle0\n\
         addr add {v6}/64 dev tulle0 nodad\n\
         link set tulle0 up\n\
         route add {services4} dev tulle0\n\
         route add {services6} dev tulle0\n"
    );
    ip(programs, &batch, "making the bridge").await?;
    let settings = [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        // Pods reach each other through the gateway on purpose: no advice to do otherwise.
        ("net/ipv4/conf/all/send_redirects", "0"),
        ("net/ipv4/conf/tulle0/send_redirects", "0"),
        ("net/ipv4/neigh/default/gc_thresh3", "8192"),
    ];
    for (name, value) in settings {
        set(name, value).map_err(|error| NetworkError {
            doing: "preparing the kernel",
            tool: format!("/proc/sys/{name}"),
            message: error.to_string(),
        })?;
    }
    Ok(())
}

/// Gives the namespace of process `pid` its pair of devices, addresses and routes.
///
/// # Errors
/// What `ip` says.
pub(super) async fn connect(
    programs: &Programs,
    pid: u32,
    addresses: PodAddresses,
) -> Result<(), NetworkError> {
    let device = addresses.device();
    let outer = format!(
        "link add {device} type veth peer name eth0 netns {pid}\n\
         link set {device} master tulle0 up\n"
    );
    ip(programs, &outer, "connecting a pod").await?;
    let mut inner = "link set lo up\n".to_owned();
    for address in addresses.all() {
        inner += &match address {
            IpAddr::V4(v4) => format!("addr add {v4}/32 dev eth0\n"),
            IpAddr::V6(v6) => format!("addr add {v6}/128 dev eth0 nodad\n"),
        };
    }
    inner += "link set eth0 up\n";
    for gateway in addresses.node() {
        inner += &format!("route add default via {gateway} dev eth0 onlink\n");
    }
    let mut command = Command::new(&programs.nsenter);
    command.args(["-t", &pid.to_string(), "-n", "--"]).arg(&programs.ip).args(["-batch", "-"]);
    run(command, &inner, "addressing a pod").await
}

/// Removes a pod's device at once. The kernel would do so too, but in its own time.
pub(super) async fn disconnect(programs: &Programs, addresses: PodAddresses) {
    let batch = format!("link del {}\n", addresses.device());
    if let Err(error) = ip(programs, &batch, "disconnecting a pod").await {
        // The namespace's end already took it.
        tracing::debug!(%error, "device is gone");
    }
}

/// Settings inside of a pod, made by its first process.
pub(super) fn prepare_pod() -> io::Result<()> {
    // As container runtimes do: ports below 1024 need no right, and ping no capability.
    set("net/ipv4/ip_unprivileged_port_start", "0")?;
    set("net/ipv4/ping_group_range", "0 2147483647")?;
    for direction in ["all", "default"] {
        set(&format!("net/ipv4/conf/{direction}/accept_redirects"), "0")?;
        set(&format!("net/ipv6/conf/{direction}/accept_redirects"), "0")?;
    }
    Ok(())
}

fn set(name: &str, value: &str) -> io::Result<()> {
    let path = Path::new("/proc/sys").join(name);
    match fs::write(&path, value) {
        // A kernel without IPv6 or one of the finer settings does without.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

async fn ip(programs: &Programs, batch: &str, doing: &'static str) -> Result<(), NetworkError> {
    let mut command = Command::new(&programs.ip);
    command.args(["-batch", "-"]);
    run(command, batch, doing).await
}

/// Changes the translation of service addresses by this script, in one transaction.
///
/// # Errors
/// What `nft` says.
pub(super) async fn translate(programs: &Programs, script: &str) -> Result<(), NetworkError> {
    let mut command = Command::new(&programs.nft);
    command.args(["-f", "-"]);
    run(command, script, "translating service addresses").await
}

async fn run(mut command: Command, input: &str, doing: &'static str) -> Result<(), NetworkError> {
    let tool = command.as_std().get_program().to_string_lossy().into_owned();
    let failed = |message: String| NetworkError { doing, tool: tool.clone(), message };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        let written = stdin.write_all(input.as_bytes()).await;
        written.map_err(|error| failed(error.to_string()))?;
    }
    let output = child.wait_with_output().await.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_addresses_rest_before_they_are_used_again() {
        let mut range = PodRange::new(Families::default());
        let first = range.take().unwrap();
        assert_eq!(first.v4().to_string(), "10.244.0.2");
        assert_eq!(first.v6().to_string(), "fd00:10:244::2");
        range.free(first);
        assert_ne!(range.take().unwrap(), first);
    }
}
