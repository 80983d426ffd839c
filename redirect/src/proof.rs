//! The pod's own proof that its traffic is redirected, without a right to read rules.
//!
//! A connection to an address that nobody has is made, and must arrive at the sidecar's outbound
//! port. Where that proves nothing (the options leave this address alone, or the pod has no route to
//! it), the sidecar's source addresses must be there, which are added after all rules.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::unix::process::CommandExt,
    process::Command,
    time::Duration,
};

use ipnet::IpNet;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};
use tulle_runtime::signal;

use crate::rules::{Family, Options, RedirectError, ipv6_is_on};

/// How long somebody else has time to redirect the pod's traffic, before this init container ends
/// and is started again, ever less often.
const LIMIT: Duration = Duration::from_secs(120);
/// Between two looks.
const AGAIN: Duration = Duration::from_millis(200);
/// A redirected connection stays on this machine.
const PATIENCE: Duration = Duration::from_millis(500);
/// When the wait is worth a line.
const QUICK: Duration = Duration::from_secs(3);

/// Of the ranges that are for documentation: nobody has them.
const NOBODY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const NOBODY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// Why the pod's application must not start.
#[derive(Debug, thiserror::Error)]
pub enum NotRedirected {
    /// Nobody did it in time.
    #[error(
        "this pod's traffic is not redirected to its sidecar after {} s, so its application is not \
         started: tulle-cni should have done it. Is there a ready pod of it on this node? \
         kubectl -n kube-system get pods -o wide -l app.kubernetes.io/name=tulle-cni",
        LIMIT.as_secs()
    )]
    Late,
    /// What there is to be redirected is not known.
    #[error(transparent)]
    Options(#[from] RedirectError),
    /// The pod goes.
    #[error("told to end before the pod's traffic was redirected")]
    Told,
    /// Nobody could tell it.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// This program cannot be started again.
    #[error("cannot start again with the pod's resolvers: {0}")]
    Restart(io::Error),
}

/// Waits until the pod's traffic is redirected as `options` say.
///
/// The agent of tulle-cni finds this process by its arguments and learns from them what to do; it
/// does not read the pod's files. So a process whose arguments lack the pod's resolvers takes
/// its own place with arguments that have them.
///
/// # Errors
/// [`NotRedirected`], for the pod's status.
pub async fn wait(options: &Options) -> Result<(), NotRedirected> {
    if options.lacks_resolvers() {
        let found = options.clone().with_resolvers()?.resolvers;
        if !found.is_empty() {
            return Err(NotRedirected::Restart(start_again(&found)));
        }
    }
    // As a container's first process it would be deaf to signals otherwise.
    tokio::select! {
        outcome = until_redirected(options) => outcome,
        told = signal::terminate() => Err(told.map_or_else(NotRedirected::Signals, |()| NotRedirected::Told)),
    }
}

async fn until_redirected(options: &Options) -> Result<(), NotRedirected> {
    let start = Instant::now();
    let mut said = false;
    while !is_redirected(options).await {
        if start.elapsed() > LIMIT {
            return Err(NotRedirected::Late);
        }
        if !said && start.elapsed() > QUICK {
            said = true;
            // Where standard error is closed nobody reads it anyway.
            let line = "waiting until tulle-cni redirects this pod's traffic to its sidecar";
            let _closed = writeln!(io::stderr(), "{line}").is_err();
        }
        sleep(AGAIN).await;
    }
    Ok(())
}

fn start_again(resolvers: &[IpAddr]) -> io::Error {
    let list: Vec<_> = resolvers.iter().map(ToString::to_string).collect();
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_default();
    Command::new(program).args(arguments).arg("--resolvers").arg(list.join(",")).exec()
}

/// Whether it is, as far as this process can find out.
pub async fn is_redirected(options: &Options) -> bool {
    let families = if ipv6_is_on() { &[Family::V4, Family::V6][..] } else { &[Family::V4] };
    let own = rustix::process::geteuid().as_raw();
    for &family in families {
        if !is_marked(family) {
            return false;
        }
        let Some(target) = target(options, family, own).filter(has_route) else { continue };
        if !arrives(SocketAddr::new(loopback(family), options.outbound_port), target).await {
            return false;
        }
    }
    true
}

/// Whether the sidecar's source address is there: one can only bind to what is.
pub(crate) fn is_marked(family: Family) -> bool {
    UdpSocket::bind((family.source(), 0)).is_ok()
}

/// An address that nobody has and whose connections are redirected, if the options have one for the
/// user `own`.
fn target(options: &Options, family: Family, own: u32) -> Option<SocketAddr> {
    let address: IpAddr = match family {
        Family::V4 => NOBODY_V4.into(),
        Family::V6 => NOBODY_V6.into(),
    };
    let holds = |ranges: &[IpNet]| ranges.iter().any(|range| range.contains(&address));
    let included = &options.include_outbound_cidrs;
    let redirected = (included.is_empty() || holds(included))
        && !holds(&options.exclude_outbound_cidrs)
        && !options.direct_uids().contains(&own);
    let port = (80..u16::MAX).find(|port| !options.exclude_outbound_ports.contains(port))?;
    redirected.then(|| SocketAddr::new(address, port))
}

/// Whether the kernel would know where to send it; nothing is sent.
fn has_route(target: &SocketAddr) -> bool {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((any, 0)).is_ok_and(|socket| socket.connect(target).is_ok())
}

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

/// Whether a connection to `target` arrives at `port`, where nobody listens yet. If somebody does, it
/// is the sidecar, and that it answers for `target` is as good.
async fn arrives(port: SocketAddr, target: SocketAddr) -> bool {
    let listener = TcpListener::bind(port).await;
    let Ok(Ok(sent)) = timeout(PATIENCE, TcpStream::connect(target)).await else { return false };
    match listener {
        Ok(listener) => {
            let Ok(Ok((_, from))) = timeout(PATIENCE, listener.accept()).await else {
                return false;
            };
            sent.local_addr().is_ok_and(|own| own == from)
        }
        Err(error) => error.kind() == io::ErrorKind::AddrInUse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_alone_proves_nothing() {
        for (flags, v4, v6) in [
            ("", Some("192.0.2.1:80"), Some("[2001:db8::1]:80")),
            ("--exclude-outbound-ports 80,81,53", Some("192.0.2.1:82"), Some("[2001:db8::1]:82")),
            ("--exclude-outbound-cidrs 0.0.0.0/0", None, Some("[2001:db8::1]:80")),
            ("--include-outbound-cidrs 10.0.0.0/8", None, None),
            ("--include-outbound-cidrs 192.0.0.0/8", Some("192.0.2.1:80"), None),
            ("--exclude-uids 5052", None, None),
            ("--proxy-uid 5052", None, None),
        ] {
            let options = Options::parse(flags).unwrap();
            let found = |family| target(&options, family, 5052).map(|t| t.to_string());
            assert_eq!(found(Family::V4).as_deref(), v4, "{flags}");
            assert_eq!(found(Family::V6).as_deref(), v6, "{flags}");
        }
    }

    #[tokio::test]
    async fn nothing_is_redirected_here() {
        assert!(!is_redirected(&Options::parse("").unwrap()).await);
        // What arrives elsewhere is no proof.
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(!arrives(free, other.local_addr().unwrap()).await);
        assert!(arrives(free, free).await);
    }
}
