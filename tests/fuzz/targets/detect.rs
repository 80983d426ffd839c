//! Protocol detection: a decision never changes when more bytes come, and comes within bounds.

#![cfg(not(test))]
#![no_main]

use libfuzzer_sys::fuzz_target;
use tulle_proxy::net::detect;

fuzz_target!(|seen: &[u8]| {
    let decisions = (1..=seen.len()).map(|end| seen.get(..end).and_then(detect::of));
    let mut decided = None;
    for decision in decisions {
        assert!(decided.is_none() || decided == decision, "{decided:?}, then {decision:?}");
        decided = decision;
    }
});
