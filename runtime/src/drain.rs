//! Ending step by step, by counting drops: whoever has work in flight holds a [`Drain`]; the process
//! has drained when the last one is gone.

use tokio::sync::{mpsc, watch};

/// How far the end has come; it only ever goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Stage {
    /// Not begun.
    #[default]
    Serving,
    /// Everything is served, and peers are told to go elsewhere with what comes next.
    Announcing,
    /// What can be tried elsewhere is refused from now on.
    Refusing,
    /// Nothing new is taken; what is in flight ends.
    Closing,
}

/// Makes the two ends.
pub fn channel() -> (Trigger, Drain) {
    let (stage, watch) = watch::channel(Stage::Serving);
    let (alive, last) = mpsc::channel(1);
    (Trigger { stage, last }, Drain { watch, _alive: alive })
}

/// Starts the drain and waits for its end.
#[derive(Debug)]
pub struct Trigger {
    stage: watch::Sender<Stage>,
    last: mpsc::Receiver<Never>,
}

/// Held by whoever has work in flight, one clone for each piece.
#[derive(Debug, Clone)]
pub struct Drain {
    watch: watch::Receiver<Stage>,
    _alive: mpsc::Sender<Never>,
}

#[derive(Debug)]
enum Never {}

impl Trigger {
    /// Asks everybody to finish what is in flight and to take nothing new.
    pub fn start(&self) {
        self.advance(Stage::Closing);
    }

    /// Goes on to `stage`; does nothing if that is past.
    pub fn advance(&self, stage: Stage) {
        self.stage.send_if_modified(|now| {
            let further = *now < stage;
            *now = stage.max(*now);
            further
        });
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
    /// Resolves once nothing new is to be taken, or when the [`Trigger`] is gone. Cancel safe.
    pub async fn started(&self) {
        self.reached(Stage::Closing).await;
    }

    /// Resolves as [`started`](Self::started) does, for whoever is told of the end and has nothing in flight that it
    /// should wait for.
    pub fn told(&self) -> impl Future<Output = ()> + Send + use<> {
        at(self.watch.clone(), Stage::Closing)
    }

    /// Resolves once it has come to `stage`, or when the [`Trigger`] is gone. Cancel safe.
    pub async fn reached(&self, stage: Stage) {
        at(self.watch.clone(), stage).await;
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        *self.watch.borrow()
    }

    /// Whether nothing new is to be taken.
    pub fn is_started(&self) -> bool {
        self.stage() == Stage::Closing
    }
}

async fn at(mut watch: watch::Receiver<Stage>, stage: Stage) {
    // An error means that the trigger is gone: nobody could start a drain any more.
    let _gone = watch.wait_for(|now| *now >= stage).await.is_err();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_only_told_holds_nothing_up() {
        let (mut trigger, drain) = channel();
        let told = drain.told();
        drop(drain);
        trigger.start();
        trigger.finished().await;
        told.await;
    }

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

    #[tokio::test]
    async fn goes_forward_only() {
        let (trigger, drain) = channel();
        trigger.advance(Stage::Refusing);
        trigger.advance(Stage::Announcing);
        assert_eq!(drain.stage(), Stage::Refusing);
        drain.reached(Stage::Announcing).await;
        assert!(!drain.is_started());
        trigger.start();
        drain.started().await;
        assert_eq!(drain.stage(), Stage::Closing);
    }

    async fn futures_pending(trigger: &mut Trigger) -> bool {
        tokio::select! {
            biased;
            () = trigger.finished() => false,
            () = tokio::task::yield_now() => true,
        }
    }
}
