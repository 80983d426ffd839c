//! Who holds what comes from which object: kept up with what changes, never worked out anew.
//!
//! A *holding* is a resource on a stream. It counts for every object that the resource comes from, as
//! [`Taken`]; an object's count is made from the worst of each pod. What a holding counted is
//! remembered, and taken back before it counts anew: so the order of news does not matter.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use tulle_xds::{
    cache::{Dialect, Key, View},
    model::Kind,
    protocol::Version,
    server::{Caller, StreamNews},
    session::NameStatus,
};

use super::{Force, MAX_LAGGARDS, MAX_REJECTIONS, Rejection, Taken, contributions, how};
use crate::{
    compile::{Contributors, Need, may_have_contributors},
    world::objects::ObjectRef,
};

/// What is looked up when a holding is counted.
pub(super) trait Facts {
    /// What a resource comes from, as callers in a namespace see it.
    fn contributors(&self, key: &Key, namespace: &str) -> Option<Arc<Contributors>>;
    /// Its latest version for them.
    fn latest(&self, key: &Key, view: &View) -> Option<Version>;
    /// How it stands on a stream.
    fn standing(&self, stream: u64, key: &Key) -> Option<NameStatus>;
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Tally {
    streams: BTreeMap<u64, Stream>,
    /// By resource and stream.
    holdings: HashMap<Key, BTreeMap<u64, Option<Counted>>>,
    objects: BTreeMap<ObjectRef, Count>,
    /// Objects whose force may have changed.
    changed: BTreeSet<ObjectRef>,
    /// What a proxy has rejected and not taken since.
    rejected: BTreeSet<(u64, Kind, String)>,
}

#[derive(Debug)]
struct Stream {
    caller: Caller,
    dialect: Dialect,
    holds: BTreeSet<Key>,
}

/// What a holding counted as.
#[derive(Debug)]
struct Counted {
    from: Arc<Contributors>,
    how: Taken,
    reason: Option<String>,
}

/// What counts for an object.
#[derive(Debug, Default)]
struct Count {
    pods: BTreeMap<String, Holdings>,
    /// How many pods are how, each by its worst.
    by: [usize; 3],
    /// How many of them are gRPC without a proxy.
    grpc: usize,
    rejections: BTreeMap<Rejected, String>,
    /// Holdings that lack what a field says, by field and pod.
    lacking: BTreeMap<String, BTreeMap<String, u32>>,
}

/// Pod, resource and stream.
type Rejected = (String, Arc<str>, u64);

/// What a pod holds of an object.
#[derive(Debug, Default)]
struct Holdings {
    /// How many are how, by [`Taken`].
    by: [u32; 3],
    /// How many are of gRPC's dialect.
    grpc: u32,
}

impl Tally {
    /// Something has happened on a stream.
    pub(super) fn heard(&mut self, stream: u64, news: StreamNews, facts: &impl Facts) {
        match news {
            StreamNews::Changed { caller, dialect, names } => {
                let new = || Stream { caller, dialect, holds: BTreeSet::new() };
                self.streams.entry(stream).or_insert_with(new);
                for (kind, name, status) in names {
                    let key = Key { dialect, ..Key::new(kind, name.as_str()) };
                    if status.as_ref().is_some_and(|status| status.rejected.is_some()) {
                        self.rejected.insert((stream, kind, name));
                    } else {
                        self.rejected.remove(&(stream, kind, name));
                    }
                    if may_have_contributors(kind) {
                        self.count(stream, &key, status.as_ref(), facts);
                    }
                }
            }
            StreamNews::Closed => {
                let holds = self.streams.get(&stream).map(|stream| stream.holds.clone());
                for key in holds.into_iter().flatten() {
                    self.count(stream, &key, None, facts);
                }
                self.streams.remove(&stream);
                self.rejected.retain(|(of, ..)| *of != stream);
            }
        }
    }

    /// A resource has other bytes, or comes from other objects.
    pub(super) fn republished(&mut self, key: &Key, facts: &impl Facts) {
        let streams: Vec<u64> =
            self.holdings.get(key).into_iter().flat_map(BTreeMap::keys).copied().collect();
        for stream in streams {
            let status = facts.standing(stream, key);
            self.count(stream, key, status.as_ref(), facts);
        }
    }

    /// The objects whose force may have changed since this was asked last.
    pub(super) fn take_changed(&mut self) -> BTreeSet<ObjectRef> {
        std::mem::take(&mut self.changed)
    }

    /// On how many proxies an object is in force; `None`: no proxy uses it.
    pub(super) fn force(&self, object: &ObjectRef) -> Option<Force> {
        let Count { pods, by: [all, waiting, rejected], grpc, rejections, lacking } =
            self.objects.get(object)?;
        let shown = rejections.iter().take(MAX_REJECTIONS);
        let shown = shown.map(|((proxy, resource, _), reason)| Rejection {
            proxy: proxy.clone(),
            resource: resource.to_string(),
            reason: reason.clone(),
        });
        let lags = |holdings: &Holdings| holdings.worst() == Some(Taken::Waiting as usize);
        let laggards = pods.iter().filter(|(_, holdings)| *waiting > 0 && lags(holdings));
        Some(Force {
            on: *all,
            of: all + waiting + rejected,
            rejections: shown.collect(),
            waiting: *waiting,
            laggards: laggards.take(MAX_LAGGARDS).map(|(pod, _)| pod.clone()).collect(),
            grpc: *grpc,
            unheard: Vec::new(),
            too_old: lacking.iter().map(|(field, pods)| (field.clone(), pods.len())).collect(),
        })
    }

    /// Open streams, by what they understand.
    pub(super) fn streams(&self) -> BTreeMap<Dialect, usize> {
        let mut count = BTreeMap::new();
        for stream in self.streams.values() {
            *count.entry(stream.dialect).or_default() += 1;
        }
        count
    }

    /// What proxies have rejected and not taken since, by kind.
    pub(super) fn rejected(&self) -> BTreeMap<Kind, usize> {
        let mut count = BTreeMap::new();
        for (_, kind, _) in &self.rejected {
            *count.entry(*kind).or_default() += 1;
        }
        count
    }

    /// Counts a holding anew. `status` is how it stands; `None`: it is none any more.
    fn count(&mut self, stream: u64, key: &Key, status: Option<&NameStatus>, facts: &impl Facts) {
        let Some(Stream { caller, dialect, holds }) = self.streams.get_mut(&stream) else {
            return;
        };
        // Streams share the name.
        let known = self.holdings.get_key_value(key).map(|(key, _)| key.clone());
        let key = known.unwrap_or_else(|| key.clone());
        let of_key = self.holdings.entry(key.clone()).or_default();
        let before = of_key.remove(&stream).flatten();
        let after = status.and_then(|status| {
            let from = facts.contributors(&key, &caller.namespace)?;
            let how = how(status, facts.latest(&key, &caller.view(key.dialect)).as_ref());
            let reason = status.rejected.clone().filter(|_| how == Taken::Rejected);
            Some(Counted { from, how, reason })
        });
        for (counted, counts) in [(&before, false), (&after, true)] {
            let Some(counted) = counted else { continue };
            for object in &counted.from.all {
                let count = self.objects.entry(object.clone()).or_default();
                count.pod(&caller.pod, *dialect, counted.how, counts);
                self.changed.insert(object.clone());
            }
            if let Dialect::Other(features) = *dialect {
                let lacks = |need: &&Need| !features.has(need.feature);
                for need in counted.from.needs.iter().filter(lacks) {
                    let count = self.objects.entry(need.object.clone()).or_default();
                    count.lacks(&need.field, &caller.pod, counts);
                }
            }
            let Some(reason) = &counted.reason else { continue };
            for object in contributions::blamed(&counted.from, reason) {
                let Some(count) = self.objects.get_mut(object) else { continue };
                let at = (caller.pod.clone(), Arc::clone(&key.name), stream);
                if counts {
                    count.rejections.insert(at, reason.clone());
                } else {
                    count.rejections.remove(&at);
                }
            }
        }
        let gone = before.iter().flat_map(|counted| &counted.from.all);
        for object in gone {
            if self.objects.get(object).is_some_and(|count| count.pods.is_empty()) {
                self.objects.remove(object);
            }
        }
        match status {
            Some(_) => {
                of_key.insert(stream, after);
                holds.insert(key);
            }
            None => {
                if of_key.is_empty() {
                    self.holdings.remove(&key);
                }
                holds.remove(&key);
            }
        }
    }
}

impl Count {
    /// A holding of a pod counts from now on, or no more.
    fn pod(&mut self, pod: &str, dialect: Dialect, how: Taken, counts: bool) {
        let holdings = self.pods.entry(pod.to_owned()).or_default();
        let before = (holdings.worst(), holdings.grpc > 0);
        let change = |of: &mut u32| *of = if counts { *of + 1 } else { of.saturating_sub(1) };
        holdings.by.get_mut(how as usize).into_iter().for_each(change);
        Some(&mut holdings.grpc).filter(|_| dialect == Dialect::Grpc).into_iter().for_each(change);
        let after = (holdings.worst(), holdings.grpc > 0);
        if after.0.is_none() {
            self.pods.remove(pod);
        }
        for ((worst, grpc), counts) in [(before, false), (after, true)] {
            let by = worst.and_then(|at| self.by.get_mut(at));
            for of in by.into_iter().chain(Some(&mut self.grpc).filter(|_| grpc)) {
                *of = if counts { *of + 1 } else { of.saturating_sub(1) };
            }
        }
    }
}

impl Count {
    /// A holding of a pod lacks what a field says, or no more.
    fn lacks(&mut self, field: &str, pod: &str, counts: bool) {
        let pods = self.lacking.entry(field.to_owned()).or_default();
        let of = pods.entry(pod.to_owned()).or_default();
        *of = if counts { *of + 1 } else { of.saturating_sub(1) };
        if *of == 0 {
            pods.remove(pod);
        }
        if pods.is_empty() {
            self.lacking.remove(field);
        }
    }
}

impl Holdings {
    fn worst(&self) -> Option<usize> {
        self.by.iter().rposition(|count| *count > 0)
    }
}

#[cfg(test)]
mod tests;
