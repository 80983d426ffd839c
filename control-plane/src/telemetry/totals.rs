//! What happened on an edge in some time, and how two such are added.

use std::borrow::Borrow;

use tulle_proto::telemetry::v1 as proto;
use tulle_runtime::histogram::{Histogram, SCALE};
use tulle_xds::{grpc, text::bounded};

/// Outcomes that one edge tells apart at a time; what comes beyond is counted as `other`. A proxy of ours has fewer: this is
/// for one that is none.
const MOST: usize = 64;
/// Entries of one message that are read, and buckets of one histogram: those from a microsecond to a week are 320.
const MOST_ENTRIES: usize = 2 * MOST;
const MOST_BUCKETS: usize = 320;
/// A histogram may tell apart 2^this many durations that are one here: its scale is 8 at most.
const FINEST: u32 = 5;
/// Characters of a word from a proxy, and of a policy's name.
const LONGEST_WORD: usize = 64;
const LONGEST_NAME: usize = 320;
/// Reasons that are the caller's fault, or its policy's: the answer is none that its server should be ashamed of.
const OF_THE_CALLER: [&str; 5] = ["", "canceled", "denied", "protocol", "route_not_found"];

/// What happened in some time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests that ended.
    pub requests: Vec<(Outcome, u64)>,
    /// How long they took.
    pub took: Took,
    /// Attempts at endpoints, by what came of them.
    pub tries: Vec<(String, u64)>,
    /// Opaque connections.
    pub flow: Flow,
    /// What policy forbade, or would have.
    pub denials: Vec<(Denial, u64)>,
}

/// How a request ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outcome {
    /// HTTP status, or its first digit alone; 0: there was no answer, or it is a gRPC call.
    pub status: u32,
    /// gRPC status.
    pub grpc: Option<u32>,
    /// Why a proxy ended it; empty if none did.
    pub error: String,
}

/// Durations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Took {
    /// In seconds.
    pub histogram: Histogram,
    /// All together.
    pub nanoseconds: u64,
}

/// Opaque connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flow {
    /// That were opened.
    pub opened: u64,
    /// That ended.
    pub closed: u64,
    /// Of these, the ones that a proxy ended.
    pub failed: u64,
    /// Bytes from clients.
    pub received: u64,
    /// Bytes to clients.
    pub sent: u64,
    /// How long they were open.
    pub took: Took,
}

/// A policy that forbade something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Denial {
    /// KIND/NAMESPACE/NAME.
    pub policy: String,
    /// The reason in the proxy's log.
    pub reason: String,
    /// It would have, were it not only audited.
    pub audit: bool,
}

/// What a proxy sent is no histogram that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NoHistogram;

impl Outcome {
    /// Whether it is the server's fault, or the mesh's.
    pub fn is_bad(&self) -> bool {
        let class = if self.status < 10 { self.status } else { self.status / 100 };
        let by_server = self.grpc.and_then(grpc::name).is_some_and(grpc::is_server_error);
        match self.error.as_str() {
            "" => class == 5 || by_server,
            error => class == 5 || !OF_THE_CALLER.contains(&error),
        }
    }

    /// The word that says why it did not end well: the proxy's reason, or the status.
    pub fn word(&self) -> String {
        match (self.error.as_str(), self.grpc, self.status) {
            ("", Some(status), _) => format!("grpc {status}"),
            ("", None, status @ 1..10) => format!("{status}xx"),
            ("", None, status) => status.to_string(),
            (error, ..) => error.to_owned(),
        }
    }
}

impl Totals {
    /// Adds what a message says, up to a bound. Durations that make no sense here, because a newer proxy says them in
    /// another way, are left out; returns how many histograms that were.
    pub fn read(&mut self, counts: &proto::Counts) -> usize {
        let flow = counts.flow.as_ref();
        let took = Took::read(counts.took.as_ref());
        let open = Took::read(flow.and_then(|flow| flow.took.as_ref()));
        let unread = usize::from(took.is_err()) + usize::from(open.is_err());
        let (took, open) = (took.unwrap_or_default(), open.unwrap_or_default());
        for proto::Requests { status, grpc, error, times } in
            counts.requests.iter().take(MOST_ENTRIES)
        {
            let (grpc, error) = (grpc.checked_sub(1), word(error, LONGEST_WORD));
            self.count(&Outcome { status: *status, grpc, error }, *times);
        }
        for proto::Tries { outcome, times } in counts.tries.iter().take(MOST_ENTRIES) {
            self.tried_so(&word(outcome, LONGEST_WORD), *times);
        }
        for proto::Denials { policy, reason, audit, times } in
            counts.denials.iter().take(MOST_ENTRIES)
        {
            let denial = |policy: &str, reason: &str| Denial {
                policy: word(policy, LONGEST_NAME),
                reason: word(reason, LONGEST_WORD),
                audit: *audit,
            };
            add(&mut self.denials, &denial(policy, reason), *times, || denial("other", ""));
        }
        self.took.merge(&took);
        if let Some(flow) = flow {
            let proto::Flow { opened, closed, failed, received, sent, took: _ } = *flow;
            self.flow.merge(&Flow { opened, closed, failed, received, sent, took: open });
        }
        unread
    }

    /// As a message.
    pub fn message(&self) -> proto::Counts {
        let requests = self.requests.iter().map(|(outcome, times)| proto::Requests {
            status: outcome.status,
            grpc: outcome.grpc.map_or(0, |status| status + 1),
            error: outcome.error.clone(),
            times: *times,
        });
        let tries = self
            .tries
            .iter()
            .map(|(outcome, times)| proto::Tries { outcome: outcome.clone(), times: *times });
        let denials = self.denials.iter().map(|(denial, times)| proto::Denials {
            policy: denial.policy.clone(),
            reason: denial.reason.clone(),
            audit: denial.audit,
            times: *times,
        });
        let Flow { opened, closed, failed, received, sent, .. } = self.flow;
        let flow =
            proto::Flow { opened, closed, failed, received, sent, took: self.flow.took.message() };
        proto::Counts {
            requests: requests.collect(),
            took: self.took.message(),
            tries: tries.collect(),
            flow: (flow != proto::Flow::default()).then_some(flow),
            denials: denials.collect(),
        }
    }

    /// Adds another one.
    pub fn merge(&mut self, other: &Self) {
        for (outcome, times) in &other.requests {
            self.count(outcome, *times);
        }
        for (outcome, times) in &other.tries {
            self.tried_so(outcome, *times);
        }
        for (denial, times) in &other.denials {
            let audit = denial.audit;
            let other = || Denial { policy: "other".to_owned(), reason: String::new(), audit };
            add(&mut self.denials, denial, *times, other);
        }
        self.took.merge(&other.took);
        self.flow.merge(&other.flow);
    }

    /// Requests that ended so.
    pub(super) fn count(&mut self, outcome: &Outcome, times: u64) {
        let other = || Outcome { error: "other".to_owned(), ..Outcome::default() };
        add(&mut self.requests, outcome, times, other);
    }

    /// Attempts that ended so.
    pub(super) fn tried_so(&mut self, outcome: &str, times: u64) {
        add(&mut self.tries, outcome, times, || "other".to_owned());
    }

    /// Bytes that it takes, about.
    pub(super) fn size(&self) -> usize {
        let buckets =
            self.took.histogram.buckets().len() + self.flow.took.histogram.buckets().len();
        let entries = self.requests.len() + self.tries.len() + self.denials.len();
        320 + 16 * buckets + 48 * entries
    }

    /// Requests that ended.
    pub fn requested(&self) -> u64 {
        sum(self.requests.iter().map(|(_, times)| *times))
    }

    /// Of these, the ones that ended badly.
    pub fn bad(&self) -> u64 {
        sum(self.requests.iter().filter(|(outcome, _)| outcome.is_bad()).map(|(_, times)| *times))
    }

    /// Attempts at endpoints.
    pub fn tried(&self) -> u64 {
        sum(self.tries.iter().map(|(_, times)| *times))
    }
}

impl Took {
    fn read(message: Option<&proto::Histogram>) -> Result<Self, NoHistogram> {
        let Some(message) = message else { return Ok(Self::default()) };
        let scale = i8::try_from(message.scale).map_err(|_beyond| NoHistogram)?;
        // What a finer one tells apart is added up, which is exact: each of our buckets is two of the next scale.
        let halvings = u32::from((scale - SCALE).max(0).unsigned_abs());
        let most = MOST_BUCKETS << halvings.min(FINEST);
        let fits = message.steps.len() == message.counts.len() && message.steps.len() <= most;
        if !fits || halvings > FINEST {
            return Err(NoHistogram);
        }
        let mut at = 0_i32;
        let mut buckets: Vec<(i16, u64)> = Vec::new();
        for (index, (step, times)) in message.steps.iter().zip(&message.counts).enumerate() {
            at = at.checked_add(*step).filter(|_| index == 0 || *step > 0).ok_or(NoHistogram)?;
            let bucket = i16::try_from(at >> halvings).map_err(|_beyond| NoHistogram)?;
            match buckets.last_mut().filter(|(last, _)| *last == bucket) {
                Some((_, sum)) if *times > 0 => *sum = sum.saturating_add(*times),
                _ => buckets.push((bucket, *times)),
            }
        }
        let histogram = Histogram::from_parts(scale.min(SCALE), message.zero, buckets);
        let histogram = histogram.map_err(|_none| NoHistogram)?;
        Ok(Self { histogram, nanoseconds: message.nanoseconds })
    }

    fn message(&self) -> Option<proto::Histogram> {
        let Self { histogram, nanoseconds } = self;
        if histogram.count() == 0 {
            return None;
        }
        Some(proto::Histogram {
            scale: histogram.scale().into(),
            zero: histogram.zero(),
            steps: histogram.steps().collect(),
            counts: histogram.buckets().iter().map(|(_, times)| *times).collect(),
            nanoseconds: *nanoseconds,
        })
    }

    fn merge(&mut self, other: &Self) {
        self.histogram.merge(&other.histogram);
        self.nanoseconds = self.nanoseconds.saturating_add(other.nanoseconds);
    }
}

impl Flow {
    fn merge(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.opened, other.opened),
            (&mut self.closed, other.closed),
            (&mut self.failed, other.failed),
            (&mut self.received, other.received),
            (&mut self.sent, other.sent),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.took.merge(&other.took);
    }
}

/// What a proxy says, which may end on a terminal.
fn word(text: &str, longest: usize) -> String {
    bounded(text, longest).chars().filter(char::is_ascii_graphic).collect()
}

/// Adds `times` to what is counted under `key`, or, where that would be one too many, under `other`.
fn add<K: Borrow<Q>, Q: PartialEq + ToOwned<Owned = K> + ?Sized>(
    all: &mut Vec<(K, u64)>,
    key: &Q,
    times: u64,
    other: impl FnOnce() -> K,
) {
    if times == 0 {
        return;
    }
    let at = |all: &[(K, u64)], key: &Q| all.iter().position(|(known, _)| known.borrow() == key);
    let mut found = at(all, key);
    if found.is_none() {
        let new = if all.len() < MOST { key.to_owned() } else { other() };
        found = at(all, new.borrow());
        if found.is_none() {
            return all.push((new, times));
        }
    }
    if let Some((_, sum)) = found.and_then(|at| all.get_mut(at)) {
        *sum = sum.saturating_add(times);
    }
}

fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn took() -> impl Strategy<Value = Took> {
        vec(prop_oneof![Just(0.0), 0.001..100.0_f64], 0..20).prop_map(|values| {
            let mut histogram = Histogram::default();
            values.iter().for_each(|value| histogram.observe(*value));
            Took { nanoseconds: histogram.count() * 7, histogram }
        })
    }

    prop_compose! {
        /// Something that may have happened, of fewer outcomes than are told apart.
        pub(in super::super) fn totals()(
            requests in prop::collection::btree_map((prop::sample::select(vec![0, 4, 200, 404, 503]), prop::option::of(prop::sample::select(vec![0, 5, 14])), "[ab]?"), 1..1000_u64, 0..6),
            tries in prop::collection::btree_map("[a-c]{1,2}", 1..1000_u64, 0..3),
            denials in prop::collection::btree_map(("[a-c]{1,2}", "[a-c]", any::<bool>()), 1..1000_u64, 0..3),
            (took, open) in (took(), took()),
            flow in vec(0..1000_u64, 5),
        ) -> Totals {
            let requests = requests.into_iter().map(|((status, grpc, error), times)| (Outcome { status, grpc, error }, times));
            let denials = denials.into_iter().map(|((policy, reason, audit), times)| (Denial { policy, reason, audit }, times));
            Totals {
                requests: requests.collect(), took, tries: tries.into_iter().collect(), denials: denials.collect(),
                flow: Flow { opened: flow[0], closed: flow[1], failed: flow[2], received: flow[3], sent: flow[4], took: open },
            }
        }
    }

    proptest! {
        #[test]
        fn there_and_back_and_added_either_way(one in totals(), other in totals()) {
            let mut back = Totals::default();
            back.read(&one.message());
            prop_assert_eq!(&back, &one);
            let mut merged = one.clone();
            merged.merge(&other);
            back.read(&other.message());
            prop_assert_eq!(&back, &merged);
            prop_assert_eq!(merged.requested(), one.requested() + other.requested());
            prop_assert_eq!(merged.bad(), one.bad() + other.bad());
        }
    }

    #[test]
    fn durations_that_make_no_sense_are_left_out() {
        let histogram = |scale, steps: &[i32], counts: &[u64]| proto::Histogram {
            scale,
            steps: steps.to_vec(),
            counts: counts.to_vec(),
            ..proto::Histogram::default()
        };
        for bad in [
            histogram(3, &[1], &[]),
            histogram(9, &[1], &[1]),
            histogram(5, &[1, -1], &[1, 1]),
            histogram(5, &[1, 1, 1], &[1, 1, 0]),
            histogram(300, &[1], &[1]),
            histogram(3, &[40_000], &[1]),
            histogram(3, &[32_000, 32_000], &[1, 1]),
            histogram(3, &[1, 0], &[1, 1]),
            histogram(3, &[1], &[0]),
            histogram(3, &[1; MOST_BUCKETS + 1], &[1; MOST_BUCKETS + 1]),
        ] {
            let requests = vec![proto::Requests { status: 200, times: 1, ..Default::default() }];
            let counts = proto::Counts { requests, took: Some(bad.clone()), ..Default::default() };
            let mut totals = Totals::default();
            assert_eq!(totals.read(&counts), 1, "{bad:?}");
            assert_eq!((totals.requested(), totals.took), (1, Took::default()), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_finer_histogram_is_read_as_what_it_is_here(values in vec(0.001..100.0_f64, 1..50), finer in 1..6_i32) {
            let mut here = Histogram::default();
            let mut there = std::collections::BTreeMap::<i32, u64>::new();
            for value in &values {
                here.observe(*value);
                // By the definition: above base^i, at most base^(i+1).
                let base = f64::from(1 << (i32::from(SCALE) + finer));
                #[expect(clippy::cast_possible_truncation, reason = "some thousands")]
                let index = (value.log2() * base).ceil() as i32 - 1;
                *there.entry(index).or_default() += 1;
            }
            let mut last = 0;
            let steps = there.keys().map(|at| at - std::mem::replace(&mut last, *at)).collect();
            let scale = i32::from(SCALE) + finer;
            let message = proto::Histogram { scale, steps, counts: there.into_values().collect(), ..Default::default() };
            prop_assert_eq!(Took::read(Some(&message)).map(|took| took.histogram), Ok(here));
        }
    }

    #[test]
    fn outcomes_are_bounded_and_none_is_lost() {
        let mut totals = Totals::default();
        for n in 0..1000 {
            let request =
                proto::Requests { error: format!("e{n}"), times: 2, ..Default::default() };
            let counts = proto::Counts { requests: vec![request], ..Default::default() };
            totals.read(&counts);
        }
        assert_eq!((totals.requests.len(), totals.requested()), (MOST + 1, 2000));
    }

    #[test]
    fn who_is_to_blame() {
        for (status, grpc, error, bad) in [
            (200, None, "", false),
            (404, None, "", false),
            (5, None, "", true),
            (4, None, "", false),
            (500, None, "", true),
            (200, None, "reset", true),
            (0, None, "canceled", false),
            (403, None, "denied", false),
            (404, None, "route_not_found", false),
            (0, Some(0), "", false),
            (0, Some(5), "", false),
            (0, Some(14), "", true),
            (0, Some(13), "protocol", false),
            (0, Some(14), "connect", true),
            (200, None, "tomorrow", true),
        ] {
            let outcome = Outcome { status, grpc, error: error.to_owned() };
            assert_eq!(outcome.is_bad(), bad, "{outcome:?}");
        }
    }
}
