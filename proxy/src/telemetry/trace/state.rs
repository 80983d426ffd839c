//! `tracestate`: <https://www.w3.org/TR/trace-context-2/#tracestate-header>. It is others', and passes as it came.

use http::{HeaderMap, HeaderValue};

use super::STATE;

/// Members of a list.
const MOST_MEMBERS: usize = 32;
/// Bytes of a key, of a value.
const MOST_BYTES: usize = 256;

/// Makes one value of those that there are. What is not well formed is removed as a whole, as the specification says, and
/// so is a list without members. What is left.
pub(super) fn keep(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let mut all = headers.get_all(&STATE).iter();
    let first = all.next()?.clone();
    let combined = match all.next() {
        None => Some(first),
        Some(second) => {
            let values = [&first, second].into_iter().chain(all).map(HeaderValue::as_bytes);
            let values: Vec<_> = values.filter(|value| !value.trim_ascii().is_empty()).collect();
            HeaderValue::from_bytes(&values.join(&b","[..])).ok()
        }
    };
    let kept = combined.filter(|value| is_well_formed(value.as_bytes()));
    match &kept {
        Some(value) => drop(headers.insert(STATE, value.clone())),
        None => drop(headers.remove(STATE)),
    }
    kept
}

/// Whether it is a list with members.
fn is_well_formed(list: &[u8]) -> bool {
    let mut keys: Vec<&[u8]> = Vec::new();
    for member in list.split(|byte| *byte == b',').map(trim) {
        if member.is_empty() {
            continue;
        }
        let Some(equals) = member.iter().position(|byte| *byte == b'=') else {
            return false;
        };
        let (key, value) = (&member[..equals], &member[equals + 1..]);
        if !is_key(key) || !is_value(value) || keys.contains(&key) || keys.len() == MOST_MEMBERS {
            return false;
        }
        keys.push(key);
    }
    !keys.is_empty()
}

/// Without the white space around it. What is before a value is a part of it.
fn trim(member: &[u8]) -> &[u8] {
    member.trim_ascii()
}

/// Level 2 lets `@` be anywhere; level 1 has one, between a tenant and its system, and whoever reads by level 1 would throw
/// the whole list away for it.
fn is_key(key: &[u8]) -> bool {
    let begins = |part: &[u8]| matches!(part.first(), Some(b'a'..=b'z' | b'0'..=b'9'));
    let goes_on = |part: &[u8]| {
        let is_of =
            |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
        part.iter().all(is_of)
    };
    let is_part = |part: &[u8], most| part.len() <= most && begins(part) && goes_on(part);
    match key.iter().position(|byte| *byte == b'@') {
        None => is_part(key, MOST_BYTES),
        Some(at) => is_part(&key[..at], 241) && is_part(&key[at + 1..], 14),
    }
}

fn is_value(value: &[u8]) -> bool {
    let printable = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'=');
    !value.is_empty() && value.len() <= MOST_BYTES && value.iter().all(printable)
}
