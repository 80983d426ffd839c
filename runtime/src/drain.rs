//! Ending by counting drops: whoever has work in flight holds a [`Drain`]; the process has drained
//! when the last one is gone.

use tokio::sync::{mpsc, watch};

/// Makes the two ends.
pub fn channel() -> (Trigger, Drain) {
    let (started, watch) = watch::channel(false);
    let (alive, last) = mpsc::channel(1);
    (Trigger { started, last }, Drain { watch, _alive: alive })
}

/// Starts the drain and waits for its end.
#[derive(Debug)]
pub struct Trigger {
    started: watch::Sender<bool>,
    last: mpsc::Receiver<Never>,
}

/// Held by whoever has work in flight, one clone for each piece.
#[derive(Debug, Clone)]
pub struct Drain {
    watch: watch::Receiver<bool>,
    _alive: mpsc::Sender<Never>,
}

#[derive(Debug)]
enum Never {}

impl Trigger {
    /// Asks everybody to finish what is in flight and to take nothing new.
    pub fn start(&self) {
        self.started.send_replace(true);
    }

    /// Resolves when every [`Drain`] is dropped. Cancel safe.
    pub async fn finished(&mut self) {
        match self.last.recv().await {
            None => {}
            Some(never) => match never {},
        }
    }
}

impl Drain {
    /// Resolves once the drain has started, or when its [`Trigger`] is gone. Cancel safe.
    pub async fn started(&self) {
        // An error means that the trigger is gone: nobody could start a drain any more.
        let _gone = self.watch.clone().wait_for(|started| *started).await.is_err();
    }

    /// Whether the drain has started.
    pub fn is_started(&self) -> bool {
        *self.watch.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finishes_when_the_last_watcher_is_dropped() {
        let (mut trigger, drain) = channel();
        let worker = tokio::spawn({
            let drain = drain.clone();
            async move { drain.started().await }
        });
        assert!(!drain.is_started());
        trigger.start();
        worker.await.unwrap();
        assert!(drain.is_started());
        assert!(futures_pending(&mut trigger).await, "one watcher is left");
        drop(drain);
        trigger.finished().await;
    }

    async fn futures_pending(trigger: &mut Trigger) -> bool {
        tokio::select! {
            biased;
            () = trigger.finished() => false,
            () = tokio::task::yield_now() => true,
        }
    }
}
