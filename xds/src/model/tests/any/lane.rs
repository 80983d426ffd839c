use proptest::{collection::vec, prelude::*};

use super::{super::super::*, any_text, matches};

prop_compose! {
    pub(super) fn lane()(name in any_text(), entry in vec(matches(), 0..3)) -> Lane {
        // They say nothing of paths and methods.
        let bare = |told| Match { path: PathMatch::default(), method: None, ..told };
        Lane { name, entry: entry.into_iter().map(bare).collect() }
    }
}
