//! How many connections there may be, in all and of one source: a stranger gets its share and no
//! more.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use parking_lot::Mutex;

/// Places for connections. Clones share them.
#[derive(Debug, Clone)]
pub struct Room {
    in_all: usize,
    of_one: usize,
    taken: Arc<Mutex<Taken>>,
}

/// The place of one connection. Dropping it makes room.
#[derive(Debug)]
pub struct Place {
    source: Option<IpAddr>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    in_all: usize,
    of_one: HashMap<IpAddr, usize>,
}

impl Room {
    /// For so many connections, and so many of them from one address.
    pub fn new(in_all: usize, of_one: usize) -> Self {
        Self { in_all, of_one, taken: Arc::default() }
    }

    /// A place, unless all are taken or `source` has its share. Whoever has no address (on a Unix
    /// socket) has no share of its own.
    pub fn enter(&self, source: Option<IpAddr>) -> Option<Place> {
        let source = source.map(|ip| ip.to_canonical());
        let mut taken = self.taken.lock();
        let of_one = source.and_then(|ip| taken.of_one.get(&ip)).copied().unwrap_or(0);
        if taken.in_all >= self.in_all || of_one >= self.of_one {
            return None;
        }
        taken.in_all += 1;
        if let Some(ip) = source {
            taken.of_one.insert(ip, of_one + 1);
        }
        Some(Place { source, taken: Arc::clone(&self.taken) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        taken.in_all -= 1;
        let of_one = self.source.map(|ip| taken.of_one.entry(ip));
        if let Some(Entry::Occupied(mut of_one)) = of_one {
            *of_one.get_mut() -= 1;
            if *of_one.get() == 0 {
                of_one.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_its_share_and_all_together_theirs() {
        let room = Room::new(3, 2);
        let from = |text: &str| room.enter(Some(text.parse().unwrap()));
        let first = from("10.0.0.1");
        let second = from("::ffff:10.0.0.1");
        assert!(first.is_some() && second.is_some());
        assert!(from("10.0.0.1").is_none(), "the share is used up, in whatever form it comes");
        let other = from("10.0.0.2");
        assert!(other.is_some());
        assert!(from("10.0.0.3").is_none() && room.enter(None).is_none(), "all are taken");
        drop((first, other));
        assert!(from("10.0.0.1").is_some() && room.enter(None).is_some());
        drop(second);
        assert!(room.taken.lock().of_one.is_empty(), "nothing is kept of who is gone");
    }
}
