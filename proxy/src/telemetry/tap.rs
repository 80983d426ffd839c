//! What ended lately, for whoever asks: a ring of records, and the answers to questions about them.
//!
//! ```text
//! [ Record ] ends ─► its worker's [ Ring ]        always, as data: nothing is rendered
//!                         ▲
//! [ report ] ── a question ── [ Filter ] ─► an answer, rendered here
//!                         └──► [ Fields ]         header fields, which are kept while somebody asks for them
//! ```
//!
//! **What it costs.** A record that ends is copied into a slot of its worker's ring, whose memory the one before has left: no allocation,
//! no lock that anybody else holds but for an answer. That is some 600 instructions of the about 110,000 that a request takes here
//! (`tests/bench/telemetry`), and [`ring::MOST`] records of some 450 bytes for each worker.
//!
//! **Invariants.** Polled with the cursor of the last answer, a record is told once, or counted as missed. The value of a field that
//! may be a secret is masked before it is kept. An answer has a bound in records and in bytes.

mod fields;
mod filter;
mod message;
mod past;
mod ring;

use std::sync::Arc;

use http::HeaderMap;
use parking_lot::Mutex;
use tokio::time::Instant;
use tulle_expression::Side;
use tulle_proto::telemetry::v1 as proto;

pub(super) use self::{
    fields::Field,
    past::{Past, Served, Texts},
    ring::Ring,
};
use self::{fields::Fields, filter::Filter, message::Clock};

/// Bytes of an answer's records, about: far below what the control plane takes.
const LARGEST: usize = 192 << 10;

/// What a worker remembers.
pub(super) type Own = Arc<Mutex<Ring>>;

/// The rings of all workers. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Tap(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// This process: cursors of another one say nothing here.
    process: u64,
    rings: Mutex<Vec<Own>>,
    fields: Fields,
}

impl Default for Tap {
    fn default() -> Self {
        let (process, fields) = (rand::random(), Fields::new(Instant::now()));
        Self(Arc::new(Inner { process, rings: Mutex::default(), fields }))
    }
}

impl Tap {
    /// That of one more worker.
    pub(super) fn ring(&self) -> Own {
        let own = Own::default();
        self.0.rings.lock().push(Arc::clone(&own));
        own
    }

    /// Keeps what somebody asks for of a head.
    pub(super) fn keep(&self, side: Side, headers: &HeaderMap, kept: &mut Vec<Field>) {
        self.0.fields.keep(side, headers, kept, Instant::now);
    }

    /// Answers a question.
    pub(crate) fn answer(&self, question: &proto::Question) -> proto::Records {
        let now = Instant::now();
        let clock = Clock::at(now);
        let filter = Filter::read(question, now);
        self.0.fields.ask(filter.fields(question), now);
        let since = question.since.as_ref().filter(|since| since.process == self.0.process);
        let (mut ended, mut missed, mut found) = (Vec::new(), 0, Vec::new());
        // A statement of its own: the rings are locked one by one, each no longer than it is read.
        let rings = self.0.rings.lock().clone();
        for (worker, ring) in rings.iter().enumerate() {
            let ring = ring.lock();
            let known = since.map(|since| since.ended.get(worker).copied().unwrap_or_default());
            missed += known.map_or(0, |known| ring.missed(known));
            let new = ring.since(known.unwrap_or_default());
            found.extend(new.filter(|past| filter.lets_through(past)).cloned());
            ended.push(ring.ended());
        }
        found.sort_by_key(|past: &Past| past.ended);
        let matched = found.len();
        let most = usize::try_from(question.most).unwrap_or(usize::MAX);
        let mut left = LARGEST;
        let fits = |past: &&Past| {
            let bytes = past.bytes();
            let fits = bytes <= left;
            left = left.saturating_sub(bytes);
            fits
        };
        let mut records: Vec<_> = found
            .iter()
            .rev()
            .take(most)
            .take_while(fits)
            .map(|past| message::record(past, &clock))
            .collect();
        records.reverse();
        proto::Records {
            number: question.number,
            cursor: Some(proto::Cursor { process: self.0.process, ended }),
            records,
            matched: matched as u64,
            missed,
        }
    }
}

#[cfg(test)]
mod tests;
