//! `tulle-proxy redirect`, flag by flag: who gets a connection, and what is remembered of where it was
//! going. Listeners stand in for the sidecar; the applications behind it are the pod's.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use tulle_tests::{
    mesh::{binaries, output_of},
    scene::{Failure, Figures, Stage, prove},
};

use super::{
    ENDS, LOOPBACK, SOURCE, at,
    namespaces::{ELSEWHERE, End, Namespace, OUTSIDE, POD},
};

/// What programs the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    Nft,
    /// As where there is no nft.
    Iptables,
}

/// Flags, and what then becomes of connections.
const CASES: &[(&str, &[Expected])] = &[
    (
        "",
        &[
            // The application's connections go to the sidecar, which learns where to.
            (Caller::Application, To::Outside(80), Got::Outbound),
            (Caller::Application, To::Elsewhere(25), Got::Outbound),
            (Caller::Root, To::Outside(80), Got::Outbound),
            (Caller::Other, To::Outside(80), Got::Outbound),
            (Caller::Sidecar, To::Outside(80), Got::Direct),
            // Others' come to it, also those to what listens on loopback alone: it finds nobody there.
            (Caller::Stranger, To::Pod(8080), Got::Inbound),
            (Caller::Stranger, To::Pod(22), Got::Inbound),
            (Caller::Stranger, To::Pod(9000), Got::Inbound),
            (Caller::Stranger, To::Pod(15021), Got::Direct),
            // What stays in the pod stays untouched …
            (Caller::Application, To::Loopback(9000), Got::Direct),
            (Caller::Application, To::Pod(8080), Got::Direct),
            // … but the outbound proxy's to the pod itself goes to the inbound one, whose own goes on.
            (Caller::Sidecar, To::Pod(8080), Got::Inbound),
            (Caller::Inbound, To::Pod(8080), Got::Direct),
            // UDP is left alone, and DNS with it unless that is asked for.
            (Caller::Datagram, To::Outside(53), Got::Direct),
            (Caller::Application, To::Outside(53), Got::Outbound),
        ],
    ),
    (
        "--exclude-outbound-ports 25,53 --dns 15053 --resolvers RESOLVERS",
        &[
            (Caller::Application, To::Outside(25), Got::Direct),
            (Caller::Application, To::Outside(80), Got::Outbound),
            (Caller::Datagram, To::Outside(53), Got::Direct),
        ],
    ),
    (
        "--exclude-outbound-cidrs 203.0.113.0/24,2001:db8::/32",
        &[
            (Caller::Application, To::Elsewhere(80), Got::Direct),
            (Caller::Application, To::Outside(80), Got::Outbound),
        ],
    ),
    (
        "--include-outbound-cidrs 203.0.113.0/24,2001:db8::/32",
        &[
            (Caller::Application, To::Elsewhere(80), Got::Outbound),
            (Caller::Application, To::Outside(80), Got::Direct),
        ],
    ),
    (
        "--exclude-uids 7",
        &[
            (Caller::Other, To::Outside(80), Got::Direct),
            (Caller::Application, To::Outside(80), Got::Outbound),
            (Caller::Stranger, To::Pod(8080), Got::Inbound),
        ],
    ),
    (
        "--exclude-inbound-ports 22",
        &[
            (Caller::Stranger, To::Pod(22), Got::Direct),
            (Caller::Stranger, To::Pod(8080), Got::Inbound),
            (Caller::Sidecar, To::Pod(22), Got::Direct),
        ],
    ),
    (
        "--include-inbound-ports 8080",
        &[
            (Caller::Stranger, To::Pod(8080), Got::Inbound),
            (Caller::Stranger, To::Pod(22), Got::Direct),
            (Caller::Application, To::Outside(80), Got::Outbound),
        ],
    ),
    (
        "--dns 15053 --resolvers RESOLVERS",
        &[
            (Caller::Datagram, To::Outside(53), Got::Dns),
            (Caller::Application, To::Outside(53), Got::Dns),
            (Caller::Sidecar, To::Outside(53), Got::Direct),
            // Another server than the pod's resolvers was asked by its address.
            (Caller::Datagram, To::Elsewhere(53), Got::Direct),
            (Caller::Application, To::Elsewhere(53), Got::Outbound),
        ],
    ),
];

type Expected = (Caller, To, Got);

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// The pod's users, with TCP.
    Application,
    Other,
    Root,
    /// The application, with UDP.
    Datagram,
    /// The sidecar for its application, and for others to it.
    Sidecar,
    Inbound,
    /// From outside.
    Stranger,
}

/// To which port of what.
#[derive(Debug, Clone, Copy)]
enum To {
    Pod(u16),
    Loopback(u16),
    Outside(u16),
    Elsewhere(u16),
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Got {
    /// The sidecar, for the application's connections.
    Outbound,
    /// The sidecar, for others' connections.
    Inbound,
    /// The sidecar's DNS.
    Dns,
    /// Whoever was meant.
    Direct,
}

/// The sidecar's user.
const SIDECAR: u32 = 5050;

pub(crate) async fn run(stage: &Stage, tool: Tool) -> Result<Figures, Failure> {
    let folder = tempfile::tempdir()?;
    let path = folder.path();
    prepare(tool, path)?;
    let ends = path.join("ends.py");
    let [pod, outside] = Namespace::pair().await?;
    let _listening = listen(&pod, &outside, &ends).await?;
    let mut askers = Vec::new();
    for (namespace, uid) in [(&pod, 1000), (&pod, 7), (&pod, 0), (&pod, SIDECAR), (&outside, 0)] {
        askers.push(namespace.end(&ends, uid, &["ask".to_owned()])?);
    }
    let mut connections = 0;
    for (flags, expected) in CASES {
        // Without it everything is direct.
        if !stage.is_control() {
            redirect(&pod, path, flags).await?;
        }
        for (number, asker) in askers.iter_mut().enumerate() {
            let asked = expected.iter().filter(|(caller, ..)| caller.asker() == number);
            let asked: Vec<_> = asked.flat_map(|case| [(case, 0), (case, 1)]).collect();
            let urls: Vec<_> = asked.iter().map(|(case, family)| url(case, *family)).collect();
            if urls.is_empty() {
                continue;
            }
            let told = asker.ask(&urls).await?;
            for ((case, family), told) in asked.into_iter().zip(told) {
                let wanted = wanted(case, family);
                prove(told == wanted, || {
                    format!("`{flags}`, {case:?}: {told:?} answered, not {wanted:?}")
                })?;
                connections += 1;
            }
        }
    }
    let rules = output_of(command(&pod, "nft list tables")).await?;
    let by_nft = rules.contains("inet tulle");
    prove(by_nft == (tool == Tool::Nft), || format!("{tool:?} did not do it: {rules}"))?;
    Ok(Figures::from([("connections", f64::from(connections))]))
}

/// Makes a folder for PATH without the tool that shall not be used, and puts the ends' program where every
/// user may read it.
fn prepare(tool: Tool, folder: &Path) -> Result<(), Failure> {
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    fs::write(folder.join("ends.py"), ENDS)?;
    let programs: &[&str] = match tool {
        Tool::Nft => &["ip", "nft"],
        Tool::Iptables => &["ip", "iptables-restore", "ip6tables-restore"],
    };
    for program in programs {
        let places =
            ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(|place| Path::new(place).join(program));
        let found = places.iter().find(|place| place.exists());
        let found =
            found.ok_or_else(|| Failure(format!("{program} is missing: run tests/setup")))?;
        symlink(found, folder.join(program))?;
    }
    Ok(())
}

async fn redirect(pod: &Namespace, path: &Path, flags: &str) -> Result<(), Failure> {
    let proxy = binaries().join("tulle-proxy");
    let flags = flags.replace("RESOLVERS", &OUTSIDE.join(","));
    let words = format!("env PATH={} {} redirect {flags}", path.display(), proxy.display());
    output_of(command(pod, &words)).await.map(drop)
}

fn command(namespace: &Namespace, words: &str) -> tokio::process::Command {
    let mut words = words.split_whitespace();
    let mut command = namespace.command(words.next().unwrap_or_default());
    command.args(words);
    command
}

/// Everybody who may answer.
async fn listen(pod: &Namespace, outside: &Namespace, ends: &Path) -> Result<Vec<End>, Failure> {
    let end =
        |kind: &str, name: &str, ip: &str, port: u16| format!("{name}={kind}://{}", at(ip, port));
    let tcp = |name: &str, ip: &str, port| end("tcp", name, ip, port);
    let answer = || vec!["answer".to_owned()];
    let (mut sidecar, mut applications, mut others) = (answer(), answer(), answer());
    for (family, loopback) in LOOPBACK.into_iter().enumerate() {
        sidecar.push(tcp("outbound", loopback, 15001));
        sidecar.push(tcp("inbound", POD[family], 15006));
        sidecar.push(tcp("direct", POD[family], 15021));
        // The second resolver's questions come to the second port.
        let port = if family == 0 { 15053 } else { 15054 };
        sidecar.extend(["udp", "tcp"].map(|kind| end(kind, "dns", loopback, port)));
        applications.extend([8080, 22].map(|port| tcp("direct", POD[family], port)));
        applications.push(tcp("direct", loopback, 9000));
        for ip in [OUTSIDE[family], ELSEWHERE[family]] {
            others.extend([80, 25, 53].map(|port| tcp("direct", ip, port)));
            others.push(end("udp", "direct", ip, 53));
        }
    }
    let mut listening = vec![
        pod.end(ends, SIDECAR, &sidecar)?,
        pod.end(ends, 0, &applications)?,
        outside.end(ends, 0, &others)?,
    ];
    for end in &mut listening {
        let line = end.line().await?;
        prove(line == "listening", || line)?;
    }
    Ok(listening)
}

fn url((caller, to, _): &Expected, family: usize) -> String {
    let kind = if *caller == Caller::Datagram { "udp" } else { "tcp" };
    let source = if *caller == Caller::Inbound { SOURCE[family] } else { "" };
    let mark = if source.is_empty() { "" } else { "#" };
    format!("{kind}://{}{mark}{source}", to.address(family))
}

/// `NAME SOURCE WANTED`, as the end that should get the connection tells it.
fn wanted((caller, to, got): &Expected, family: usize) -> String {
    let source = match (caller, to) {
        (Caller::Stranger, _) => OUTSIDE[family],
        (Caller::Inbound, _) => SOURCE[family],
        (_, To::Loopback(_)) => LOOPBACK[family],
        _ => POD[family],
    };
    let name = match got {
        Got::Outbound => "outbound",
        Got::Inbound => "inbound",
        Got::Dns => "dns",
        Got::Direct => "direct",
    };
    // The kernel does not tell where a datagram was going; and a connection that it left alone was going there.
    let told = *got != Got::Direct && *caller != Caller::Datagram;
    format!("{name} {source} {}", if told { to.address(family) } else { "-".to_owned() })
}

impl Caller {
    /// Which of the asking processes.
    fn asker(self) -> usize {
        match self {
            Self::Application | Self::Datagram => 0,
            Self::Other => 1,
            Self::Root => 2,
            Self::Sidecar | Self::Inbound => 3,
            Self::Stranger => 4,
        }
    }
}

impl To {
    fn address(self, family: usize) -> String {
        let (ips, port) = match self {
            Self::Pod(port) => (POD, port),
            Self::Loopback(port) => (LOOPBACK, port),
            Self::Outside(port) => (OUTSIDE, port),
            Self::Elsewhere(port) => (ELSEWHERE, port),
        };
        at(ips[family], port)
    }
}
