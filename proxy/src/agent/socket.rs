//! A Unix socket that only its owner may use.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{Stream, stream};
use rustix::process::geteuid;
use tokio::{
    net::{UnixListener, UnixStream},
    time::sleep,
};
use tulle_runtime::socket::bind_private;

/// Long enough for a file descriptor to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that listens, for this process's user and root.
#[derive(Debug)]
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens, in place of a socket that an earlier process left behind.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        Ok(Self { listener: bind_private(path)?, path: path.to_owned() })
    }

    /// The next connection of somebody who may.
    pub(super) async fn accept(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) if self.admits(&stream) => return stream,
                Ok(_refused) => {}
                Err(error) => {
                    tracing::warn!(%error, socket = %self.path.display(), "cannot accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Connections, one after the other, without end.
    pub(super) fn connections(self) -> impl Stream<Item = io::Result<UnixStream>> {
        stream::unfold(self, |socket| async move { Some((Ok(socket.accept().await), socket)) })
    }

    /// Between the socket's birth and its mode anybody could connect: the kernel says who did.
    fn admits(&self, stream: &UnixStream) -> bool {
        let uid = stream.peer_cred().map(|peer| peer.uid());
        let admitted = matches!(uid, Ok(uid) if uid == 0 || uid == geteuid().as_raw());
        if !admitted {
            tracing::warn!(?uid, socket = %self.path.display(), "refused a caller of another user");
        }
        admitted
    }
}
