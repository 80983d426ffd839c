//! What happened on an edge in some time, and how two such are added.

use std::borrow::Borrow;

use tulle_proto::telemetry::v1 as proto;
use tulle_xds::{grpc, text::bounded};

use super::took::Took;

/// Outcomes that one edge tells apart at a time; what comes beyond is counted as `other`. A proxy of ours has fewer: this is
/// for one that is none.
const MOST: usize = 64;
/// Entries of one message that are read.
const MOST_ENTRIES: usize = 2 * MOST;
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
            // Nearly always it stays the only one, and a vector would make room for four.
            if all.is_empty() {
                all.reserve_exact(1);
            }
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

    use super::{super::took::tests::took, *};

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
