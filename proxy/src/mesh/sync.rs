use std::{collections::HashMap, net::SocketAddr, time::Duration};

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
    demand::{Question, Questions},
    store::Publisher,
};

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
    /// Connections that wait for an address.
    waiting: HashMap<SocketAddr, Vec<oneshot::Sender<()>>>,
    connected: bool,
    gate: Gate,
}

/// What readiness waits for.
#[derive(Debug)]
struct Gate {
    readiness: Readiness,
    /// Until the first workload.
    workload: Option<Blocker>,
    /// While the workload says so.
    hold: Option<Blocker>,
}

impl Sync {
    /// An empty store and its writer, to be [`run`](Self::run). `readiness` waits for the first
    /// workload, and while a workload holds.
    pub fn new(
        handle: Handle,
        events: mpsc::Receiver<Event>,
        readiness: &Readiness,
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
                tracing::info!("connected to the control plane");
            }
            Event::Disconnected { error } => {
                self.connected = false;
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
        if bad.is_empty() {
            ack.accept();
        } else {
            ack.reject(bad);
        }
    }

    fn asked(&mut self, question: Question) {
        let Question { address, answered } = question;
        match self.table.want(address, self.publisher.now(), self.connected) {
            Ok(()) => self.waiting.entry(address).or_default().push(answered),
            Err(_full) => {
                tracing::warn!(%address, "too many destinations at once, refusing another one");
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
            self.publisher.publish(mesh);
        }
        let current = self.publisher.current();
        let answered: Vec<_> =
            self.waiting.keys().filter(|a| current.listeners.contains_key(a)).copied().collect();
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
        if hold.is_empty() {
            self.hold = None;
        } else {
            let readiness = &self.readiness;
            self.hold.get_or_insert_with(|| readiness.block("hold")).because(hold);
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
