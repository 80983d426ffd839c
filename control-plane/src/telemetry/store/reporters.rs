//! Whose reports have come, and which was the last one.

use std::{collections::HashMap, time::Duration};

use serde::Serialize;

use crate::{telemetry::edge::Workload, world::objects::Name};

/// A proxy that has said nothing for so long is gone, or cut off: three reports.
const SILENT: Duration = Duration::from_secs(35);
/// Who reports by the second has within this time.
const FRESH: Duration = Duration::from_secs(5);
/// For so long the number of a process is remembered: it may come back.
const FORGOTTEN: Duration = Duration::from_secs(900);

/// Proxies that report, by their pods.
#[derive(Debug, Default)]
pub(super) struct Reporters(HashMap<Name, Reporter>);

#[derive(Debug)]
struct Reporter {
    workload: Workload,
    process: u64,
    number: u64,
    last: Duration,
    /// Between its last two reports.
    pace: Duration,
    silent: bool,
    certificate_ends: i64,
}

/// Proxies of a workload that have reported within the last 35 seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reporting {
    /// Whose they are.
    pub workload: Workload,
    /// How many.
    pub proxies: usize,
}

impl Reporters {
    /// Whether this report was not taken before; now it is.
    pub(super) fn is_new(
        &mut self,
        (pod, workload): (&Name, &Workload),
        (process, number): (u64, u64),
        now: Duration,
    ) -> bool {
        let begin = || Reporter {
            workload: workload.clone(),
            process,
            number: 0,
            last: now,
            pace: Duration::MAX,
            silent: false,
            certificate_ends: 0,
        };
        match self.0.get_mut(pod).filter(|known| known.process == process) {
            Some(known) => known.pace = now.saturating_sub(known.last),
            None => drop(self.0.insert(pod.clone(), begin())),
        }
        let Some(known) = self.0.get_mut(pod) else { return false };
        (known.last, known.silent) = (now, false);
        let new = number > known.number;
        known.number = number.max(known.number);
        new
    }

    /// Its stream has ended, and it has not reported on another one since.
    pub(super) fn left(&mut self, pod: &Name, last: Duration) {
        if let Some(known) = self.0.get_mut(pod).filter(|known| known.last == last) {
            known.silent = true;
        }
    }

    pub(super) fn taken(&self, pod: &Name, process: u64) -> u64 {
        let known = self.0.get(pod).filter(|known| known.process == process);
        known.map_or(0, |known| known.number)
    }

    pub(super) fn sweep(&mut self, now: Duration) {
        self.0.retain(|_, known| now < known.last + FORGOTTEN);
        self.0.values_mut().for_each(|known| known.silent = now >= known.last + SILENT);
    }

    /// This pod's certificate ends then, in seconds since 1970.
    pub(super) fn certificate(&mut self, pod: &Name, ends: i64) {
        self.0.entry(pod.clone()).and_modify(|known| known.certificate_ends = ends);
    }

    /// The pods of those that report, and when their certificates end, in seconds since 1970; 0: not known.
    pub(super) fn pods(&self) -> impl Iterator<Item = (&Name, i64)> {
        let all = self.0.iter().filter(|(_, known)| !known.silent);
        all.map(|(pod, known)| (pod, known.certificate_ends))
    }

    /// The pods of those that report by the second, and have lately.
    pub(super) fn fresh(&self, now: Duration) -> impl Iterator<Item = &Name> {
        let all = self.0.iter().filter(move |(_, known)| {
            !known.silent && known.pace <= FRESH && now <= known.last + FRESH
        });
        all.map(|(pod, _)| pod)
    }

    pub(super) fn all(&self) -> Vec<Reporting> {
        let mut count: HashMap<&Workload, usize> = HashMap::new();
        for known in self.0.values().filter(|known| !known.silent) {
            *count.entry(&known.workload).or_default() += 1;
        }
        let all = count.into_iter();
        let mut all: Vec<_> = all
            .map(|(workload, proxies)| Reporting { workload: workload.clone(), proxies })
            .collect();
        all.sort_by(|one, other| one.workload.cmp(&other.workload));
        all
    }
}
