use std::{borrow::Cow, collections::HashMap as StdHashMap};

use proptest::prelude::*;

use tulle_xds::model;

use super::*;
use crate::telemetry::{
    Direction,
    edge::Server,
    series::{BOUNDS, Event, Status, Took},
    tags::{Label, Tag},
};

const MINUTE: u64 = 60_000;

fn edge(peer: &str) -> Edge<'_> {
    let (direction, peer, server) = (Direction::Inbound, ("shop", peer), Server::None);
    Edge { direction, peer, server, route: None, security: None, tags: &[] }
}

fn got(status: u16) -> Event {
    let kind = Kind::Http { method: "GET", status: Status::Exact(status), error: "" };
    Event {
        kind,
        times: 1,
        took: Some(Duration::from_millis(3)),
        received: 1,
        sent: 2,
        exemplar: None,
    }
}

/// One worker has counted this and nothing else.
fn add(table: &mut Table, peer: &str, event: Event, now: u64) {
    let mut tally = Tally::default();
    tally.count(&edge(peer), now, |counter| counter.count(&event));
    table.add(tally, now);
}

/// Peer, status and count of each series.
fn seen(table: &mut Table, now: u64) -> Vec<(String, Status, u64)> {
    let shown = table.show(now).into_iter().map(|shown| {
        let Kind::Http { status, .. } = shown.kind else { panic!("{shown:?}") };
        (shown.edge.edge().peer.1.to_owned(), status, shown.cells.times)
    });
    shown.collect()
}

fn is(peer: &str, status: Status, times: u64) -> (String, Status, u64) {
    (peer.to_owned(), status, times)
}

#[test]
fn what_happened_is_in_one_series_with_its_sums() {
    let mut table = Table::default();
    for took in [1, 3, 40_000] {
        let took = Some(Duration::from_millis(took));
        add(&mut table, "web", Event { took, ..got(200) }, 0);
    }
    let [shown] = &table.show(0)[..] else { panic!("one series") };
    let Cells { times, took: Took { classic, histogram, nanoseconds, .. }, received, sent } =
        &shown.cells;
    assert_eq!((classic[0], classic[2], classic[BOUNDS]), (1, 1, 1));
    assert_eq!(histogram.buckets().iter().map(|(_, times)| times).collect::<Vec<_>>(), [&1; 3]);
    assert_eq!((*times, *nanoseconds, *received, *sent), (3, 40_004_000_000, 3, 6));
}

#[test]
fn what_workers_count_is_added_up_and_too_much_is_handed_over() {
    let (mut table, mut tallies) = (Table::default(), [Tally::default(), Tally::default()]);
    for tally in &mut tallies {
        for peer in ["a", "b", "a"] {
            assert!(!tally.count(&edge(peer), 0, |counter| counter.count(&got(200))));
        }
    }
    tallies.iter_mut().for_each(|tally| table.add(tally.take(), 0));
    let ok = Status::Exact(200);
    let mut all = seen(&mut table, 0);
    all.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(all, [is("a", ok, 4), is("b", ok, 2)]);
    tallies.iter_mut().for_each(|tally| table.add(tally.take(), 0));
    assert_eq!(seen(&mut table, 0).iter().map(|(_, _, times)| times).sum::<u64>(), 6);
    let mut tally = Tally::default();
    let full = (0..)
        .take_while(|n| !tally.count(&edge(&n.to_string()), 0, |counter| counter.count(&got(200))))
        .count();
    assert_eq!(full, MOST - 1);
}

#[test]
fn what_is_taken_out_can_be_put_back_and_nothing_is_counted_twice() {
    let mut table = Table::new(2);
    // At times of their own, or any of the first two makes room.
    for (peer, now) in [("a", 0), ("b", 1), ("c", 2)] {
        add(&mut table, peer, got(200), now);
    }
    let taken = table.drain();
    assert_eq!((seen(&mut table, 2).len(), table.kept), (0, 0));
    add(&mut table, "b", got(200), 3);
    table.add(taken, 3);
    let mut all = seen(&mut table, 3);
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let ok = Status::Exact(200);
    assert_eq!(all, [is("b", ok, 2), is("c", ok, 1), is("other", ok, 1)]);
}

#[test]
fn the_edge_that_rested_longest_makes_room_as_other() {
    let mut table = Table::new(2);
    add(&mut table, "a", got(200), 1);
    add(&mut table, "b", got(200), 2);
    add(&mut table, "a", got(200), 3);
    add(&mut table, "c", got(503), 4);
    let (ok, bad) = (Status::Exact(200), Status::Exact(503));
    assert_eq!(seen(&mut table, 4), [is("a", ok, 2), is("other", ok, 1), is("c", bad, 1)]);
    assert_eq!(table.lost().series, 1);
    // What was shown is not shown again as another's; what was not, is.
    add(&mut table, "a", got(200), 5);
    add(&mut table, "d", got(200), 6);
    add(&mut table, "e", got(200), 7);
    let now = seen(&mut table, 7);
    assert_eq!(now, [is("other", ok, 2), is("d", ok, 1), is("e", ok, 1)]);
    assert_eq!(table.lost().series, 3);
}

#[test]
fn an_edge_alone_does_not_go_beyond_the_budget_either() {
    let mut table = Table::new(2);
    for status in [200, 201, 202, 203] {
        add(&mut table, "a", got(status), 0);
    }
    assert_eq!(seen(&mut table, 0).iter().filter(|(peer, ..)| peer == "a").count(), 2);
    assert_eq!((table.kept, table.lost().series), (2, 2));
}

#[test]
fn a_series_at_rest_for_ten_minutes_leaves_and_comes_back_from_nothing() {
    let mut table = Table::default();
    add(&mut table, "a", got(200), 0);
    add(&mut table, "a", got(404), 5 * MINUTE);
    assert_eq!(seen(&mut table, 10 * MINUTE - 1).len(), 2);
    let missing = Status::Exact(404);
    assert_eq!(seen(&mut table, 10 * MINUTE), [is("a", missing, 1)]);
    assert_eq!(seen(&mut table, 15 * MINUTE), []);
    assert_eq!((table.kept, table.edges.len()), (0, 0));
    add(&mut table, "a", got(200), 16 * MINUTE);
    assert_eq!(seen(&mut table, 16 * MINUTE), [is("a", Status::Exact(200), 1)]);
    assert_eq!(table.lost().series, 0, "what is over was not in the way");
}

#[test]
fn statuses_beyond_twelve_are_counted_by_class() {
    let mut table = Table::default();
    for status in 400..420 {
        add(&mut table, "a", got(status), 0);
    }
    add(&mut table, "a", got(500), 0);
    add(&mut table, "a", got(411), 0);
    add(&mut table, "b", got(419), 0);
    let seen = seen(&mut table, 0);
    let exact = |(peer, status, times): &(String, Status, u64)| {
        peer == "a" && matches!(status, Status::Exact(400..=411)) && *times >= 1
    };
    assert_eq!(seen.iter().filter(|series| exact(series)).count(), 12);
    for series in [is("a", Status::Exact(411), 2), is("a", Status::Class(4), 8)] {
        assert!(seen.contains(&series), "{seen:?}");
    }
    assert!(seen.contains(&is("a", Status::Class(5), 1)) && seen.len() == 15, "{seen:?}");
}

/// What one worker has counted, each by a tenant.
fn by_tenant(most: u32, counted: &[(&str, &str)], now: u64) -> Tally {
    let tag = model::Tag {
        name: "shop.tenant".to_owned(),
        expression: "route".to_owned(),
        max_values: most,
    };
    let (label, mut tally) = (Label::of(&tag), Tally::default());
    for (peer, tenant) in counted {
        let tags = [label.with(Cow::Borrowed(tenant))];
        let tags = if tenant.is_empty() { &[][..] } else { &tags };
        tally.count(&Edge { tags, ..edge(peer) }, now, |counter| counter.count(&got(200)));
    }
    tally
}

/// Peer, tenant and count of each series, in their order.
fn tenants(table: &mut Table, now: u64) -> Vec<(String, String, u64)> {
    let tenant = |tags: &[Tag<'_>]| tags.iter().map(|tag| tag.value.to_string()).collect();
    let shown = table.show(now).into_iter().map(|shown| {
        let edge = shown.edge.edge();
        (edge.peer.1.to_owned(), tenant(edge.tags), shown.cells.times)
    });
    let mut all: Vec<_> = shown.collect();
    all.sort();
    all
}

fn are(all: &[(&str, &str, u64)]) -> Vec<(String, String, u64)> {
    all.iter().map(|(peer, tenant, times)| (peer.to_string(), tenant.to_string(), *times)).collect()
}

#[test]
fn a_value_too_many_is_other_and_one_that_rested_makes_room() {
    let mut table = Table::default();
    let first = [("web", "blue"), ("web", ""), ("app", "blue"), ("web", "blue")];
    table.add(by_tenant(2, &first, 0), 0);
    table.add(by_tenant(2, &[("web", "red")], 6 * MINUTE), 6 * MINUTE);
    table.add(by_tenant(2, &[("web", "green"), ("app", "gold")], 7 * MINUTE), 7 * MINUTE);
    let expected = are(&[
        ("app", "blue", 1),
        ("app", "other", 1),
        ("web", "", 1),
        ("web", "blue", 2),
        ("web", "other", 1),
        ("web", "red", 1),
    ]);
    assert_eq!(tenants(&mut table, 7 * MINUTE), expected);
    assert_eq!(table.lost(), Lost { series: 0, values: 2 });
    // Blue is over, red is not; who comes as `other` takes no place.
    table.add(by_tenant(2, &[("web", "other"), ("web", "green")], 11 * MINUTE), 11 * MINUTE);
    table.add(by_tenant(2, &[("web", "gold")], 12 * MINUTE), 12 * MINUTE);
    let expected =
        are(&[("app", "other", 1), ("web", "green", 1), ("web", "other", 3), ("web", "red", 1)]);
    assert_eq!(tenants(&mut table, 12 * MINUTE), expected);
    // Of what comes at once the most frequent is first.
    let often =
        [("web", "a"), ("app", "b"), ("web", "c"), ("app", "c"), ("web", "d"), ("app", "c")];
    let mut fresh = Table::default();
    fresh.add(by_tenant(1, &often, 0), 0);
    assert!(tenants(&mut fresh, 0).contains(&are(&[("app", "c", 2)])[0]));
    assert_eq!(fresh.lost().values, 3);
    // More are told apart as soon as that is said.
    table.add(by_tenant(3, &[("web", "gold")], 13 * MINUTE), 13 * MINUTE);
    assert!(tenants(&mut table, 13 * MINUTE).contains(&are(&[("web", "gold", 1)])[0]));
}

#[test]
fn an_edge_that_becomes_other_leaves_its_values_and_tags() {
    let mut table = Table::new(2);
    for (now, tenant) in [(0, "blue"), (1, "red"), (2, "green")] {
        table.add(by_tenant(2, &[("web", tenant)], now), now);
    }
    // There were two of them, and two series.
    assert_eq!(
        tenants(&mut table, 2),
        are(&[("other", "", 1), ("web", "other", 1), ("web", "red", 1)])
    );
    assert_eq!(table.lost(), Lost { series: 1, values: 1 });
    table.add(by_tenant(2, &[("web", "gold")], 3), 3);
    assert_eq!(table.lost(), Lost { series: 2, values: 1 }, "blue has left its place");
    table.drain();
    table.add(by_tenant(1, &[("web", "blue")], 4), 4);
    assert_eq!(tenants(&mut table, 4), are(&[("web", "blue", 1)]));
}

#[test]
fn reports_have_each_edge_once_whatever_its_tags() {
    let tally = by_tenant(1, &[("web", "blue"), ("web", ""), ("web", "red"), ("app", "red")], 0);
    let mut unreported = Table::default();
    unreported.add(tally.untagged(), 0);
    let mut counted: Vec<_> = unreported
        .drain()
        .edges()
        .map(|(name, all)| {
            let [series] = all else { panic!("{all:?}") };
            (name.edge().peer.1.to_owned(), name.tags().len(), series.cells.times)
        })
        .collect();
    counted.sort();
    assert_eq!(counted, [("app".to_owned(), 0, 1), ("web".to_owned(), 0, 3)]);
}

proptest! {
    /// However many values come, and however few there may be, at most so many are told apart, and the sum is that of what came.
    #[test]
    fn values_are_bounded_and_every_event_is_counted(
        most in 1..5_u32,
        events in prop::collection::vec((0..3_usize, 0..12_usize, 0..400_000_u64), 0..100),
    ) {
        const PEERS: [&str; 3] = ["a", "b", "c"];
        let mut table = Table::new(9);
        let (mut now, mut total, mut last) = (0, 0, StdHashMap::new());
        for (peer, tenant, later) in &events {
            now += later;
            table.add(by_tenant(most, &[(PEERS[*peer], &tenant.to_string())], now), now);
            let mut values: Vec<_> = Vec::new();
            for Shown { edge, born, cells, .. } in table.show(now) {
                values.extend(edge.tags().iter().map(|tag| tag.value.to_string()));
                total += cells.times - last.insert(born, cells.times).unwrap_or(0);
            }
            values.retain(|value| value != "other");
            values.sort();
            values.dedup();
            prop_assert!(values.len() <= most as usize, "{values:?}");
        }
        prop_assert_eq!(total, events.len() as u64);
    }

    /// Whoever scrapes and adds up increases has every event once, whatever was folded meanwhile.
    #[test]
    fn every_event_is_shown_once(
        events in prop::collection::vec((0..9_usize, 0..4_u16, 0..30_000_u64, any::<bool>()), 0..200),
    ) {
        const PEERS: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        let mut table = Table::new(7);
        let (mut now, mut scraped_at) = (0, 0);
        let (mut total, mut last) = (0, StdHashMap::new());
        let mut scrape = |table: &mut Table, now| {
            for Shown { born, cells, .. } in table.show(now) {
                let before = last.insert(born, cells.times).unwrap_or(0);
                total += cells.times - before;
            }
            total
        };
        for (peer, status, later, scraped) in &events {
            now += later;
            add(&mut table, PEERS[*peer], got(200 + status), now);
            prop_assert!(table.kept <= 7);
            // Before anything is over.
            if *scraped || now - scraped_at > 5 * MINUTE {
                scrape(&mut table, now);
                scraped_at = now;
            }
        }
        let kept: usize = table.edges.iter().filter(|(name, _)| !name.edge().is_other())
            .map(|(_, all)| all.len()).sum();
        prop_assert_eq!(table.kept, kept);
        prop_assert_eq!(scrape(&mut table, now), events.len() as u64);
    }
}
