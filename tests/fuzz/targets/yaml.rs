//! Policy YAML: nothing panics or takes long, and what cannot be read is named.

#![cfg(not(test))]
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tulle_control_plane::files;

fuzz_target!(|text: &[u8]| {
    let parsed = files::parse(Path::new("policy.yaml"), text);
    assert!(!parsed.unreadable || !parsed.problems.is_empty(), "unreadable, and nobody says why");
    assert!(
        parsed.rejected.is_empty() || !parsed.problems.is_empty(),
        "rejected, and nobody says why: {:?}",
        parsed.rejected
    );
    for problem in &parsed.problems {
        assert!(!problem.reason.is_empty(), "a problem without a reason: {problem:?}");
    }
});
