//! Certificate signing requests, from whoever reaches the control plane.

#![cfg(not(test))]
#![no_main]

use libfuzzer_sys::fuzz_target;
use tulle_control_plane::ca::csr;

fuzz_target!(|der: &[u8]| {
    // What is in it is the strangers'; that nothing panics is ours.
    drop(csr::public_key(der));
});
