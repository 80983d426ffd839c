use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use super::Dns;
use crate::net::dial::dial;

/// A client that says nothing for so long is closed (RFC 7766, 6.2.3: some seconds).
const IDLE: Duration = Duration::from_secs(10);

/// How long a resolver may take, for a connection and for each answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause after an accept failed for want of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers questions that come over TCP, one after the other; those that are not for us go to
/// `resolver`.
pub(super) async fn serve(dns: Dns, listener: TcpListener, resolver: SocketAddr) {
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept questions for names");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Some(place) = dns.admit(from.ip()) else {
            continue;
        };
        let dns = dns.clone();
        tokio::spawn(async move {
            let ended = converse(&dns, stream, resolver).await;
            tracing::debug!(?ended, "DNS over TCP ended");
            drop(place);
        });
    }
}

async fn converse(dns: &Dns, mut client: TcpStream, resolver: SocketAddr) -> io::Result<()> {
    let mut upstream: Option<TcpStream> = None;
    loop {
        let question = within(IDLE, read(&mut client)).await?;
        let answer = match dns.answer(&question, usize::from(u16::MAX)).await {
            Some(answer) => {
                dns.metrics.answered("mesh");
                answer
            }
            None => {
                let asked = ask(&mut upstream, &question, resolver).await;
                let by = if asked.is_ok() { "resolver" } else { "nobody" };
                dns.metrics.answered(by);
                asked?
            }
        };
        within(IDLE, write(&mut client, &answer)).await?;
    }
}

/// Asks on the connection of this client, which is made with the first question.
async fn ask(
    upstream: &mut Option<TcpStream>,
    question: &[u8],
    resolver: SocketAddr,
) -> io::Result<Vec<u8>> {
    let stream = match upstream {
        Some(stream) => stream,
        None => upstream.insert(dial(resolver, None, PATIENCE).await?),
    };
    within(PATIENCE, write(stream, question)).await?;
    within(PATIENCE, read(stream)).await
}

/// RFC 1035, 4.2.2: messages have their length in front, two bytes.
async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    // In one write: some servers take a lone length for the whole.
    let framed = [&length.to_be_bytes(), message].concat();
    stream.write_all(&framed).await
}

async fn within<T>(limit: Duration, io: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, io).await.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
}
