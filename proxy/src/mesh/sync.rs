use std::{collections::HashMap, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};
use tulle_runtime::ready::{Blocker, Readiness};
use tulle_xds::{
    client::{Ack, Event, Handle, Received},
    model::{Invalid, Kind, Resource},
};

use super::{
    Store,
    build::{Effect, Table},
    demand::{About, Question, Questions},
    store::Publisher,
};
use crate::telemetry::Told;

/// How often idle destinations are looked for.
const TIDY: Duration = Duration::from_secs(15);

/// The single writer of the mesh: takes what the control plane says and what connections ask for,
/// and publishes what follows.
#[derive(Debug)]
pub struct Sync {
    table: Table,
    publisher: Publisher,
    questions: Questions,
    events: mpsc::Receiver<Event>,
    handle: Handle,
    /// Who waits for which answer.
    waiting: HashMap<About, Vec<oneshot::Sender<()>>>,
    connected: bool,
    gate: Gate,
    metrics: Told,
}

/// What readiness waits for.
#[derive(Debug)]
struct Gate {
    readiness: Readiness,
    /// Until the first workload.
    workload: Option<Blocker>,
    /// While the workload says so.
    hold: Option<(Blocker, String)>,
}

impl Sync {
    /// An empty store and its writer, to be [`run`](Self::run). `readiness` waits for the first
    /// workload, and while a workload holds.
    pub fn new(
        handle: Handle,
        events: mpsc::Receiver<Event>,
        readiness: &Readiness,
        metrics: Told,
    ) -> (Store, Self) {
        let (store, publisher, questions) = Store::new();
        let gate = Gate {
            readiness: readiness.clone(),
            workload: Some(readiness.block("workload")),
            hold: None,
        };
        let sync = Self {
            table: Table::default(),
            publisher,
            questions,
            events,
            handle,
            waiting: HashMap::new(),
            connected: false,
            gate,
            metrics,
        };
        (store, sync)
    }

    /// Works until the xDS client is gone.
    pub async fn run(mut self) {
        let mut tidy = interval(TIDY);
        tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.heard(event),
                    None => return,
                },
                Some(question) = self.questions.recv() => self.asked(question),
                _ = tidy.tick() => self.tidy(),
            }
        }
    }

    fn heard(&mut self, event: Event) {
        match event {
            Event::Connected => {
                self.connected = true;
                self.metrics.connected(true);
                tracing::info!("connected to the control plane");
            }
            Event::Disconnected { error } => {
                self.connected = false;
                self.metrics.connected(false);
                if let Some(workload) = &self.gate.workload {
                    workload.because(error);
                }
            }
            Event::Update { kind, changed, removed, ack } => {
                self.updated(kind, changed, removed, ack);
            }
        }
    }

    fn updated(&mut self, kind: Kind, changed: Vec<Received>, removed: Vec<String>, ack: Ack) {
        let (good, bad) = decode(kind, &changed);
        for resource in &good {
            if let Resource::Workload(workload) = resource {
                self.gate.told(&workload.hold);
            }
        }
        if kind == Kind::Workload && !removed.is_empty() {
            self.gate.unknown();
        }
        let removed: Vec<_> = removed.into_iter().map(|name| (kind, name)).collect();
        self.table.update(good, &removed);
        self.settle();
        bad.iter().for_each(|_| self.metrics.rejected(kind));
        if bad.is_empty() {
            ack.accept();
        } else {
            ack.reject(bad);
        }
    }

    fn asked(&mut self, question: Question) {
        let Question { about, answered } = question;
        let now = self.publisher.now();
        let wanted = match &about {
            About::Address(address) => self.table.want(*address, now, self.connected),
            // Who asks for a name has others to ask, and need not wait for one who is away.
            About::Host(_) if !self.connected => return,
            About::Host(name) => self.table.want_host(name, now, self.connected),
        };
        match wanted {
            Ok(()) => self.waiting.entry(about).or_default().push(answered),
            Err(_full) => {
                tracing::warn!(?about, "too many destinations at once, refusing another one");
            }
        }
        self.settle();
    }

    fn tidy(&mut self) {
        self.waiting.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
        if self.connected {
            self.table.let_go(self.publisher.now());
            self.settle();
        }
    }

    /// Publishes what has changed, tells those who waited for it, and moves the subscriptions.
    fn settle(&mut self) {
        let effects = self.table.settle();
        if let Some(mesh) = self.table.snapshot() {
            self.metrics.generation(mesh.generation);
            self.publisher.publish(mesh);
        }
        let current = self.publisher.current();
        let is_answered = |about: &&About| match about {
            About::Address(address) => current.listeners.contains_key(address),
            About::Host(name) => current.hosts.contains_key(name),
        };
        let answered: Vec<_> = self.waiting.keys().filter(is_answered).cloned().collect();
        for waiter in answered.into_iter().filter_map(|a| self.waiting.remove(&a)).flatten() {
            // A receiver that is gone has stopped waiting.
            let _gone = waiter.send(()).is_err();
        }
        for effect in effects {
            match effect {
                Effect::Subscribe(kind, name) => self.handle.subscribe(kind, name),
                Effect::Unsubscribe(kind, name) => self.handle.unsubscribe(kind, name),
            }
        }
    }
}

impl Gate {
    /// A workload came, with this hold.
    fn told(&mut self, hold: &str) {
        if self.workload.take().is_some() {
            tracing::info!("this proxy's workload has arrived");
        }
        if self.hold.as_ref().map_or("", |(_, why)| why) == hold {
            return;
        }
        let before = self.hold.take();
        if hold.is_empty() {
            tracing::info!("this pod is held no more");
        } else {
            // The kubelet's Event of a pod that is not ready does not say why.
            tracing::info!("this pod is held, and not ready: {hold}");
            let blocker = before.map_or_else(|| self.readiness.hold("hold"), |(it, _)| it);
            blocker.because(hold);
            self.hold = Some((blocker, hold.to_owned()));
        }
    }

    /// The control plane knows no workload of this name.
    fn unknown(&self) {
        if let Some(workload) = &self.workload {
            workload.because("the control plane does not know this pod yet");
        }
        tracing::warn!("the control plane does not know this pod (any more)");
    }
}

/// What is understood, and why the rest is not.
fn decode(kind: Kind, received: &[Received]) -> (Vec<Resource>, Vec<Invalid>) {
    let (mut good, mut bad) = (Vec::with_capacity(received.len()), Vec::new());
    for resource in received {
        match Resource::decode(kind, &resource.name, &resource.bytes) {
            Ok(resource) => good.push(resource),
            Err(invalid) => {
                tracing::error!(%invalid, ?kind, "configuration rejected, the last good one stays");
                bad.push(invalid);
            }
        }
    }
    (good, bad)
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc};

    use futures_util::FutureExt as _;
    use tokio::{sync::oneshot::error::TryRecvError, time::advance};
    use tulle_runtime::metrics::Registry;
    use tulle_xds::{
        client::{Client, ClientConfig},
        protocol::Node,
    };

    use super::*;
    use crate::mesh::build::{IDLE, MAX_ADDRESSES};

    /// A writer whose control plane is what the test says.
    fn sync() -> Sync {
        let (_client, handle, _) = Client::new(ClientConfig {
            node: Node {
                id: "shop/web-0".to_owned(),
                version: String::new(),
                features: tulle_xds::model::Features::default(),
            },
            connect: Arc::new(|| async { Err("there is none".into()) }.boxed()),
        });
        let (_events, receiver) = mpsc::channel(1);
        Sync::new(handle, receiver, &Readiness::new(), Told::new(&Registry::default())).1
    }

    fn away() -> Event {
        Event::Disconnected { error: "killed".to_owned() }
    }

    /// Whether it has to wait; else it was refused at once.
    fn ask(sync: &mut Sync, about: About) -> bool {
        let (answered, mut answer) = oneshot::channel();
        sync.asked(Question { about, answered });
        answer.try_recv() == Err(TryRecvError::Empty)
    }

    fn address(n: usize) -> About {
        let [a, b] = u16::try_from(n).unwrap().to_be_bytes();
        About::Address(SocketAddr::from(([10, 96, a, b], 80)))
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_let_go_while_the_control_plane_is_away() {
        let mut sync = sync();
        sync.heard(Event::Connected);
        for n in 0..MAX_ADDRESSES {
            // The receiver of one that waits is dropped; the address stays wanted.
            let _waits = ask(&mut sync, address(n));
        }
        sync.heard(away());
        advance(Duration::from_secs(2 * IDLE)).await;
        sync.tidy();
        assert!(!ask(&mut sync, address(MAX_ADDRESSES)), "there is room: something was let go");
        sync.heard(Event::Connected);
        sync.tidy();
        assert!(ask(&mut sync, address(MAX_ADDRESSES)), "idle addresses were kept");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_name_does_not_wait_for_a_control_plane_that_is_away() {
        let mut sync = sync();
        let name = || About::Host("web.shop.svc.cluster.local".into());
        assert!(!ask(&mut sync, name()));
        sync.heard(Event::Connected);
        assert!(ask(&mut sync, name()));
        sync.heard(away());
        assert!(!ask(&mut sync, name()));
    }
}
