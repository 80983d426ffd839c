//! Resources as a control plane sends them: the first byte says of which kind, the rest is the
//! message. What is understood is understood again from its own encoding, which is stable.

#![cfg(not(test))]
#![no_main]

use libfuzzer_sys::fuzz_target;
use tulle_xds::model::{Kind, Resource};

/// Names that the seeds have.
const NAMES: [&str; 4] =
    ["shop/cart-1", "service/shop/cart/80", "10.96.0.7:9080", "pod/shop/cart-1/80"];

fuzz_target!(|data: &[u8]| {
    let Some((first, message)) = data.split_first() else { return };
    let which = usize::from(*first);
    let Some(kind) = Kind::ALL.get(which % Kind::ALL.len()) else { return };
    let Some(name) = NAMES.get(which / Kind::ALL.len() % NAMES.len()) else { return };
    let Ok(resource) = Resource::decode(*kind, name, message) else { return };
    let bytes = resource.encode();
    let again = Resource::decode(*kind, name, &bytes);
    assert_eq!(again.as_ref(), Ok(&resource), "its own encoding is not understood");
    assert_eq!(resource.encode(), bytes, "encoding is not deterministic");
});
