//! Where was a captured connection going?
//!
//! The kernel redirects connections to the proxy and remembers where they were going
//! (`SO_ORIGINAL_DST`). IPv4-mapped addresses of dual-stack listeners become plain IPv4 here and
//! nowhere else.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use socket2::SockRef;
use tokio::net::TcpStream;

/// How the original destination of an accepted connection is found.
#[derive(Clone)]
pub struct Capture(Arc<Find>);

type Find = dyn Fn(&TcpStream) -> io::Result<SocketAddr> + Send + Sync;

impl Capture {
    /// Another way than the kernel's.
    pub fn new(
        find: impl Fn(&TcpStream) -> io::Result<SocketAddr> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(find))
    }

    /// The kernel's: `SO_ORIGINAL_DST`.
    pub fn original_destination() -> Self {
        Self::new(original_destination)
    }

    /// Where `stream` was going.
    ///
    /// # Errors
    /// The kernel's error; [`io::ErrorKind::InvalidInput`] for a connection that was made to the
    /// proxy's own port, which would lead the proxy back to itself.
    pub fn find(&self, stream: &TcpStream) -> io::Result<SocketAddr> {
        let found = canonical((self.0)(stream)?);
        if found == canonical(stream.local_addr()?) {
            return Err(direct_hit());
        }
        Ok(found)
    }
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Capture")
    }
}

/// `address` with an IPv4-mapped IPv6 address as IPv4, and without scope or flow.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn original_destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    let local = stream.local_addr()?;
    let found = match local.ip().to_canonical() {
        // Also on an IPv6 socket: conntrack keeps a mapped connection as IPv4.
        IpAddr::V4(_) => socket.original_dst_v4(),
        IpAddr::V6(_) => socket.original_dst_v6(),
    };
    let address = found.map_err(|error| match error.kind() {
        // ENOENT: conntrack has no translation for it, so nobody redirected it.
        io::ErrorKind::NotFound => direct_hit(),
        _ => error,
    })?;
    address.as_socket().ok_or_else(direct_hit)
}

fn direct_hit() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "the connection was made to the proxy's own port and not redirected to it",
    )
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn mapped_addresses_become_ipv4() {
        let mapped: SocketAddr = "[::ffff:10.96.0.7]:9080".parse().unwrap();
        assert_eq!(canonical(mapped), "10.96.0.7:9080".parse().unwrap());
        let v6: SocketAddr = "[fd00::7]:9080".parse().unwrap();
        assert_eq!(canonical(v6), v6);
    }

    #[tokio::test]
    async fn a_direct_hit_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let kernel = Capture::original_destination().find(&stream);
        assert!(kernel.is_err());
        let own = Capture::new(|stream| stream.local_addr()).find(&stream).unwrap_err();
        assert_eq!(own.kind(), io::ErrorKind::InvalidInput);
    }
}
