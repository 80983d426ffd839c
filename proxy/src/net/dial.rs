//! Opening a TCP connection.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::listen::keep_alive;

/// Connects to `address`, from `source` if given.
///
/// # Errors
/// The kernel's; [`io::ErrorKind::TimedOut`] if it takes longer than `within`.
pub async fn dial(
    address: SocketAddr,
    source: Option<IpAddr>,
    within: Duration,
) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    SockRef::from(&socket).set_tcp_keepalive(&keep_alive())?;
    if let Some(source) = source.filter(|source| source.is_ipv4() == address.is_ipv4()) {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let connected = timeout(within, socket.connect(address)).await;
    let stream = connected.unwrap_or_else(|_elapsed| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {within:?}")))
    })?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
