//! The end of a version that was rolled back.
//!
//! As soon as a cluster is retired, its connections for HTTP carry nothing new, and idle ones close.
//! What still runs then has a while to end by itself; after that its connection is ended, and every
//! request on it learns why. Connections wait for that, not requests, which so cost nothing more.

use std::{
    future::{Future, pending},
    mem,
    time::Duration,
};

use tokio::{sync::watch, time::sleep};

use crate::error::{Error, Reason};

/// How long what still runs may take. With the second or two in which it is told everywhere, a
/// version that was rolled back has nothing to do after ten.
pub const GRACE: Duration = Duration::from_secs(8);

/// For logs, and for clients of gRPC.
pub const WHY: &str = "the version that this was sent to was rolled back";

/// Whether a cluster is retired.
#[derive(Debug)]
pub struct Retirement(watch::Sender<bool>);

/// Sees a cluster being retired, also after the cluster itself is gone.
#[derive(Debug, Clone)]
pub struct Watch(watch::Receiver<bool>);

/// What ends by it.
pub fn error() -> Error {
    Error::new(Reason::Retired, WHY)
}

impl Retirement {
    /// Begun or not.
    pub fn new(begun: bool) -> Self {
        Self(watch::Sender::new(begun))
    }

    /// Begins it, or takes it back.
    pub fn set(&self, begun: bool) {
        self.0.send_if_modified(|now| mem::replace(now, begun) != begun);
    }

    /// Follows it.
    pub fn watch(&self) -> Watch {
        Watch(self.0.subscribe())
    }
}

impl Watch {
    /// Resolves when something opaque must end, with the reason. Cancel safe.
    pub async fn ended(mut self, within: Duration) -> Error {
        self.over(within, || {}).await;
        error()
    }

    /// Resolves once it was begun and not taken back for so long. `at_once` is done whenever it begins
    /// after this call. Cancelling begins the time anew.
    pub(super) async fn over(&mut self, within: Duration, at_once: impl Fn()) {
        let mut before = *self.0.borrow();
        loop {
            self.becomes(true).await;
            if !mem::take(&mut before) {
                at_once();
            }
            tokio::select! {
                biased;
                () = self.becomes(false) => {}
                () = sleep(within) => return,
            }
        }
    }

    /// Never resolves if the cluster went before; what it was last holds.
    fn becomes(&mut self, begun: bool) -> impl Future<Output = ()> + Send {
        let watch = &mut self.0;
        async move {
            if watch.wait_for(|now| *now == begun).await.is_err() {
                pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::{Instant, timeout};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn it_ends_after_the_grace_also_when_the_cluster_is_gone() {
        let retirement = Retirement::new(false);
        let waiting = tokio::spawn(retirement.watch().ended(GRACE));
        sleep(SECOND).await;
        retirement.set(true);
        let begun = Instant::now();
        sleep(SECOND).await;
        drop(retirement);
        assert_eq!(waiting.await.unwrap().reason(), Reason::Retired);
        assert_eq!(begun.elapsed(), GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn taken_back_in_time_it_ends_nothing_and_its_time_begins_anew() {
        let retirement = Retirement::new(false);
        let waiting = tokio::spawn(retirement.watch().ended(GRACE));
        for _ in 0..2 {
            retirement.set(true);
            sleep(GRACE - SECOND).await;
            assert!(!waiting.is_finished());
            retirement.set(false);
            sleep(GRACE).await;
            assert!(!waiting.is_finished());
        }
        drop(retirement);
        timeout(10 * GRACE, waiting).await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_later_is_let_go_by_nobody_and_has_the_same_time() {
        let retirement = Retirement::new(true);
        let (begun, told) = (Instant::now(), Cell::new(0));
        retirement.watch().over(GRACE, || told.set(told.get() + 1)).await;
        assert_eq!((begun.elapsed(), told.get()), (GRACE, 0));
        let mut watch = retirement.watch();
        let over = watch.over(GRACE, || told.set(told.get() + 1));
        let again = async {
            for begun in [false, true] {
                sleep(SECOND).await;
                retirement.set(begun);
            }
        };
        tokio::join!(over, again);
        assert_eq!(told.get(), 1);
    }
}
