//! Values in a query (RFC 3986, 2.1).

use std::fmt::Write as _;

/// `text` as a value in a query.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b',' => {
                escaped.push(byte.into());
            }
            _ => {
                // To a String it cannot fail.
                let _infallible = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}

/// What a value in a query stands for; `None` if it is no text.
pub(super) fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                let digits = std::str::from_utf8(digits).ok()?;
                // Not `+1`.
                digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = after;
            }
            b'+' => bytes.push(b' '),
            plain => bytes.push(*plain),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_text_is_refused() {
        for text in ["%", "%2", "%zz", "%+1", "%ff", "é%"] {
            assert_eq!(unescape(text), None, "{text}");
        }
        assert_eq!(unescape("a+b%20c"), Some("a b c".to_owned()));
        assert_eq!(escape("/a b&c=%\n"), "/a%20b%26c%3D%25%0A");
    }

    proptest! {
        #[test]
        fn there_and_back(text in any::<String>()) {
            let escaped = escape(&text);
            prop_assert!(escaped.bytes().all(|byte| byte.is_ascii_graphic() && !b"&=+#?".contains(&byte)));
            prop_assert_eq!(unescape(&escaped), Some(text));
        }
    }
}
