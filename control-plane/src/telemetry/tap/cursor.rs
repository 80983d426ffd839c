//! How much a client was told, as a word that it gives back.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use prost::Message as _;
use tulle_proto::{replica::v1 as replica, telemetry::v1 as proto};

use crate::world::objects::Name;

/// Bytes of the word.
pub(super) const LONGEST: usize = 32 << 10;
/// Workers of one proxy of which it is known how much was told. What a proxy says of more is told again.
const WORKERS: usize = 256;

/// By a hash of the pod's name, which is long.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cursors(HashMap<u64, proto::Cursor>);

impl Cursors {
    /// The word read; `None` if it is none of ours.
    pub(super) fn read(word: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(word).ok()?;
        let pods = replica::Cursors::decode(bytes.as_slice()).ok()?.pods;
        Some(Self(pods.into_iter().filter_map(|pod| Some((pod.pod, pod.cursor?))).collect()))
    }

    pub(super) fn word(&self) -> String {
        let pods = self.0.iter();
        let pods = pods
            .map(|(pod, cursor)| replica::PodCursor { pod: *pod, cursor: Some(cursor.clone()) });
        let mut pods: Vec<_> = pods.collect();
        pods.sort_by_key(|pod| pod.pod);
        URL_SAFE_NO_PAD.encode(replica::Cursors { pods }.encode_to_vec())
    }

    pub(super) fn get(&self, pod: &Name) -> Option<&proto::Cursor> {
        self.0.get(&hash(pod))
    }

    pub(super) fn set(&mut self, pod: &Name, mut cursor: proto::Cursor) {
        cursor.ended.truncate(WORKERS);
        self.0.insert(hash(pod), cursor);
    }
}

/// FNV-1a of 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>): the same in all replicas, of all versions. Two pods that have
/// the same are told of anew, as a cursor of another process says nothing.
fn hash(pod: &Name) -> u64 {
    let bytes = pod.namespace.bytes().chain([b'/']).chain(pod.name.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_what_it_was_made_of() {
        let mut cursors = Cursors::default();
        let pods = ["web-1", "web-2"].map(|name| Name::new("shop", name));
        for (process, pod) in (1..).zip(&pods) {
            cursors.set(pod, proto::Cursor { process, ended: vec![7, 300] });
        }
        let read = Cursors::read(&cursors.word()).unwrap();
        assert_eq!(read, cursors);
        assert_eq!(read.get(&pods[1]).map(|cursor| cursor.process), Some(2));
        assert_eq!(read.get(&Name::new("shop", "web-3")), None);
        assert_eq!(Cursors::read(""), Some(Cursors::default()));
        for word in ["?", "AAAA", "Zm9vYmFy"] {
            assert_eq!(Cursors::read(word), None, "{word}");
        }
        // FNV's own test: "a" gives af63dc4c8601ec8c; here a slash comes before it.
        let many = proto::Cursor { process: 1, ended: vec![u64::MAX; 10_000] };
        for number in 0..10 {
            cursors.set(&Name::new("shop", number.to_string()), many.clone());
        }
        assert!(cursors.word().len() < 50_000);
    }
}
