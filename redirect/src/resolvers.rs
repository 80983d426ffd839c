//! Whom the pod asks for names.

use std::{fs, io, net::IpAddr, path::Path};

/// As many as the C library asks: a fourth one in `resolv.conf` is never used.
pub const MOST: usize = 3;

/// The resolvers that the application's C library asks, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolvers(Vec<IpAddr>);

impl Resolvers {
    /// Those of this pod.
    ///
    /// # Errors
    /// If `/etc/resolv.conf` cannot be read.
    pub fn of_this_pod() -> io::Result<Self> {
        Ok(Self::read(&fs::read_to_string(Path::new("/etc/resolv.conf"))?))
    }

    /// Reads the text of a `resolv.conf` (resolv.conf(5)). What is no address counts as a line, as in
    /// the C library, but is not asked.
    pub fn read(text: &str) -> Self {
        let servers = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            // A zone (`fe80::1%eth0`) is an address of this link: it is left alone.
            (words.next()? == "nameserver").then(|| words.next()?.parse().ok()).flatten()
        });
        Self(servers.take(MOST).collect())
    }

    /// These, for tests and by option.
    pub fn new(addresses: &[IpAddr]) -> Self {
        Self(addresses.iter().take(MOST).copied().collect())
    }

    /// All of them.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.0.iter().copied()
    }

    /// The port of each, from `first` on. One on loopback has none: its datagrams never leave the pod,
    /// and are not redirected.
    pub fn ports(&self, first: u16) -> impl Iterator<Item = (u16, IpAddr)> {
        let ports = (first..).zip(self.0.iter().map(IpAddr::to_canonical));
        ports.filter(|(_, address)| !address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_three_have_a_port_each() {
        let text = "# by hand\nsearch a.example\nnameserver 10.96.0.10\n nameserver  fd00::a # x\n\
                    nameserver nonsense\nnameserver\noptions ndots:5\nnameserver 127.0.0.11\n\
                    nameserver 192.0.2.1\n";
        let ports: Vec<_> = Resolvers::read(text).ports(15053).collect();
        let expected = ["10.96.0.10", "fd00::a"].map(|a| a.parse().unwrap());
        assert_eq!(ports, [(15053, expected[0]), (15054, expected[1])]);
        assert_eq!(Resolvers::read("").ports(15053).count(), 0);
        // Where ports end, so do we.
        let many = Resolvers::new(&[expected[0]; 5]);
        assert_eq!(many.ports(15053).count(), MOST);
    }
}
