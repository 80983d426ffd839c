//! `forward`: an address of this machine leads into the mesh, for what a person opens in a browser.
//!
//! The runtime, which is in the mesh's network, makes the connections, from its bridge: whoever uses
//! this is a client outside of the mesh, in plaintext, and is refused where `MeshTLS` is `Strict`. A
//! Service chooses an endpoint for each connection, as it does for everybody else.

use std::{
    fmt,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
    str::FromStr,
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    signal,
};

use super::{ClientError, ask, find, io_error, latest};
use crate::local::{
    Error, ForwardArgs,
    control::{Request, connect},
    overview::{Overview, ServiceLine},
    state::State,
    up::say,
};

/// `[LOCAL:]PORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::local) struct Ports {
    /// Of this machine; 0 is any that is free.
    local: u16,
    /// Of the pod or Service.
    remote: u16,
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (local, remote) = text.split_once(':').unwrap_or((text, text));
        let wrong =
            || format!("{text:?} is neither PORT nor LOCAL:PORT; write for example 8080:80");
        let port = |text: &str| text.parse::<u16>().map_err(|_no_port| wrong());
        let local = if local.is_empty() { 0 } else { port(local)? };
        match port(remote)? {
            0 => Err(wrong()),
            remote => Ok(Self { local, remote }),
        }
    }
}

/// Where a connection goes, and what that is called.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    address: SocketAddr,
    name: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.address)
    }
}

/// Leads connections of 127.0.0.1 to a pod or a Service until ctrl-C, or the end of the mesh.
///
/// # Errors
/// See [`ClientError`].
pub(in crate::local) async fn forward(args: &ForwardArgs) -> Result<ExitCode, Error> {
    let name = &args.name.name;
    let mut mesh = ask(name, Request::Watch).await?;
    let mut overview = latest(&mut mesh, name).await?;
    let Ports { local, remote } = args.ports;
    let target = target(&overview, &args.target, remote)?;
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, local));
    let listener = TcpListener::bind(wanted).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => ClientError::PortInUse(local),
        _ => io_error(&format!("listening on {wanted}"))(error),
    })?;
    let address = listener.local_addr().map_err(io_error("listening"))?;
    let text = format!("Forwarding from http://{address} to {target}; ctrl-C ends it.\n");
    say(&mut io::stdout(), &text);
    loop {
        tokio::select! {
            biased;
            _interrupted = signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
            news = latest(&mut mesh, name) => overview = news?,
            accepted = listener.accept() => {
                let (stream, _) = accepted.map_err(io_error("accepting a connection"))?;
                // Pods come and go.
                match self::target(&overview, &args.target, remote) {
                    Ok(target) => drop(tokio::spawn(lead(State::of(name), stream, target))),
                    Err(error) => complain(&error),
                }
            }
        }
    }
}

async fn lead(state: State, mut stream: TcpStream, target: Target) {
    match connect(&state.socket(), target.address).await {
        // How it ends is the business of the two ends.
        Ok(mut inside) => drop(copy_bidirectional(&mut stream, &mut inside).await),
        Err(error) => complain(&format_args!(
            "{target}: {error}; does it listen there, and not on its loopback alone? See `tulle local status`"
        )),
    }
}

fn complain(what: &dyn fmt::Display) {
    say(&mut io::stderr(), &format!("{what}\n"));
}

/// Where `POD` or `svc/NAME` is.
fn target(overview: &Overview, wanted: &str, port: u16) -> Result<Target, ClientError> {
    let Some(service) = wanted.strip_prefix("svc/") else {
        let pod = find(overview, wanted)?;
        let name = format!("pod {}/{}", pod.namespace, pod.name);
        let ip = pod.ip.parse::<IpAddr>();
        let ip = ip.map_err(|_none| ClientError::NoAddress {
            what: name.clone(),
            next: "wait until it has one",
        })?;
        return Ok(Target { address: (ip, port).into(), name });
    };
    let (namespace, name) = match service.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, service),
    };
    let fitting = overview.services.iter();
    let fitting: Vec<_> = fitting
        .filter(|s| s.name == name && namespace.is_none_or(|namespace| s.namespace == namespace))
        .collect();
    let names = |services: &mut dyn Iterator<Item = &ServiceLine>| {
        let names: Vec<_> = services.map(|s| format!("{}/{}", s.namespace, s.name)).collect();
        names.join(", ")
    };
    let service = match fitting.as_slice() {
        [service] => *service,
        [] => {
            let there = names(&mut overview.services.iter());
            return Err(ClientError::NoService { name: service.to_owned(), there });
        }
        several => {
            let fitting = names(&mut several.iter().copied());
            return Err(ClientError::SeveralServices { name: service.to_owned(), fitting });
        }
    };
    let name = format!("svc {}/{}", service.namespace, service.name);
    if !service.ports.contains(&i32::from(port)) {
        let there: Vec<_> = service.ports.iter().map(ToString::to_string).collect();
        return Err(ClientError::NoPort { what: name, port, there: there.join(", ") });
    }
    let address = service.addresses.iter().find_map(|address| address.parse::<IpAddr>().ok());
    let address = address.ok_or_else(|| ClientError::NoAddress {
        what: name.clone(),
        next: "it is headless: name one of its pods instead",
    })?;
    Ok(Target { address: (address, port).into(), name })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::overview::PodLine;

    #[test]
    fn ports() {
        let ports = |local, remote| Ok(Ports { local, remote });
        assert_eq!("80".parse(), ports(80, 80));
        assert_eq!("8080:80".parse(), ports(8080, 80));
        assert_eq!(":80".parse(), ports(0, 80));
        for wrong in ["", "http", "0", "8080:", "8080:0", "80:http", "1:2:3", "65536"] {
            let error = wrong.parse::<Ports>().unwrap_err();
            assert!(error.contains("write for example 8080:80"), "{wrong}: {error}");
        }
    }

    #[test]
    fn targets() {
        let service = |namespace: &str, name: &str, addresses: &[&str]| ServiceLine {
            namespace: namespace.into(),
            name: name.into(),
            addresses: addresses.iter().map(|&address| address.to_owned()).collect(),
            ports: vec![80, 81],
            ready_endpoints: 1,
        };
        let pod = |name: &str, ip: &str| PodLine {
            namespace: "shop".into(),
            name: name.into(),
            ip: ip.into(),
            ..PodLine::default()
        };
        let overview = Overview {
            pods: vec![pod("web-1", "10.244.0.7"), pod("six-1", "fd00::7"), pod("new-1", "")],
            services: vec![
                service("shop", "web", &["10.96.0.7", "fd00:10:96::7"]),
                service("shop", "each", &[]),
                service("shop", "both", &["10.96.0.8"]),
                service("test", "both", &["10.96.0.9"]),
            ],
            ..Overview::default()
        };
        let at = |wanted, port| {
            let found = target(&overview, wanted, port);
            found.map(|target| target.address.to_string()).map_err(|error| error.to_string())
        };
        assert_eq!(at("web", 8080).as_deref(), Ok("10.244.0.7:8080"));
        assert_eq!(at("shop/six", 8080).as_deref(), Ok("[fd00::7]:8080"));
        assert_eq!(at("svc/web", 80).as_deref(), Ok("10.96.0.7:80"));
        assert_eq!(at("svc/test/both", 81).as_deref(), Ok("10.96.0.9:81"));
        for (wanted, port, said) in [
            ("nobody", 80, "no pod is named `nobody`"),
            ("new", 80, "pod shop/new-1 has no address; wait"),
            ("svc/nobody", 80, "no Service is named `nobody`; there are: shop/web, "),
            ("svc/both", 80, "`both` are several Services: shop/both, test/both"),
            ("svc/web", 8080, "svc shop/web has no port 8080; it has: 80, 81"),
            ("svc/each", 80, "svc shop/each has no address; it is headless"),
        ] {
            let error = at(wanted, port).unwrap_err();
            assert!(error.starts_with(said), "{wanted}: {error}");
        }
    }
}
