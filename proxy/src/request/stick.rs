//! Which backend does a request stick to? Pure.
//!
//! To the bit what Envoy does (its `HashPolicy` and `WeightedCluster.use_hash_policy`), so that
//! callers agree whatever carries their requests: xxHash64, without a seed, of the text.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, header};
use tulle_xds::model::Stick;
use twox_hash::XxHash64;

/// The hash of what `stick` names; `None` if the request has no such thing.
pub fn hash(stick: &Stick, headers: &HeaderMap, client: IpAddr) -> Option<u64> {
    match stick {
        Stick::Header(name) => of_header(headers, name),
        Stick::Cookie(name) => cookie(headers, name.as_bytes()).map(of),
        Stick::SourceIp => Some(of(client.to_canonical().to_string().as_bytes())),
    }
}

fn of(text: &[u8]) -> u64 {
    XxHash64::oneshot(0, text)
}

/// Several values are hashed in the order of their bytes, each with the hash of those before as its seed.
fn of_header(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next()?, values.next());
    let Some(second) = second else {
        return Some(of(first.as_bytes()));
    };
    let mut all: Vec<_> = [first, second].into_iter().chain(values).collect();
    all.sort_unstable();
    Some(all.into_iter().fold(0, |seed, value| XxHash64::oneshot(seed, value.as_bytes())))
}

/// The value of the first cookie of this name, without its quotes, if there is one and it is not empty.
fn cookie<'a>(headers: &'a HeaderMap, name: &[u8]) -> Option<&'a [u8]> {
    let lines = headers.get_all(header::COOKIE).iter();
    let cookies = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b';'));
    let value = cookies.into_iter().find_map(|cookie| {
        let begin = cookie.iter().position(|&byte| byte != b' ')?;
        cookie[begin..].strip_prefix(name)?.strip_prefix(b"=")
    })?;
    let value = match value {
        [b'"', inside @ .., b'"'] => inside,
        bare => bare,
    };
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use http::HeaderValue;
    use proptest::prelude::*;
    use tulle_xds::model::Backend;

    use super::*;
    use crate::request::route::{Draw, choose};

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair =
            |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        lines.iter().map(pair).collect()
    }

    fn by_user() -> Stick {
        Stick::Header(HeaderName::from_static("x-user"))
    }

    #[test]
    fn the_hash_is_that_of_xxhash() {
        let client: IpAddr = "::ffff:10.244.0.7".parse().unwrap();
        let hash = |stick, lines: &[_]| hash(&stick, &headers(lines), client);
        // What `xxhsum -H64` says of these texts.
        for (value, sum) in [("", 0xef46_db37_51d8_e999), ("a", 0xd24e_c4f1_a98c_6e5b)] {
            assert_eq!(hash(by_user(), &[("x-user", value)]), Some(sum), "{value}");
        }
        let long = "Nobody inspects the spammish repetition";
        assert_eq!(hash(by_user(), &[("x-user", long)]), Some(0xfbce_a83c_8a37_8bf1));
        assert_eq!(hash(Stick::SourceIp, &[]), Some(of(b"10.244.0.7")));
        let v6 = "fd00:0:0::7".parse().unwrap();
        assert_eq!(super::hash(&Stick::SourceIp, &headers(&[]), v6), Some(of(b"fd00::7")));
    }

    #[test]
    fn only_what_is_there_has_a_hash() {
        let client = IpAddr::from([10, 244, 0, 7]);
        let session = || Stick::Cookie("sid".to_owned());
        for (stick, lines, text) in [
            (by_user(), &[("x-other", "ann")][..], None),
            (by_user(), &[("x-user", "ann")], Some("ann")),
            (session(), &[], None),
            (session(), &[("cookie", "a=1; sid=x7; b=2")], Some("x7")),
            (session(), &[("cookie", "a=1"), ("cookie", "sid=x7")], Some("x7")),
            (session(), &[("cookie", "sid=\"x7\"")], Some("x7")),
            (session(), &[("cookie", "sid=a=b")], Some("a=b")),
            (session(), &[("cookie", "sid=x7; sid=y")], Some("x7")),
            (session(), &[("cookie", "xsid=1; sidx=1; SID=1; sid; ;")], None),
            (session(), &[("cookie", "sid=; a=1")], None),
        ] {
            let expected = text.map(|text| of(text.as_bytes()));
            assert_eq!(hash(&stick, &headers(lines), client), expected, "{stick:?} {lines:?}");
        }
    }

    #[test]
    fn several_values_are_one_key_in_whatever_order_they_come() {
        let hash = |lines: &[_]| hash(&by_user(), &headers(lines), IpAddr::from([127, 0, 0, 1]));
        let (one, two) = (("x-user", "b"), ("x-user", "a"));
        // Stock Envoy 1.40 was asked.
        let both = Some(XxHash64::oneshot(of(b"a"), b"b"));
        assert_eq!([hash(&[one, two]), hash(&[two, one])], [both; 2]);
    }

    fn split(canary: u32) -> [Backend; 2] {
        [("canary", canary), ("stable", 10_000 - canary)].map(|(cluster, weight)| Backend {
            cluster: cluster.to_owned(),
            weight,
            filters: Vec::new(),
        })
    }

    /// Of 10,000 users those who go to the canary.
    fn who(canary: u32) -> HashSet<u32> {
        let backends = split(canary);
        let goes = |user: &u32| {
            choose(&backends, Draw::Hash(of(format!("user-{user}").as_bytes()))) == Some(0)
        };
        (0..10_000).filter(goes).collect()
    }

    #[test]
    fn nobody_who_was_in_leaves_while_the_share_grows() {
        let mut before = who(0);
        assert!(before.is_empty());
        for share in [1, 100, 500, 2500, 5000, 9999, 10_000] {
            let now = who(share);
            assert!(now.is_superset(&before), "{share}");
            // Five standard errors of so many coins.
            let p = f64::from(share) / 10_000.0;
            let bound = 5.0 * (10_000.0 * p * (1.0 - p)).sqrt();
            let off = (now.len() as f64 - f64::from(share)).abs();
            assert!(off <= bound, "{share}: {}", now.len());
            before = now;
        }
        assert_eq!(before.len(), 10_000);
    }

    proptest! {
        #[test]
        fn sets_are_nested(key: u64, less in 0..=10_000_u32, more in 0..=10_000_u32) {
            let (less, more) = (less.min(more), less.max(more));
            let goes = |share| choose(&split(share), Draw::Hash(key)) == Some(0);
            prop_assert!(!goes(less) || goes(more));
        }

        #[test]
        fn any_cookies_are_bounded(line in "[ =;\"sid]{0,30}") {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, line.parse().unwrap());
            if let Some(value) = cookie(&headers, b"sid") {
                prop_assert!(!value.is_empty() && !value.contains(&b';'));
            }
        }
    }
}
