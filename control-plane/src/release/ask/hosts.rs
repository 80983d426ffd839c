//! Whom a release may ask: the hosts that the installation allows, and of these none that is the machine itself, or gives out
//! credentials to whoever is on it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A host that may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHost {
    /// In lower case; an IPv6 address in its brackets.
    name: String,
    /// Whether all names below that one are meant, and it is not.
    below: bool,
    /// `None`: the one of the scheme, 80 or 443.
    port: Option<u16>,
}

/// Why this is no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?}: write a host, `*.` and a suffix, or an address, with a port unless that is 80 or 443: gate.example.com, \
     *.shop.svc.cluster.local:8080"
)]
pub struct NoHost(String);

/// Where clouds give credentials to whoever asks, besides link-local addresses: Alibaba's, Azure's and Oracle's.
const METADATA: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];
/// The same of Amazon, fd00:ec2::254, and Google, fd20:ce::254: the first two groups.
const METADATA_V6: [(u16, u16); 2] = [(0xfd00, 0xec2), (0xfd20, 0xce)];

impl FromStr for AllowedHost {
    type Err = NoHost;

    fn from_str(text: &str) -> Result<Self, NoHost> {
        let wrong = || NoHost(text.to_owned());
        let (below, rest) = match text.strip_prefix("*.") {
            Some(suffix) => (true, suffix),
            None => (false, text),
        };
        let (name, port) = match rest.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => {
                let port = port.parse().ok().filter(|port| *port > 0);
                (name, Some(port.ok_or_else(wrong)?))
            }
            _ => (rest, None),
        };
        let name = name.to_ascii_lowercase();
        let address = address(&name);
        let label = |label: &str| {
            let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            (1..=63).contains(&label.len()) && label.bytes().all(good)
        };
        let good = match address {
            Some(IpAddr::V6(_)) => name.starts_with('[') && !below,
            Some(IpAddr::V4(_)) => !below,
            None => name.split('.').all(label),
        };
        if good { Ok(Self { name, below, port }) } else { Err(wrong()) }
    }
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.name)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl AllowedHost {
    /// Whether it is this one, as an address has it; `own`: the scheme's own port.
    pub(super) fn is(&self, host: &str, port: u16, own: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let same = match self.below {
            true => host.strip_suffix(&self.name).is_some_and(|rest| rest.ends_with('.')),
            false => {
                host == self.name
                    || address(&host).is_some_and(|it| Some(it) == address(&self.name))
            }
        };
        same && port == self.port.unwrap_or(own)
    }
}

/// The address that a host is, if it is one.
pub(super) fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether nobody may be asked there, and why. The machine itself may be, if the installation says so by name.
pub(super) fn forbidden(host: &str, address: IpAddr) -> Option<&'static str> {
    let itself = host.eq_ignore_ascii_case("localhost") || self::address(host) == Some(address);
    match address {
        IpAddr::V4(address) => forbidden_v4(address, itself),
        IpAddr::V6(address) => match within(address) {
            Some(address) => forbidden_v4(address, itself),
            None => forbidden_v6(address, itself),
        },
    }
}

fn forbidden_v4(address: Ipv4Addr, itself: bool) -> Option<&'static str> {
    match address {
        _ if address.is_link_local() => Some("link-local"),
        _ if METADATA.contains(&address) => Some("a cloud's own"),
        _ if address.is_loopback() && !itself => Some("this machine"),
        _ if address.octets()[0] == 0 => Some("nobody's"),
        _ if address.is_multicast() || address.is_broadcast() => Some("more than one host's"),
        _ => None,
    }
}

fn forbidden_v6(address: Ipv6Addr, itself: bool) -> Option<&'static str> {
    let [first, second, ..] = address.segments();
    match address {
        _ if address.is_unicast_link_local() => Some("link-local"),
        _ if METADATA_V6.contains(&(first, second)) => Some("a cloud's own"),
        _ if address.is_loopback() && !itself => Some("this machine"),
        _ if address.is_unspecified() => Some("nobody's"),
        _ if address.is_multicast() => Some("more than one host's"),
        _ => None,
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped (RFC 4291), translated (RFC 6052), 6to4 (RFC 3056).
fn within(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(of(high, low))
        }
        // Compatible, as long ago; `::` and `::1` are none.
        [0, 0, 0, 0, 0, 0, high @ (1..), low] | [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let own = |host: &str, text: &str| text.parse::<AllowedHost>().unwrap().is(host, 443, 443);
        for (text, host, is) in [
            ("gate.example.com", "gate.example.com", true),
            ("Gate.example.com", "gATE.example.com.", true),
            ("gate.example.com", "a.gate.example.com", false),
            ("gate.example.com", "gate.example.com.evil.org", false),
            ("*.example.com", "gate.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "evilexample.com", false),
            ("gate.example.com:8443", "gate.example.com", false),
            ("gate.example.com:443", "gate.example.com", true),
            ("10.0.0.7", "10.0.0.7", true),
            ("10.0.0.7", "10.0.0.70", false),
            ("[fd00::1]", "[fd00:0::1]", true),
        ] {
            assert_eq!(own(host, text), is, "{text} {host}");
            assert_eq!(text.parse::<AllowedHost>().unwrap().to_string(), text.to_lowercase());
        }
        let port: AllowedHost = "*.shop.svc:8080".parse().unwrap();
        assert!(port.is("gate.shop.svc", 8080, 80) && !port.is("gate.shop.svc", 80, 80));
        let port: AllowedHost = "[fd00::1]:8080".parse().unwrap();
        assert!(port.is("[fd00::1]", 8080, 80) && !port.is("[fd00::1]", 80, 80));
        for wrong in [
            "",
            "*",
            "*.",
            "a..b",
            "http://a",
            "a/b",
            "a:0",
            "a:99999",
            "a:b",
            "*.10.0.0.7",
            "::1",
            "a b",
            "a*.b",
        ] {
            assert!(wrong.parse::<AllowedHost>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_at_which_nobody_is_asked() {
        for (address, why) in [
            ("169.254.169.254", Some("link-local")),
            ("::ffff:169.254.169.254", Some("link-local")),
            ("::169.254.169.254", Some("link-local")),
            ("64:ff9b::a9fe:a9fe", Some("link-local")),
            ("2002:a9fe:a9fe::1", Some("link-local")),
            ("fe80::1", Some("link-local")),
            ("febf::1", Some("link-local")),
            ("100.100.100.200", Some("a cloud's own")),
            ("168.63.129.16", Some("a cloud's own")),
            ("fd00:ec2::254", Some("a cloud's own")),
            ("fd20:ce::254", Some("a cloud's own")),
            ("127.0.0.1", Some("this machine")),
            ("127.8.8.8", Some("this machine")),
            ("::1", Some("this machine")),
            ("::ffff:127.0.0.1", Some("this machine")),
            ("0.0.0.0", Some("nobody's")),
            ("::", Some("nobody's")),
            ("255.255.255.255", Some("more than one host's")),
            ("224.0.0.1", Some("more than one host's")),
            ("ff02::1", Some("more than one host's")),
            ("10.96.0.10", None),
            ("192.0.2.7", None),
            ("fd00::1", None),
            ("2001:db8::1", None),
            ("100.100.100.201", None),
        ] {
            assert_eq!(forbidden("gate.example.com", address.parse().unwrap()), why, "{address}");
        }
        for (host, address) in [
            ("localhost", "127.0.0.1"),
            ("localhost", "::1"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "::1"),
        ] {
            assert_eq!(forbidden(host, address.parse().unwrap()), None, "{host}");
        }
        for host in ["169.254.169.254", "localhost"] {
            let why = forbidden(host, "169.254.169.254".parse().unwrap());
            assert_eq!(why, Some("link-local"), "{host}");
        }
    }
}
