//! What is kept of one edge.

use std::time::Duration;

use super::Ask;
use crate::telemetry::slots::Slots;

/// Slots of one width.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tier {
    /// Seconds of a slot.
    pub(super) width: u32,
    /// How many are kept.
    pub(super) slots: u32,
    /// 2^this many buckets for each doubling of durations.
    pub(super) scale: i8,
}

pub(super) const SECONDS: Tier = Tier { width: 1, slots: 180, scale: 3 };
pub(super) const TENS: Tier = Tier { width: 10, slots: 90, scale: 3 };
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
    pub(super) seconds: Slots,
    pub(super) tens: Slots,
    pub(super) minutes: Slots,
    pub(super) routes: Vec<(String, OfRoute)>,
    /// When it began to be counted by the second.
    pub(super) by_second: Option<Duration>,
    /// Requests and connections, those of an hour ago half as much.
    pub(super) busy: u64,
}

/// What is kept of a rule.
#[derive(Debug, Default)]
pub(super) struct OfRoute {
    pub(super) seconds: Slots,
    pub(super) minutes: Slots,
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

impl Kept {
    /// Where this rule is counted: under its name, as long as there is room for names.
    pub(super) fn route(&mut self, name: String) -> &mut OfRoute {
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
        &mut self.routes[at].1
    }

    /// The slots to answer from: the finest that reach so far back, and if there is more than one point the coarsest that can
    /// tell them apart.
    pub(super) fn best(&self, ask: &Ask, by_second: bool) -> (Tier, &Slots) {
        let step = ask.window.as_secs() / u64::from(ask.points.max(1));
        if by_second && SECONDS.reaches(ask.window) {
            (SECONDS, &self.seconds)
        } else if TENS.reaches(ask.window) && (ask.points <= 1 || step < u64::from(MINUTES.width)) {
            (TENS, &self.tens)
        } else {
            (MINUTES, &self.minutes)
        }
    }

    pub(super) fn sweep(&mut self, now: Duration) {
        for (slots, tier) in
            [(&mut self.seconds, SECONDS), (&mut self.tens, TENS), (&mut self.minutes, MINUTES)]
        {
            slots.close(tier.slot(now), tier.scale);
            slots.expire(tier.oldest(now));
        }
        self.routes.retain_mut(|(_, of)| {
            of.seconds.close(SECONDS.slot(now), SECONDS.scale);
            of.seconds.expire(SECONDS.oldest(now));
            of.minutes.close(ROUTE_MINUTES.slot(now), ROUTE_MINUTES.scale);
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

    pub(super) fn is_empty(&self) -> bool {
        self.tens.is_empty() && self.minutes.is_empty()
    }
}
