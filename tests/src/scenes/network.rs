//! What the network does, with real connections: redirection flag by flag, names, both IP versions, who
//! reaches what, strictness, want of descriptors, and one root taking over from another.

mod access;
mod addresses;
mod descriptors;
mod harm;
mod names;
mod namespaces;
mod reach;
mod redirection;
mod roots;
mod strict;
mod telemetry;

use tulle_tests::{
    mesh::{Mesh, Pod},
    scene::{Failure, SIDECARS, Scene, Stage, prove},
};

use redirection::Tool;

/// Both ends of connections, for pods and for bare namespaces.
const ENDS: &str = include_str!("network/ends.py");
const YAML: &str = include_str!("network/mesh.yaml");
/// Services of one IP version each, where a mesh has both.
const BOTH: &str = include_str!("network/both.yaml");
/// The source that an application sees for every remote caller: IPv4 and IPv6.
const SOURCE: [&str; 2] = ["169.254.41.1", "fd00:7475:6c6c:65::1"];
const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];
/// Certificates that are renewed while the scenes go on.
const LIFETIME: &str = "--certificate-lifetime=45s";

/// For the tests, not for the demo.
pub(crate) const ALL: &[Scene] = &[
    Scene {
        number: 1,
        name: "redirection by nft",
        does: "Each flag of `tulle-proxy redirect`, with connections that it is for and others that it is not.",
        part: SIDECARS,
        run: |s| Box::pin(redirection::run(s, Tool::Nft)),
    },
    Scene {
        number: 2,
        name: "redirection by iptables",
        does: "The same where there is no nft.",
        part: SIDECARS,
        run: |s| Box::pin(redirection::run(s, Tool::Iptables)),
    },
    Scene {
        number: 3,
        name: "names",
        does: "Names of the mesh from the sidecar, others from the pod's resolver; the control plane hangs meanwhile.",
        part: SIDECARS,
        run: |s| Box::pin(names::run(s)),
    },
    Scene {
        number: 4,
        name: "IPv4 and IPv6",
        does: "Requests through two sidecars over either version.",
        part: SIDECARS,
        run: |s| Box::pin(addresses::both(s)),
    },
    Scene {
        number: 5,
        name: "who reaches what",
        does: "Ports bound to loopback or to the pod's address alone, ports that nobody listed, pods by their addresses, \
               a pod that calls itself, UDP, and what annotations exclude.",
        part: SIDECARS,
        run: |s| Box::pin(reach::run(s)),
    },
    Scene {
        number: 6,
        name: "descriptors",
        does: "A sidecar runs out of file descriptors: what it has goes on, and it does not spin.",
        part: SIDECARS,
        run: |s| Box::pin(descriptors::run(s)),
    },
    Scene {
        number: 7,
        name: "roots",
        does: "Certificates are renewed, and one root takes over from another, under requests.",
        part: SIDECARS,
        run: |s| Box::pin(roots::run(s)),
    },
    Scene {
        number: 8,
        name: "strict",
        does: "MeshTLS Strict: no way in for plaintext, also while nobody has told a sidecar anything yet.",
        part: SIDECARS,
        run: |s| Box::pin(strict::run(s)),
    },
    Scene {
        number: 9,
        name: "IPv6 alone",
        does: "Names and requests in a mesh without IPv4.",
        part: SIDECARS,
        run: |s| Box::pin(addresses::ipv6(s)),
    },
    Scene {
        number: 10,
        name: "no harm",
        does: "gRPC of every kind, events, a long poll and a large upload, by programs that nobody here wrote: both \
               ends see through two sidecars what they see without.",
        part: SIDECARS,
        run: |s| Box::pin(harm::run(s)),
    },
    Scene {
        number: 11,
        name: "access",
        does: "AccessPolicy: who is let in, by identity and port; it changes under an open connection; audit.",
        part: SIDECARS,
        run: |s| Box::pin(access::run(s)),
    },
    Scene {
        number: 12,
        name: "telemetry",
        does: "Telemetry: the access log of running sidecars has another format, more fields, other lines.",
        part: SIDECARS,
        run: |s| Box::pin(telemetry::run(s)),
    },
];

/// The mesh of these scenes.
#[derive(Debug)]
struct Shop<'a> {
    mesh: &'a Mesh,
    web: Pod,
    client: Pod,
    loner: Pod,
    picky: Pod,
    stranger: Pod,
}

impl<'a> Shop<'a> {
    /// With pods of both IP versions.
    async fn both(stage: &'a mut Stage) -> Result<Self, Failure> {
        let yaml = format!("{}---\n{BOTH}", yaml("10.96.0.10", "10.96.0.53"));
        Self::of(stage.mesh_of(&yaml, &["--ip-families=ipv4,ipv6", LIFETIME]).await?).await
    }

    /// With pods of IPv6 alone.
    async fn ipv6(stage: &'a mut Stage) -> Result<Self, Failure> {
        let yaml = yaml("fd00:10:96::a", "fd00:10:96::53");
        Self::of(stage.mesh_of(&yaml, &["--ip-families=ipv6"]).await?).await
    }

    async fn of(mesh: &'a Mesh) -> Result<Self, Failure> {
        Ok(Self {
            mesh,
            web: mesh.pod("shop", "web").await?,
            client: mesh.pod("shop", "client").await?,
            loner: mesh.pod("shop", "loner").await?,
            picky: mesh.pod("shop", "picky").await?,
            stranger: mesh.pod("outside", "stranger").await?,
        })
    }

    /// Asks from a pod, all at once; what was told, in the same order.
    async fn ask(&self, from: &Pod, urls: &[String]) -> Result<Vec<String>, Failure> {
        let mut argv = vec!["python3", "/net/ends.py", "ask"];
        argv.extend(urls.iter().map(String::as_str));
        let told = self.mesh.exec(from, "app", &argv).await?;
        let told: Vec<_> = told.lines().map(str::to_owned).collect();
        prove(told.len() == urls.len(), || format!("{urls:?} were told {told:?}"))?;
        Ok(told)
    }

    /// Asks from a pod, and proves that each is told what is expected: that text, or if it ends in `…` what
    /// begins with it; of several, one of those between `|`.
    async fn told(&self, from: &Pod, expected: &[(String, &str)]) -> Result<(), Failure> {
        let urls: Vec<_> = expected.iter().map(|(url, _)| url.clone()).collect();
        let told = self.ask(from, &urls).await?;
        let wrong = expected.iter().zip(&told).filter(|((_, wanted), told)| !fits(wanted, told));
        let wrong: Vec<_> = wrong
            .map(|((url, wanted), told)| format!("{}: {url}: {told:?}, not {wanted:?}", from.name))
            .collect();
        prove(wrong.is_empty(), || wrong.join("\n"))
    }
}

fn fits(wanted: &str, told: &str) -> bool {
    wanted.split('|').any(|wanted| match wanted.strip_suffix('…') {
        Some(begin) => told.starts_with(begin),
        None => told == wanted,
    })
}

/// With cluster DNS, and a resolver beside it, at these addresses.
fn yaml(cluster: &str, resolver: &str) -> String {
    let indented: String = ENDS.lines().map(|line| format!("    {line}\n")).collect();
    let yaml = YAML.replace("@ENDS@\n", &indented);
    yaml.replace("@CLUSTER@", cluster).replace("@RESOLVER@", resolver)
}

/// `IP:PORT`, as it stands in a URL.
fn at(ip: &str, port: u16) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// The pod's first address.
fn ip(pod: &Pod) -> &str {
    pod.ip.as_deref().unwrap_or_default()
}
