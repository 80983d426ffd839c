//! What strangers' headers say of lanes: whatever else they say stays, and what is added is read again.

#![cfg(not(test))]
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use tulle_proxy::request::lane::said::{self, Said};

fuzz_target!(|bytes: &[u8]| {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(value) = HeaderValue::from_bytes(line) else { return };
        headers.append(HeaderName::from_static("baggage"), value.clone());
        headers.append(HeaderName::from_static("tracestate"), value);
    }
    let _any = said::state(&headers);
    said::take_out(&mut headers);
    assert_eq!(said::baggage(&headers), Said::Nothing);
    let others = headers.get("baggage").cloned();
    said::put(&mut headers, "pr-1");
    assert_eq!(said::baggage(&headers), Said::Lane(b"pr-1"));
    said::take_out(&mut headers);
    assert_eq!(
        headers.get("baggage").cloned().unwrap_or(HeaderValue::from_static("")),
        others.unwrap_or(HeaderValue::from_static(""))
    );
});
