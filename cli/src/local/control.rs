//! The control socket: one JSON document a line, both ways.
//!
//! ```text
//! {"command":"status"}  → the overview, once
//! {"command":"watch"}   → the overview, and again after each change
//! {"command":"down"}    → the overview after each change, until the mesh has ended
//! {"command":"connect","to":"10.96.0.7:80"}
//!                       → null or what went wrong, once; then what both ends say, as it is
//! ```

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpStream, UnixListener, UnixStream},
    sync::{mpsc, watch},
    time::timeout,
};

use super::overview::Overview;

/// What is asked.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub(super) enum Request {
    /// The overview, once.
    Status,
    /// The overview, and again after each change.
    Watch,
    /// End the mesh.
    Down,
    /// A connection from the mesh's bridge to one of its addresses.
    Connect {
        /// The address.
        to: SocketAddr,
    },
}

/// What the runtime has to do about it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Command {
    /// End everything.
    Down,
}

/// How long a connection inside the mesh may take to be there.
const DIAL: Duration = Duration::from_secs(10);

/// Requests are short.
const MAX_REQUEST: u64 = 4096;

/// Answers on `path` until the runtime ends. Only root may connect.
///
/// # Errors
/// The socket cannot be made.
pub(super) fn serve(
    path: &Path,
    overview: watch::Receiver<Arc<Overview>>,
    commands: mpsc::Sender<Command>,
) -> io::Result<()> {
    // Who waits for the socket finds one that answers: between bind(2) and listen(2) it would refuse.
    let new = path.with_extension("new");
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    std::fs::rename(new, path)?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            let (overview, commands) = (overview.clone(), commands.clone());
            tokio::spawn(async move {
                if let Err(error) = answer(stream, overview, commands).await {
                    tracing::debug!(%error, "command connection");
                }
            });
        }
    });
    Ok(())
}

async fn answer(
    mut stream: UnixStream,
    mut overview: watch::Receiver<Arc<Overview>>,
    commands: mpsc::Sender<Command>,
) -> io::Result<()> {
    let mut line = String::new();
    // Nobody sends more before there is an answer.
    BufReader::new((&mut stream).take(MAX_REQUEST)).read_line(&mut line).await?;
    let request: Request = serde_json::from_str(&line)?;
    if let Request::Connect { to } = request {
        return lead(stream, to).await;
    }
    if matches!(request, Request::Down) {
        commands.send(Command::Down).await.map_err(io::Error::other)?;
    }
    loop {
        let now = Arc::clone(&overview.borrow_and_update());
        let mut text = serde_json::to_vec(&*now)?;
        text.push(b'\n');
        stream.write_all(&text).await?;
        if matches!(request, Request::Status) || overview.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// Connects the caller to an address of the mesh, until both have ended.
async fn lead(mut stream: UnixStream, to: SocketAddr) -> io::Result<()> {
    let late = |_elapsed| Err(io::Error::other(format!("no answer in {DIAL:?}")));
    let dialled = timeout(DIAL, TcpStream::connect(to)).await.unwrap_or_else(late);
    let wrong = dialled.as_ref().err().map(ToString::to_string);
    let mut text = serde_json::to_vec(&wrong)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    if let Ok(mut inside) = dialled {
        tokio::io::copy_bidirectional(&mut stream, &mut inside).await?;
    }
    Ok(())
}

/// A connection to an address of the mesh, by its runtime.
///
/// # Errors
/// There is no mesh, or nothing at that address.
pub(super) async fn connect(path: &Path, to: SocketAddr) -> io::Result<UnixStream> {
    let mut stream = ask(path, Request::Connect { to }).await?;
    let mut line = Vec::new();
    // Byte by byte: what follows is not ours.
    while line.last() != Some(&b'\n') {
        line.push(stream.read_u8().await?);
    }
    match serde_json::from_slice::<Option<String>>(&line)? {
        None => Ok(stream),
        Some(wrong) => Err(io::Error::other(wrong)),
    }
}

async fn ask(path: &Path, request: Request) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(path).await?;
    let mut text = serde_json::to_vec(&request)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    Ok(stream)
}

/// The other end.
#[derive(Debug)]
pub(super) struct Client {
    lines: tokio::io::Lines<BufReader<UnixStream>>,
}

impl Client {
    /// Connects and asks.
    ///
    /// # Errors
    /// Nobody listens.
    pub(super) async fn ask(path: &Path, request: Request) -> io::Result<Self> {
        Ok(Self { lines: BufReader::new(ask(path, request).await?).lines() })
    }

    /// The next answer; none when the runtime has ended. Cancel safe.
    ///
    /// # Errors
    /// The connection broke, or speaks something else.
    pub(super) async fn next(&mut self) -> io::Result<Option<Overview>> {
        let Some(line) = self.lines.next_line().await? else {
            return Ok(None);
        };
        Ok(Some(serde_json::from_str(&line)?))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_leads_through_the_socket_and_ends_at_both_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let (_overview, changes) = watch::channel(Arc::default());
        serve(&path, changes, mpsc::channel(1).0).unwrap();
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let mut client = connect(&path, address).await.unwrap();
        let (mut inside, _) = server.accept().await.unwrap();
        // Whoever speaks first is heard, and an end of one direction leaves the other.
        inside.write_all(b"220 hello\n").await.unwrap();
        let mut heard = [0; 10];
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"220 hello\n");
        client.write_all(b"QUIT").await.unwrap();
        client.shutdown().await.unwrap();
        let mut all = String::new();
        inside.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "QUIT");
        inside.write_all(b"221 bye").await.unwrap();
        drop(inside);
        all.clear();
        client.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "221 bye");

        drop(server);
        let refused = connect(&path, address).await.unwrap_err().to_string();
        assert!(refused.contains("refused"), "{refused}");
    }
}
