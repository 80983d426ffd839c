//! The control socket: one JSON document a line, both ways.
//!
//! ```text
//! {"command":"status"}  → the overview, once
//! {"command":"watch"}   → the overview, and again after each change
//! {"command":"down"}    → the overview after each change, until the mesh has ended
//! ```

use std::{io, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, watch},
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
}

/// What the runtime has to do about it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Command {
    /// End everything.
    Down,
}

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
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
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
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    BufReader::new(reader.take(MAX_REQUEST)).read_line(&mut line).await?;
    let request: Request = serde_json::from_str(&line)?;
    if matches!(request, Request::Down) {
        commands.send(Command::Down).await.map_err(io::Error::other)?;
    }
    loop {
        let now = Arc::clone(&overview.borrow_and_update());
        let mut text = serde_json::to_vec(&*now)?;
        text.push(b'\n');
        writer.write_all(&text).await?;
        if matches!(request, Request::Status) || overview.changed().await.is_err() {
            return Ok(());
        }
    }
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
        let mut stream = UnixStream::connect(path).await?;
        let mut text = serde_json::to_vec(&request)?;
        text.push(b'\n');
        stream.write_all(&text).await?;
        Ok(Self { lines: BufReader::new(stream).lines() })
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
