use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::UdpSocket,
    time::{sleep, timeout},
};

use super::{Dns, loopback, message::Question};

/// Longest datagram that is taken: as much as anybody announces with EDNS.
const LONGEST: usize = 4096;

/// How long a resolver may take. Clients give up, and ask again, after five seconds by default.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause after an error that does not go away by itself.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers datagrams; those that are not for us go to `resolver`.
pub(super) async fn serve(dns: Dns, socket: UdpSocket, resolver: SocketAddr) {
    let socket = Arc::new(socket);
    let mut buffer = vec![0; LONGEST + 1];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(%error, "cannot receive questions for names");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Some(bytes) = buffer.get(..length).filter(|_| length <= LONGEST) else {
            continue;
        };
        let Some(place) = dns.admit(from.ip()) else {
            continue;
        };
        let (dns, socket, bytes) = (dns.clone(), Arc::clone(&socket), bytes.to_vec());
        tokio::spawn(async move {
            let Some(answer) = answer(&dns, &bytes, resolver).await else {
                return;
            };
            if let Err(error) = socket.send_to(&answer, from).await {
                tracing::debug!(%from, %error, "an answer was not sent");
            }
            drop(place);
        });
    }
}

async fn answer(dns: &Dns, bytes: &[u8], resolver: SocketAddr) -> Option<Vec<u8>> {
    let limit = Question::read(bytes).map_or(0, |question| question.datagram());
    if let Some(answer) = dns.answer(bytes, limit).await {
        dns.metrics.answered("mesh");
        return Some(answer);
    }
    let asked = timeout(PATIENCE, ask(bytes, resolver)).await;
    let failed = |error: &dyn std::fmt::Display| {
        dns.metrics.answered("nobody");
        // As if the resolver had been asked directly: the client hears nothing, and asks again.
        tracing::debug!(%resolver, %error, "no answer to a question for a name");
    };
    match asked {
        Ok(Ok(answer)) => {
            dns.metrics.answered("resolver");
            return Some(answer);
        }
        Ok(Err(error)) => failed(&error),
        Err(elapsed) => failed(&elapsed),
    }
    None
}

/// Asks from a port of its own, which is harder to guess than a number.
async fn ask(bytes: &[u8], resolver: SocketAddr) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match loopback(resolver.ip()).is_ipv4() {
        true => ([0, 0, 0, 0], 0).into(),
        false => ([0u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(resolver).await?;
    socket.send(bytes).await?;
    let mut answer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut answer).await?;
        // To this question, and not to another one of whoever had the port before.
        if length >= 12 && answer.get(..2) == bytes.get(..2) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}
