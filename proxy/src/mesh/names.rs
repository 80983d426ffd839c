//! Which server does a TLS client mean?

use std::collections::HashMap;

use tulle_xds::model::{Backend, Listener};

use super::Destination;
use crate::net::detect::Spoken;

/// A listener's server names, each with the index of its group.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<String, usize>);

impl Names {
    pub(crate) fn of(listener: &Listener) -> Self {
        let groups = listener.by_name.iter().enumerate();
        let names = groups.flat_map(|(at, group)| group.names.iter().map(move |name| (name, at)));
        Self(names.map(|(name, at)| (name.clone(), at)).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The group of a name: the whole name's, or that of the longest `*.` that it ends in.
    fn find(&self, name: &str) -> Option<usize> {
        let name = name.to_ascii_lowercase();
        let tails = std::iter::successors(name.split_once('.'), |(_, tail)| tail.split_once('.'));
        let mut tails = tails.take_while(|(label, _)| !label.is_empty());
        let whole = self.0.get(&name);
        let wild = || tails.find_map(|(_, tail)| self.0.get(&format!("*.{tail}")));
        whole.or_else(wild).copied()
    }
}

impl Destination {
    /// Where a client goes that begins so, if its server has a name of its own here.
    pub(crate) fn named(&self, spoken: &Spoken) -> Option<&[Backend]> {
        let Spoken::Tls(hello) = spoken else {
            return None;
        };
        let at = self.names.find(hello.server_name.as_deref()?)?;
        Some(&self.listener.by_name.get(at)?.backends)
    }

    /// Whether what a client begins with decides where it goes.
    pub(crate) fn takes(&self, spoken: &Spoken) -> bool {
        let http = spoken.is_http() && self.listener.route.is_some();
        http || self.named(spoken).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_name_then_the_longest_ending() {
        let names = ["a.shop.example", "*.shop.example", "*.example", "single"];
        let names = Names(names.into_iter().map(str::to_owned).zip(0..).collect());
        for (name, group) in [
            ("a.shop.example", Some(0)),
            ("A.Shop.Example", Some(0)),
            ("b.shop.example", Some(1)),
            ("x.y.shop.example", Some(1)),
            ("shop.example", Some(2)),
            ("example", None),
            (".example", None),
            ("single", Some(3)),
            ("a.single", None),
            ("*.example", Some(2)),
            ("", None),
        ] {
            assert_eq!(names.find(name), group, "{name}");
        }
    }
}
