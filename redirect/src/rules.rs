//! Makes the kernel hand a pod's TCP connections to the sidecar.
//!
//! ```text
//!  application ──► output ──────► 127.0.0.1:15001   except: our own uid, loopback, link-local, exclusions
//!  strangers ────► prerouting ──► POD:15006         except: the sidecar's own ports, exclusions
//!  sidecar ──────► output, lo ──► POD:15006         a pod that calls itself: out-proxy to in-proxy
//!  sidecar (from 169.254.41.1) ─► application       the in-proxy's own connections, told apart by source
//!  application ── :53 of its n-th resolver ──► 127.0.0.1:15053+n   with --dns
//! ```
//!
//! Rules are text, made by pure functions and loaded in one transaction: [`nft`] by preference,
//! [`iptables`] where that does not work. Running it again replaces what was there.

mod iptables;
mod nft;

use std::{
    fmt, io,
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    process::{Command, Stdio},
};

use clap::{Args, Parser as _};
use ipnet::IpNet;

use crate::resolvers::Resolvers;

/// Source of the inbound proxy's connections to the application, IPv4.
pub const SOURCE_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 41, 1);

/// Source of the inbound proxy's connections to the application, IPv6.
pub const SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x7475, 0x6c6c, 0x65, 0, 0, 0, 1);

/// What is redirected, and what is not.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Options {
    /// Inbound ports that reach the application directly
    #[arg(long, value_delimiter = ',', value_name = "PORTS")]
    pub exclude_inbound_ports: Vec<u16>,
    /// The only inbound ports that are redirected (default: all)
    #[arg(long, value_delimiter = ',', value_name = "PORTS")]
    pub include_inbound_ports: Vec<u16>,
    /// Outbound ports that are not redirected
    #[arg(long, value_delimiter = ',', value_name = "PORTS")]
    pub exclude_outbound_ports: Vec<u16>,
    /// Outbound address ranges that are not redirected
    #[arg(long, value_delimiter = ',', value_name = "CIDRS")]
    pub exclude_outbound_cidrs: Vec<IpNet>,
    /// The only outbound address ranges that are redirected (default: all)
    #[arg(long, value_delimiter = ',', value_name = "CIDRS")]
    pub include_outbound_cidrs: Vec<IpNet>,
    /// Users whose connections are not redirected
    #[arg(long, value_delimiter = ',', value_name = "UIDS")]
    pub exclude_uids: Vec<u32>,
    /// The user that the sidecar runs as
    #[arg(long, default_value_t = 5050, value_name = "UID")]
    pub proxy_uid: u32,
    /// The sidecar's outbound port, on loopback
    #[arg(long, default_value_t = 15001, value_name = "PORT")]
    pub outbound_port: u16,
    /// The sidecar's inbound port, on the pod's addresses
    #[arg(long, default_value_t = 15006, value_name = "PORT")]
    pub inbound_port: u16,
    /// The sidecar's port for readiness and metrics
    #[arg(long, default_value_t = 15021, value_name = "PORT")]
    pub status_port: u16,
    /// The sidecar's port for rewritten probes
    #[arg(long, default_value_t = 15020, value_name = "PORT")]
    pub probe_port: u16,
    /// Redirect DNS (UDP and TCP, port 53) to the sidecar: of the first resolver to this loopback
    /// port, of the others to the next ones
    #[arg(long, value_name = "PORT")]
    pub dns: Option<u16>,
    /// The resolvers whose DNS is redirected (default: those of /etc/resolv.conf)
    #[arg(long, value_delimiter = ',', value_name = "ADDRESSES")]
    pub resolvers: Vec<IpAddr>,
}

/// An IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Why nothing is redirected.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// Neither tool did it.
    #[error(
        "cannot program redirection.\n  nft: {nft}\n  iptables: {iptables}\n\
         It needs NET_ADMIN (the init container runs as uid 0 with it) and one of the two tools."
    )]
    Rules {
        /// What nft said.
        nft: String,
        /// What iptables said.
        iptables: String,
    },
    /// The source addresses.
    #[error("cannot add the sidecar's source address {address} to lo: {reason}")]
    Address {
        /// The address.
        address: String,
        /// What `ip` said.
        reason: String,
    },
    /// The resolvers.
    #[error("cannot read /etc/resolv.conf, whose resolvers' DNS is to be redirected: {0}")]
    Resolvers(io::Error),
    /// The tools' folder.
    #[error("cannot enter {tools}, where nft, iptables and ip should be: {reason}")]
    Tools {
        /// The folder.
        tools: String,
        /// Why.
        reason: io::Error,
    },
}

/// Programs the network namespace of this process, with the tools of this root.
///
/// # Errors
/// What the tools said, and what they need.
pub fn run(options: &Options) -> Result<(), RedirectError> {
    let options = options.clone().with_resolvers()?;
    program(&options, ipv6_is_on(), Tools { path: None })
}

/// The same with the tools of another root, `tools`, which this process enters for good: of a node
/// one cannot tell which tools it has. Nothing is read of the pod, whose files this process does not
/// see: the options say everything.
///
/// # Errors
/// As [`run`].
pub fn run_with(options: &Options, tools: &Path) -> Result<(), RedirectError> {
    // There is no /proc in there.
    let ipv6 = ipv6_is_on();
    rustix::process::chroot(tools).and_then(|()| rustix::process::chdir("/")).map_err(
        |reason| RedirectError::Tools { tools: tools.display().to_string(), reason: reason.into() },
    )?;
    // Whoever calls a CNI plugin has a PATH of its own.
    program(options, ipv6, Tools { path: Some(IMAGE) })
}

/// The rules, as text for `nft -f`.
///
/// # Errors
/// If the pod's resolvers are needed and cannot be read.
pub fn script(options: &Options) -> Result<String, RedirectError> {
    let options = options.clone().with_resolvers()?;
    Ok(nft::script(&options, ipv6_is_on()))
}

/// Rules first: whoever finds the source addresses knows that they are there ([`crate::proof`]).
fn program(options: &Options, ipv6: bool, tools: Tools) -> Result<(), RedirectError> {
    if let Err(nft) = tools.pipe("nft", &["-f", "-"], &nft::script(options, ipv6)) {
        with_iptables(options, ipv6, tools).map_err(|failed| RedirectError::Rules {
            nft: nft.to_string(),
            iptables: failed.to_string(),
        })?;
    }
    if ipv6 {
        // Deprecated from the start, so that the kernel never chooses it by itself; without
        // duplicate detection, so that it can be used at once.
        add_source(tools, &format!("{SOURCE_V6}/128"), &["preferred_lft", "0", "nodad"])?;
    }
    add_source(tools, &format!("{SOURCE_V4}/32"), &["scope", "host"])
}

fn with_iptables(options: &Options, ipv6: bool, tools: Tools) -> Result<(), Failed> {
    let families = [("iptables-restore", Family::V4), ("ip6tables-restore", Family::V6)];
    for (tool, family) in families {
        if family == Family::V6 && !ipv6 {
            continue;
        }
        for removal in iptables::removals() {
            // Fails when this runs for the first time.
            let _first = tools.pipe(tool, &["--noflush", "--wait"], &removal).is_err();
        }
        tools.pipe(tool, &["--noflush", "--wait"], &iptables::script(options, family))?;
    }
    Ok(())
}

/// Whether there is IPv6 in this network namespace, by the kernel's own switch.
pub(crate) fn ipv6_is_on() -> bool {
    let switch = Path::new("/proc/sys/net/ipv6/conf/all/disable_ipv6");
    std::fs::read_to_string(switch).is_ok_and(|value| value.trim() == "0")
}

fn add_source(tools: Tools, address: &str, how: &[&str]) -> Result<(), RedirectError> {
    // In a fresh network namespace lo is down, and so is what comes after.
    let steps: [&[&str]; 2] =
        [&["link", "set", "lo", "up"], &[&["addr", "replace", address, "dev", "lo"], how].concat()];
    for arguments in steps {
        tools.pipe("ip", arguments, "").map_err(|failed| RedirectError::Address {
            address: address.to_owned(),
            reason: failed.to_string(),
        })?;
    }
    Ok(())
}

/// Options alone on a line.
#[derive(Debug, clap::Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Line {
    #[command(flatten)]
    options: Options,
}

/// A tool that did not do what it was told.
#[derive(Debug)]
struct Failed(String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the images have their tools.
const IMAGE: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where tools are looked for; without a path, where this process would.
#[derive(Debug, Clone, Copy)]
struct Tools {
    path: Option<&'static str>,
}

impl Tools {
    /// Runs a tool with `input` on its standard input.
    fn pipe(self, tool: &str, arguments: &[&str], input: &str) -> Result<(), Failed> {
        let failed = |reason: &dyn fmt::Display| Failed(format!("{tool}: {reason}"));
        let mut command = Command::new(tool);
        if let Some(path) = self.path {
            command.env("PATH", path);
        }
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| failed(&e))?;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(input.as_bytes()) {
                // It ended before it read all: its exit status and stderr say why.
                Err(e) if e.kind() != io::ErrorKind::BrokenPipe => return Err(failed(&e)),
                _ => {}
            }
        }
        let output = child.wait_with_output().map_err(|e| failed(&e))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(failed(&format_args!("{}: {}", output.status, said.trim())))
    }
}

impl Options {
    /// What text with the options' names says, as injection writes it into an annotation.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<_> = text.split_whitespace().collect();
        Self::from_words(&words)
    }

    /// What these arguments say.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn from_words(words: &[&str]) -> Result<Self, String> {
        let line = Line::try_parse_from(words).map_err(|error| {
            let said = error.to_string();
            said.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
        })?;
        Ok(line.options)
    }

    /// With the pod's resolvers, if they are needed and not given.
    ///
    /// # Errors
    /// If the pod's `/etc/resolv.conf` cannot be read.
    pub fn with_resolvers(mut self) -> Result<Self, RedirectError> {
        if self.lacks_resolvers() {
            let found = Resolvers::of_this_pod().map_err(RedirectError::Resolvers)?;
            self.resolvers = found.addresses().collect();
        }
        Ok(self)
    }

    /// Whether resolvers are needed and not given.
    pub fn lacks_resolvers(&self) -> bool {
        self.dns.is_some() && self.resolvers.is_empty()
    }

    /// Inbound ports that are never redirected.
    fn direct_inbound(&self) -> Vec<u16> {
        let mut ports = vec![self.inbound_port, self.status_port, self.probe_port];
        ports.extend(&self.exclude_inbound_ports);
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// Ports of the sidecar's DNS, each with the resolver whose questions it gets; none where port 53
    /// is excluded.
    fn dns(&self, family: Family) -> Vec<(u16, IpAddr)> {
        let Some(first) = self.dns.filter(|_| !self.exclude_outbound_ports.contains(&53)) else {
            return Vec::new();
        };
        let resolvers = Resolvers::new(&self.resolvers);
        let ports = resolvers.ports(first);
        ports.filter(|(_, address)| address.is_ipv4() == (family == Family::V4)).collect()
    }

    /// Users whose connections are never redirected, the sidecar's own first.
    pub(crate) fn direct_uids(&self) -> Vec<u32> {
        let mut uids = vec![self.proxy_uid];
        uids.extend(self.exclude_uids.iter().filter(|uid| **uid != self.proxy_uid));
        uids
    }
}

impl Family {
    /// Ranges that never belong to a mesh: this host, link-local, multicast, broadcast.
    fn untouched(self) -> &'static [&'static str] {
        match self {
            Self::V4 => {
                &["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255"]
            }
            Self::V6 => &["::1", "fe80::/10", "ff00::/8"],
        }
    }

    fn loopback(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.0/8",
            Self::V6 => "::1",
        }
    }

    /// Those of `ranges` that are of this family, as text.
    fn of(self, ranges: &[IpNet]) -> Vec<String> {
        let same = |range: &&IpNet| matches!(range, IpNet::V4(_)) == (self == Self::V4);
        ranges.iter().filter(same).map(ToString::to_string).collect()
    }

    pub(crate) fn source(self) -> IpAddr {
        match self {
            Self::V4 => SOURCE_V4.into(),
            Self::V6 => SOURCE_V6.into(),
        }
    }
}

#[cfg(test)]
mod tests;
