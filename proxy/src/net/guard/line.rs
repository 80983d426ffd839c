//! Single lines of HTTP/1, without their line ends. Pure.

use http::StatusCode;

use super::scan::Fault;

/// The octets of `tchar` (RFC 9110, 5.6.2).
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "counts to 255")]
        let octet = byte as u8;
        table[byte] = octet.is_ascii_alphanumeric()
            || matches!(
                octet,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};

/// What a request line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestLine {
    pub(super) is_http10: bool,
}

/// What a status line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StatusLine {
    pub(super) is_http10: bool,
    pub(super) status: u16,
}

/// A header field that is of interest here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// `Upgrade`.
    Upgrade,
    /// `Host`.
    Host,
    /// Any other.
    Other,
}

/// `GET /path HTTP/1.1`: one space each, nothing else that could part its words.
pub(super) fn request(line: &[u8]) -> Result<RequestLine, Fault> {
    let mut words = line.split(|&byte| byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let (Some(method), Some(target), Some(version), None) = (method, target, version, words.next())
    else {
        return Err(Fault::bad(
            "no request line of HTTP/1 (if the port speaks something else, correct its appProtocol or name)",
        ));
    };
    if !is_token(method) {
        return Err(Fault::bad("the method is not a token"));
    }
    if method == b"CONNECT" {
        let what = "CONNECT is for forward proxies, which this is not";
        return Err(Fault::new(StatusCode::NOT_IMPLEMENTED, what));
    }
    target_of(method, target)?;
    Ok(RequestLine { is_http10: is_http10(version)? })
}

/// RFC 9112, 3.2: a path, a URI with scheme, or `*` for OPTIONS. A fragment is never sent.
fn target_of(method: &[u8], target: &[u8]) -> Result<(), Fault> {
    let clean = target.iter().all(|&byte| byte > b' ' && byte != 0x7f && byte != b'#');
    let form = match target.first() {
        Some(b'/') => true,
        Some(b'*') => target == b"*" && method == b"OPTIONS",
        Some(_) => [&b"http://"[..], b"https://"].iter().any(|scheme| {
            target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        }),
        None => false,
    };
    if clean && form { Ok(()) } else { Err(Fault::bad("the request target is no path and no URI")) }
}

/// `HTTP/1.1 200 OK`, of which the phrase may be missing.
pub(super) fn status(line: &[u8]) -> Result<StatusLine, Fault> {
    let bad = || Fault::bad("the status line is not `VERSION STATUS PHRASE`");
    let (version, rest) = line.split_at_checked(8).ok_or_else(bad)?;
    let is_http10 = is_http10(version)?;
    let [b' ', digits @ ..] = rest else {
        return Err(bad());
    };
    let (digits, phrase) = digits.split_at_checked(3).ok_or_else(bad)?;
    let status = number(digits, 10).filter(|status| (100..1000).contains(status));
    let status = status.and_then(|status| u16::try_from(status).ok()).ok_or_else(bad)?;
    let well_formed = phrase.first().is_none_or(|&byte| byte == b' ') && is_text(phrase);
    if well_formed { Ok(StatusLine { is_http10, status }) } else { Err(bad()) }
}

fn is_http10(version: &[u8]) -> Result<bool, Fault> {
    match version {
        b"HTTP/1.1" => Ok(false),
        b"HTTP/1.0" => Ok(true),
        _ => Err(Fault::bad("the version is neither HTTP/1.1 nor HTTP/1.0")),
    }
}

/// `Name: value`.
pub(super) fn field(line: &[u8]) -> Result<Field, Fault> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Fault::bad("a header field is continued on another line"));
    }
    let Some(colon) = line.iter().position(|&byte| !TOKEN[usize::from(byte)]) else {
        return Err(Fault::bad("a header field has no colon"));
    };
    let (name, rest) = line.split_at(colon);
    match rest.first() {
        Some(b':') if !name.is_empty() => {}
        Some(b':') => return Err(Fault::bad("a header field has no name")),
        Some(b' ' | b'\t') => return Err(Fault::bad("a space before a header field's colon")),
        _ => return Err(Fault::bad("a header field's name is not a token")),
    }
    let value = rest.get(1..).unwrap_or_default();
    if !is_text(value) {
        return Err(Fault::bad("a control character in a header field"));
    }
    // Most names are told apart by their length alone.
    Ok(match name.len() {
        4 if name.eq_ignore_ascii_case(b"host") => Field::Host,
        7 if name.eq_ignore_ascii_case(b"upgrade") => Field::Upgrade,
        14 if name.eq_ignore_ascii_case(b"content-length") => Field::Length(length(value)?),
        17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
            if !trimmed(value).eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::bad("Transfer-Encoding is not `chunked`"));
            }
            Field::Chunked
        }
        _ => Field::Other,
    })
}

/// A number that signed 64-bit readers agree on.
fn length(value: &[u8]) -> Result<u64, Fault> {
    let length = number(trimmed(value), 10).filter(|length| i64::try_from(*length).is_ok());
    length.ok_or(Fault::bad("Content-Length is not one number"))
}

/// The size at the beginning of a chunk (RFC 9112, 7.1). What extensions say concerns nobody; a space
/// before them or after the size is read in different ways.
pub(super) fn chunk(line: &[u8]) -> Result<u64, Fault> {
    let end = line.iter().position(|&byte| byte == b';').unwrap_or(line.len());
    let (size, extension) = line.split_at(end);
    let size = number(size, 16).filter(|size| i64::try_from(*size).is_ok());
    match size {
        Some(size) if is_text(extension) => Ok(size),
        _ => Err(Fault::bad("a chunk has no proper size")),
    }
}

/// Digits and nothing else.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let start = (!digits.is_empty()).then_some(0_u64)?;
    digits.iter().try_fold(start, |number, &digit| {
        let digit = char::from(digit).to_digit(radix)?;
        number.checked_mul(radix.into())?.checked_add(digit.into())
    })
}

fn is_token(word: &[u8]) -> bool {
    !word.is_empty() && word.iter().all(|&byte| TOKEN[usize::from(byte)])
}

/// No control characters but the tab. Without a branch per byte, so that it is done many at a time.
fn is_text(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .fold(true, |text, &byte| text & ((byte >= b' ') | (byte == b'\t')) & (byte != 0x7f))
}

/// Without the spaces and tabs around it.
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
