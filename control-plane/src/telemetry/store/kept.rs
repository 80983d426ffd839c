//! What is kept of one edge.

use std::time::Duration;

use super::Ask;
use crate::telemetry::{slots::Slots, totals::Totals};

/// Slots of one width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tier {
    /// Seconds of a slot.
    pub(super) width: u32,
    /// How many are kept.
    pub(super) slots: u32,
    /// 2^this many buckets for each doubling of durations.
    pub(super) scale: i8,
}

const SECONDS: Tier = Tier { width: 1, slots: 180, scale: 3 };
const TENS: Tier = Tier { width: 10, slots: 90, scale: 3 };
pub(super) const MINUTES: Tier = Tier { width: 60, slots: 120, scale: 2 };
pub(super) const ROUTE_MINUTES: Tier = Tier { slots: 60, ..MINUTES };

/// Rules that are told apart on one edge.
pub(super) const MOST_ROUTES: usize = 64;
/// Names and vectors of an edge, and of a rule.
const EDGE_BYTES: usize = 700;
const ROUTE_BYTES: usize = 300;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Kept {
    seconds: Slots,
    tens: Slots,
    minutes: Slots,
    /// The rule that matched as long as none but it did: what happened by it is what happened.
    only: Option<String>,
    /// Where more than one did.
    pub(super) routes: Vec<(String, OfRoute)>,
    /// Requests and connections, those of an hour ago half as much.
    pub(super) busy: u64,
}

/// What is kept of a rule.
#[derive(Debug, Default)]
pub(super) struct OfRoute {
    seconds: Slots,
    minutes: Slots,
}

impl Tier {
    pub(super) fn slot(self, now: Duration) -> u32 {
        u32::try_from(now.as_secs() / u64::from(self.width)).unwrap_or(u32::MAX)
    }

    pub(super) fn reaches(self, window: Duration) -> bool {
        window.as_secs() <= u64::from(self.width * self.slots)
    }

    /// The oldest slot that is kept.
    pub(super) fn oldest(self, now: Duration) -> u32 {
        self.slot(now).saturating_sub(self.slots)
    }
}

impl Ask {
    /// What it is answered from where nobody watches: the finest slots that reach so far back, and if there is more than one
    /// point the coarsest that can tell them apart.
    pub(super) fn tier(&self) -> Tier {
        let step = self.window.as_secs() / u64::from(self.points.max(1));
        let fine = self.points <= 1 || step < u64::from(MINUTES.width);
        match self.routes {
            true => ROUTE_MINUTES,
            false if fine && TENS.reaches(self.window) => TENS,
            false => MINUTES,
        }
    }
}

impl Kept {
    /// Adds what happened by a rule. `by_second`: somebody watches.
    pub(super) fn add(&mut self, route: String, totals: &Totals, now: Duration, by_second: bool) {
        if let Some(of) = self.route(route) {
            of.minutes.add(ROUTE_MINUTES.slot(now), totals, ROUTE_MINUTES.scale);
            if by_second {
                of.seconds.add(SECONDS.slot(now), totals, SECONDS.scale);
            }
        }
        let more = totals.requested().saturating_add(totals.flow.opened);
        self.busy = self.busy.saturating_add(more);
        self.tens.add(TENS.slot(now), totals, TENS.scale);
        self.minutes.add(MINUTES.slot(now), totals, MINUTES.scale);
        if by_second {
            self.seconds.add(SECONDS.slot(now), totals, SECONDS.scale);
        }
    }

    /// Where this rule is counted: under its name, as long as there is room for names; `None` if it is the only one.
    fn route(&mut self, name: String) -> Option<&mut OfRoute> {
        if self.routes.is_empty() {
            match self.only.take() {
                Some(only) if only != name => {
                    let (seconds, minutes) = (self.seconds.clone(), self.minutes.clone());
                    self.routes.push((only, OfRoute { seconds, minutes }));
                }
                _ => {
                    self.only = Some(name);
                    return None;
                }
            }
        }
        let at = |routes: &[(String, OfRoute)], name: &str| {
            routes.iter().position(|(known, _)| known == name)
        };
        let full = self.routes.len() >= MOST_ROUTES;
        let name = match at(&self.routes, &name) {
            None if full => "other".to_owned(),
            _ => name,
        };
        let at = at(&self.routes, &name).unwrap_or_else(|| {
            self.routes.push((name, OfRoute::default()));
            self.routes.len() - 1
        });
        self.routes.get_mut(at).map(|(_, of)| of)
    }

    /// Each rule that matched, and its slots: those of seconds, if they reach so far back.
    pub(super) fn of_routes(
        &self,
        window: Duration,
        by_second: bool,
    ) -> impl Iterator<Item = (&str, Tier, &Slots)> {
        let seconds = by_second && SECONDS.reaches(window);
        let only = self.only.as_deref().map(|only| (only, &self.seconds, &self.minutes));
        let several =
            self.routes.iter().map(|(name, of)| (name.as_str(), &of.seconds, &of.minutes));
        only.into_iter().chain(several).map(move |(name, by_second, by_minute)| match seconds {
            true => (name, SECONDS, by_second),
            false => (name, ROUTE_MINUTES, by_minute),
        })
    }

    /// The slots to answer from: those of seconds, if they reach so far back.
    pub(super) fn best(&self, ask: &Ask, by_second: bool) -> (Tier, &Slots) {
        match ask.tier() {
            _ if by_second && SECONDS.reaches(ask.window) => (SECONDS, &self.seconds),
            TENS => (TENS, &self.tens),
            tier => (tier, &self.minutes),
        }
    }

    pub(super) fn sweep(&mut self, now: Duration) {
        for (slots, tier) in
            [(&mut self.seconds, SECONDS), (&mut self.tens, TENS), (&mut self.minutes, MINUTES)]
        {
            slots.expire(tier.oldest(now));
        }
        self.routes.retain_mut(|(_, of)| {
            of.seconds.expire(SECONDS.oldest(now));
            of.minutes.expire(ROUTE_MINUTES.oldest(now));
            !of.minutes.is_empty()
        });
        // 360 sweeps are an hour.
        self.busy -= self.busy / 520;
    }

    /// Forgets the older half of its minutes, or where there are none of what is finer; up to when. `None`: there was nothing to
    /// forget.
    pub(super) fn halve(&mut self) -> Option<Duration> {
        let of_routes = self.routes.iter_mut().filter_map(|(_, of)| of.minutes.halve()).max();
        let until = |slot: Option<u32>, tier: Tier| {
            slot.map(|slot| Duration::from_secs((u64::from(slot) + 1) * u64::from(tier.width)))
        };
        until(self.minutes.halve().max(of_routes), MINUTES)
            .or_else(|| until(self.tens.halve(), TENS))
            .or_else(|| until(self.seconds.halve(), SECONDS))
    }

    pub(super) fn size(&self) -> usize {
        let own = self.seconds.size() + self.tens.size() + self.minutes.size();
        let route =
            |(_, of): &(String, OfRoute)| ROUTE_BYTES + of.seconds.size() + of.minutes.size();
        EDGE_BYTES + own + self.routes.iter().map(route).sum::<usize>()
    }

    /// Whether something happened within the last quarter of an hour.
    pub(super) fn is_busy(&self) -> bool {
        !self.tens.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tens.is_empty() && self.minutes.is_empty()
    }
}
