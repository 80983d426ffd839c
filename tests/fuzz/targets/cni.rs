//! What tulle-cni reads as root: a runtime's request, a network's configuration, and what any process
//! of the node says of itself.

#![cfg(not(test))]
#![no_main]

use libfuzzer_sys::fuzz_target;
use tulle_redirect::cni::{call::Call, conflist, waiting};

fuzz_target!(|data: &[u8]| {
    if let Err(failure) = Call::read(data) {
        assert!(failure.to_string().starts_with("tulle-cni: "), "{failure}");
    }
    drop(waiting::options(data));
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(plain) = conflist::remove(text) else { return };
    let plain = plain.unwrap_or_else(|| text.to_owned());
    // A list of ours alone has nothing left to be chained to.
    let Ok(Some(with)) = conflist::add(&plain) else { return };
    assert_eq!(conflist::add(&with), Ok(None), "it is there");
    assert_eq!(conflist::remove(&with), Ok(Some(plain)), "all else is as it was");
});
