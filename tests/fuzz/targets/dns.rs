//! Questions for names, from the application: whatever the bytes are, they are passed on or answered,
//! an answer keeps to its limit or says that it is truncated, and the sidecar asks for no name that the
//! control plane could not know.

#![cfg(not(test))]
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use tulle_proxy::dns::message::{Question, cluster_name};

fuzz_target!(|data: &[u8]| {
    let [count, high, low, message @ ..] = data else { return };
    let Some(question) = Question::read(message) else { return };
    if let Some(name) = cluster_name(question.name(), "cluster.local") {
        assert!(name.ends_with(".svc.cluster.local") && name.len() <= 512, "{name}");
        assert_eq!(cluster_name(&name, "cluster.local").as_deref(), Some(name.as_str()));
    }
    let addresses: Vec<IpAddr> = (0..*count)
        .map(|n| {
            if n % 2 == 0 {
                IpAddr::from([10, 96, 0, n])
            } else {
                [0xfd00, 0, 0, 0, 0, 0, 0, n.into()].into()
            }
        })
        .collect();
    let limit = usize::from(u16::from_be_bytes([*high, *low]));
    let Some(answer) = question.answer(&addresses, limit) else { return };
    let truncated = answer.get(2).is_some_and(|flags| flags & 2 != 0);
    assert!(answer.len() <= limit || truncated, "{} bytes, {limit} allowed", answer.len());
    assert!(answer.get(..2) == message.get(..2), "the answer to another question");
});
