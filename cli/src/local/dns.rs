//! Cluster DNS: names of Services, of their endpoints and of their ports.
//!
//! Follows the Kubernetes DNS specification 1.1. Only names of the cluster exist; the mesh has no way
//! out, so everything else is `NXDOMAIN` at once instead of a timeout.

mod zone;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_proto::op::Message;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Semaphore, watch},
};

pub(super) use self::zone::Zone;
use super::controllers::services::Family;

/// Address of cluster DNS, by convention the tenth of the service range.
pub(super) fn address(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 96, 0, 10).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 10).into(),
    }
}

/// Answers are valid for this many seconds: short, since pods come and go.
const TTL: u32 = 5;

/// Serves the newest zone on this address, over UDP and TCP, until dropped.
///
/// # Errors
/// The address cannot be bound.
pub(super) async fn serve(address: SocketAddr, zone: watch::Receiver<Arc<Zone>>) -> io::Result<()> {
    let udp = UdpSocket::bind(address).await?;
    let tcp = TcpListener::bind(address).await?;
    let streams = Arc::new(Semaphore::new(MAX_STREAMS));
    let mut buffer = vec![0; usize::from(MAX_UDP)];
    loop {
        tokio::select! {
            received = udp.recv_from(&mut buffer) => {
                let Ok((length, from)) = received else { continue };
                let request = buffer.get(..length).and_then(|b| Message::from_vec(b).ok());
                let Some(request) = request else { continue };
                let limit = usize::from(request.max_payload().clamp(512, MAX_UDP));
                let zone = Arc::clone(&zone.borrow());
                if let Ok(bytes) = zone.answer(&request, limit).to_vec()
                    && let Err(error) = udp.send_to(&bytes, from).await
                {
                    tracing::debug!(%from, %error, "DNS answer was not sent");
                }
            }
            accepted = tcp.accept() => {
                let (Ok((stream, _)), Ok(permit)) = (accepted, Arc::clone(&streams).try_acquire_owned())
                else { continue };
                let zone = zone.clone();
                tokio::spawn(async move {
                    let served = tokio::time::timeout(STREAM_TIME, serve_stream(stream, zone)).await;
                    tracing::debug!(?served, "DNS over TCP ended");
                    drop(permit);
                });
            }
        }
    }
}

const MAX_UDP: u16 = 1232; // what fits through any network (DNS flag day 2020)
const MAX_STREAMS: usize = 64;
const STREAM_TIME: Duration = Duration::from_secs(10);

/// RFC 1035, 4.2.2: messages with a length of two bytes in front.
async fn serve_stream(mut stream: TcpStream, zone: watch::Receiver<Arc<Zone>>) -> io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut bytes = vec![0; usize::from(length)];
        stream.read_exact(&mut bytes).await?;
        let request = Message::from_vec(&bytes).map_err(io::Error::other)?;
        let zone = Arc::clone(&zone.borrow());
        let answer = zone.answer(&request, 0).to_vec().map_err(io::Error::other)?;
        stream.write_u16(u16::try_from(answer.len()).map_err(io::Error::other)?).await?;
        stream.write_all(&answer).await?;
    }
}
