//! Ends what comes to the application through the Envoy beside us, before anybody is told to end.
//!
//! ```text
//!  preStop: `tulle-proxy drain`, or the application's hook ──► Envoy: every answer says "close", GOAWAY
//!        ◄── when callers have had time to go elsewhere and no request is open
//! ```
//!
//! Envoy goes on serving meanwhile: whoever has not heard yet loses nothing.

use std::{path::PathBuf, time::Duration};

use http::Method;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use tulle_runtime::http::ask;

/// Time in which callers without sidecars, too, are told of another endpoint.
const LEAST: Duration = Duration::from_secs(3);
/// How long open requests are waited for, if the pod says nothing; then Envoy's own end is up to SIGTERM.
const MOST: Duration = Duration::from_secs(25);
const POLL: Duration = Duration::from_millis(100);
/// Requests that came from others and are open; Envoy answers `NAME: COUNT`.
const OPEN: &str = "/stats?filter=%5Ehttp%5C.inbound%5C.downstream_rq_active%24";

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Serving,
    Draining,
    Drained,
}

/// The draining of one Envoy. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Draining {
    /// Envoy's admin socket.
    envoy: PathBuf,
    most: Duration,
    state: watch::Sender<State>,
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Drained => "drained",
        }
    }
}

impl Draining {
    pub(super) fn new(envoy: PathBuf, most: Option<Duration>) -> Self {
        Self { envoy, most: most.unwrap_or(MOST), state: watch::Sender::new(State::Serving) }
    }

    pub(super) fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Begins, unless it has begun.
    pub(super) fn start(&self) {
        let begins = self.state.send_if_modified(|state| {
            let begins = *state == State::Serving;
            *state = (*state).max(State::Draining);
            begins
        });
        if begins {
            let this = self.clone();
            tokio::spawn(async move {
                this.drain().await;
                this.state.send_replace(State::Drained);
            });
        }
    }

    /// Until it is over.
    pub(super) async fn finished(&self) {
        // It cannot be gone: we hold it.
        let _there =
            self.state.subscribe().wait_for(|state| *state == State::Drained).await.is_ok();
    }

    async fn drain(&self) {
        let started = Instant::now();
        tracing::info!("Envoy is drained");
        match ask(&self.envoy, Method::POST, "/healthcheck/fail").await {
            Ok((status, _)) if status.is_success() => {}
            Ok((status, _)) => tracing::error!(%status, "Envoy does not drain"),
            Err(error) => tracing::error!(%error, "Envoy cannot be asked to drain"),
        }
        loop {
            let elapsed = started.elapsed();
            if elapsed >= self.most || elapsed >= LEAST && !self.is_busy().await {
                return;
            }
            sleep(POLL).await;
        }
    }

    /// Whether a request is open. An Envoy that is gone has none.
    async fn is_busy(&self) -> bool {
        let Ok((_, body)) = ask(&self.envoy, Method::GET, OPEN).await else {
            return false;
        };
        let text = String::from_utf8_lossy(&body);
        let counts = text.lines().filter_map(|line| line.rsplit_once(": "));
        counts.filter_map(|(_, count)| count.trim().parse::<u64>().ok()).any(|count| count > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use http::{Request, Response};
    use http_body_util::Full;
    use hyper::{body::Incoming, server::conn::http1, service::service_fn};
    use hyper_util::rt::TokioIo;
    use parking_lot::Mutex;
    use tokio::net::UnixListener;

    use super::*;

    /// Has requests open for the first so many questions.
    fn envoy(listener: UnixListener, busy: usize) -> Arc<Mutex<Vec<String>>> {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (seen, left) = (Arc::clone(&asked), Arc::new(AtomicUsize::new(busy)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, left) = (Arc::clone(&seen), Arc::clone(&left));
                let answer = service_fn(move |request: Request<Incoming>| {
                    let stats = request.uri().path() == "/stats";
                    seen.lock().push(format!("{} {}", request.method(), request.uri().path()));
                    let count = left.load(Ordering::Relaxed);
                    left.store(count.saturating_sub(usize::from(stats)), Ordering::Relaxed);
                    let text = format!("http.inbound.downstream_rq_active: {count}\n");
                    std::future::ready(Ok::<_, Infallible>(Response::new(
                        Full::<bytes::Bytes>::from(text),
                    )))
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        asked
    }

    #[tokio::test(start_paused = true)]
    async fn envoy_is_asked_once_and_waited_for_until_nothing_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("envoy.sock");
        let asked = envoy(UnixListener::bind(&path).unwrap(), 3);
        let draining = Draining::new(path, None);
        assert_eq!(draining.state(), State::Serving);
        let started = Instant::now();
        draining.start();
        draining.start();
        assert_eq!(draining.state(), State::Draining);
        draining.finished().await;
        assert_eq!(draining.state().as_str(), "drained");
        assert!(started.elapsed() >= LEAST && started.elapsed() < MOST, "{:?}", started.elapsed());
        let asked = asked.lock().clone();
        let told = asked.iter().filter(|asked| *asked == "POST /healthcheck/fail").count();
        assert_eq!((told, asked.len()), (1, 5), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_is_waited_for_as_long_as_the_pod_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("envoy.sock");
        let _asked = envoy(UnixListener::bind(&path).unwrap(), usize::MAX);
        for (said, expected) in
            [(None, MOST), (Some(40), Duration::from_secs(40)), (Some(1), Duration::from_secs(1))]
        {
            let draining = Draining::new(path.clone(), said.map(Duration::from_secs));
            let started = Instant::now();
            draining.start();
            draining.finished().await;
            let took = started.elapsed();
            assert!((expected..expected + POLL * 2).contains(&took), "{said:?}: {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_envoy_that_is_gone_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let draining = Draining::new(folder.path().join("nobody"), None);
        let started = Instant::now();
        draining.start();
        draining.finished().await;
        assert!(started.elapsed() < LEAST + POLL * 2);
    }
}
