//! What headers say of lanes. Pure.
//!
//! `baggage` (<https://www.w3.org/TR/baggage/>): a member `tulle.lane=NAME`. `tracestate`: a member `tulle=lane:NAME`, as its keys have no
//! dots.

use http::{HeaderMap, HeaderName, HeaderValue};

const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
const STATE: HeaderName = HeaderName::from_static("tracestate");

/// The member of `baggage`.
const KEY: &str = "tulle.lane";
/// The member of `tracestate`, and what its value begins with.
const STATE_KEY: &[u8] = b"tulle";
const STATE_VALUE: &[u8] = b"lane:";

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'a> {
    /// Nothing about lanes.
    Nothing,
    /// That it is in this one.
    Lane(&'a [u8]),
    /// That it is in several, which is none.
    Several,
}

impl<'a> Said<'a> {
    fn all(names: impl Iterator<Item = &'a [u8]>) -> Self {
        names.fold(Self::Nothing, |before, name| match before {
            Self::Nothing => Self::Lane(name),
            Self::Lane(same) if same == name => before,
            Self::Lane(_) | Self::Several => Self::Several,
        })
    }
}

/// What its baggage says.
pub fn baggage(headers: &HeaderMap) -> Said<'_> {
    Said::all(members(headers, &BAGGAGE).filter_map(lane))
}

/// What the state of its trace says.
pub fn state(headers: &HeaderMap) -> Said<'_> {
    Said::all(
        members(headers, &STATE)
            .filter_map(|member| value_of(STATE_KEY, member)?.strip_prefix(STATE_VALUE)),
    )
}

/// Has its baggage say so, too, which says nothing of lanes yet.
pub fn put(headers: &mut HeaderMap, name: &str) {
    let own = [KEY, "=", name].concat();
    let all: Vec<_> = members(headers, &BAGGAGE).chain([own.as_bytes()]).collect();
    set(headers, &all.join(&b','));
}

/// Leaves nothing of lanes in its baggage.
pub fn take_out(headers: &mut HeaderMap) {
    let rest: Vec<_> = members(headers, &BAGGAGE).filter(|one| lane(one).is_none()).collect();
    match rest.join(&b',') {
        empty if empty.is_empty() => drop(headers.remove(BAGGAGE)),
        rest => set(headers, &rest),
    }
}

fn set(headers: &mut HeaderMap, list: &[u8]) {
    // It is made of what was a value before, and of names.
    if let Ok(value) = HeaderValue::from_bytes(list) {
        headers.insert(BAGGAGE, value);
    }
}

/// The members of a list, of all fields of this name together.
fn members<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let members = values.flat_map(|value| value.split(|byte| *byte == b','));
    members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// The lane that a member of `baggage` names.
fn lane(member: &[u8]) -> Option<&[u8]> {
    let bare = member.split(|byte| *byte == b';').next()?;
    value_of(KEY.as_bytes(), bare)
}

/// The value of a member with this key.
fn value_of<'a>(key: &[u8], member: &'a [u8]) -> Option<&'a [u8]> {
    let equals = member.iter().position(|byte| *byte == b'=')?;
    let (own, value) = member.split_at(equals);
    (own.trim_ascii() == key).then(|| value.get(1..).map(<[u8]>::trim_ascii)).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_lane_is_what_one_member_says() {
        let one = Said::Lane(b"pr-1");
        for (lines, said) in [
            (&[][..], Said::Nothing),
            (&["tulle.lane=pr-1"], one),
            (&[" a=b ,  tulle.lane = pr-1 ; ttl=1 , c=d"], one),
            (&["a=b", "tulle.lane=pr-1"], one),
            (&["tulle.lane=pr-1,tulle.lane=pr-1"], one),
            (&["tulle.lane=pr-1", "tulle.lane=pr-2"], Said::Several),
            (&["tulle.lane="], Said::Lane(b"")),
            (&["tulle.lane"], Said::Nothing),
            (&["a=tulle.lane=pr-1"], Said::Nothing),
            (&["a=b;tulle.lane=pr-1"], Said::Nothing),
            (&["Tulle.Lane=pr-1"], Said::Nothing),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| (BAGGAGE, *line)).collect();
            assert_eq!(baggage(&headers(&lines)), said, "{lines:?}");
        }
        for (line, said) in [
            ("tulle=lane:pr-1", one),
            ("ot=th:8, tulle=lane:pr-1", one),
            ("tulle=pr-1", Said::Nothing),
            ("tulle@x=lane:pr-1", Said::Nothing),
            ("tulle=lane:a,tulle=lane:b", Said::Several),
        ] {
            assert_eq!(state(&headers(&[(STATE, line)])), said, "{line}");
        }
    }

    #[test]
    fn what_others_say_stays() {
        let mut headers = headers(&[(BAGGAGE, "user=ann;p, tenant=9"), (BAGGAGE, "x=y")]);
        put(&mut headers, "pr-1");
        let all: Vec<_> = headers.get_all(BAGGAGE).iter().collect();
        assert_eq!(all, ["user=ann;p,tenant=9,x=y,tulle.lane=pr-1"]);
        take_out(&mut headers);
        assert_eq!(headers[BAGGAGE], "user=ann;p,tenant=9,x=y");
        let mut headers = HeaderMap::new();
        put(&mut headers, "pr-1");
        assert_eq!(headers[BAGGAGE], "tulle.lane=pr-1");
        take_out(&mut headers);
        assert!(headers.is_empty());
    }

    proptest! {
        #[test]
        fn any_baggage_is_read_and_keeps_its_other_members(
            values in prop::collection::vec("([ -~\\t]|tulle\\.lane=|,|;|=){0,20}", 0..3),
        ) {
            let mut headers: HeaderMap =
                values.iter().map(|value| (BAGGAGE, HeaderValue::from_str(value).unwrap())).collect();
            let others = |headers: &HeaderMap| {
                let others = members(headers, &BAGGAGE).filter(|member| lane(member).is_none());
                others.map(<[u8]>::to_vec).collect::<Vec<_>>()
            };
            let before = others(&headers);
            take_out(&mut headers);
            prop_assert_eq!(baggage(&headers), Said::Nothing);
            prop_assert_eq!(&others(&headers), &before);
            put(&mut headers, "pr-1");
            prop_assert_eq!(baggage(&headers), Said::Lane(b"pr-1"));
            prop_assert_eq!(&others(&headers), &before);
            let _any = state(&headers);
        }
    }
}
