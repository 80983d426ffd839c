//! Heads of messages at the edges of a proxy: what is refused, what is removed, what is added.
//! Pure.

use std::net::SocketAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, Version, header,
    request::Parts, uri::Authority,
};
use hyper::ext::ReasonPhrase;
use tulle_xds::model::ClientCert;

use crate::{
    error::{Error, Reason},
    net::guard::scan::Bounds,
    tls::Peer,
};

/// Says to a caller's proxy: this request never reached the application.
pub const NOT_REACHED: HeaderName = HeaderName::from_static("x-tulle-not-reached");
/// Its value where the application is well, but its pod about to end.
pub const ENDING: HeaderValue = HeaderValue::from_static("ending");
/// Says to a client why a proxy made up this response.
pub const REASON: HeaderName = HeaderName::from_static("x-tulle-reason");
/// Says to the server's proxy which version the client spoke.
pub const HTTP_VERSION: HeaderName = HeaderName::from_static("x-tulle-http-version");
/// Says to the server's proxy that this is a copy, whose answer nobody waits for.
pub const COPY: HeaderName = HeaderName::from_static("x-tulle-mirror");
/// Says to the client's proxy the reason phrase of an HTTP/1 response, if it is not its status's own.
pub const PHRASE: HeaderName = HeaderName::from_static("x-tulle-reason-phrase");
/// Who called, by Envoy's convention:
/// <https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#x-forwarded-client-cert>.
pub const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const OURS: &str = "x-tulle-";
/// Into which lane a request wants to go. It is its client's to say, to any proxy on the way.
pub const LANE: HeaderName = HeaderName::from_static("x-tulle-lane");

/// What a request's head said about the connection that it came on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The version that the client spoke, to the first proxy on the way.
    pub version: Version,
    /// The protocol that an HTTP/1.1 client wants to change to.
    pub upgrade: Option<HeaderValue>,
    /// Whether it is a copy that the client's proxy made.
    pub copy: bool,
}

/// Takes a request off the connection that it came on: afterwards its authority is in `Host`, its
/// URI is a path, and nothing is left that concerned that connection alone. `from_sidecar` says
/// whether the other end of the connection is a proxy of ours, by mTLS; `fallback` is the host of
/// an HTTP/1.0 request that names none.
///
/// # Errors
/// [`Reason::Protocol`] if two parsers could read the head differently, or if it is for a forward
/// proxy (`CONNECT`).
pub fn receive(
    head: &mut Parts,
    from_sidecar: bool,
    fallback: SocketAddr,
) -> Result<Received, Error> {
    if head.method == Method::CONNECT {
        let error = refused("CONNECT is for forward proxies, which this is not");
        return Err(error.with_status(StatusCode::NOT_IMPLEMENTED));
    }
    framing(&head.headers)?;
    // A sidecar has said all that its client said; HTTP/1.0 needs no host.
    let needs_host = !from_sidecar && head.version != Version::HTTP_10;
    authority(head, (!needs_host).then_some(fallback))?;
    let spoken = head.headers.get(HTTP_VERSION).filter(|_| from_sidecar);
    let version = match spoken.map(HeaderValue::as_bytes) {
        Some(b"1.1" | b"HTTP/1.1") => Version::HTTP_11,
        Some(b"1.0" | b"HTTP/1.0") => Version::HTTP_10,
        _ => head.version,
    };
    let upgrade = wanted_upgrade(head);
    let copy = from_sidecar && head.headers.contains_key(COPY);
    remove_ours(&mut head.headers, None);
    remove_hop_by_hop(&mut head.headers);
    Ok(Received { version, upgrade, copy })
}

/// Takes a response off the connection that it came on. `from_sidecar`: it comes from a proxy of
/// ours, whose reason is meant for the client, and which says what HTTP/2 has no place for.
pub fn receive_response<B>(response: &mut Response<B>, from_sidecar: bool) {
    let phrase = response.headers_mut().remove(PHRASE).filter(|_| from_sidecar);
    if let Some(Ok(phrase)) = phrase.map(|phrase| ReasonPhrase::try_from(phrase.as_bytes())) {
        response.extensions_mut().insert(phrase);
    }
    remove_ours(response.headers_mut(), from_sidecar.then_some(&REASON));
    remove_hop_by_hop(response.headers_mut());
}

/// Tells the client's proxy the reason phrase of a response that goes there by HTTP/2.
pub fn set_phrase<B>(response: &mut Response<B>) {
    let phrase = response.extensions().get::<ReasonPhrase>();
    if let Some(Ok(phrase)) = phrase.map(|phrase| HeaderValue::from_bytes(phrase.as_bytes())) {
        response.headers_mut().insert(PHRASE, phrase);
    }
}

/// Whether a request's head is within bounds that HTTP/2 itself does not have.
///
/// # Errors
/// 414 or 431.
pub fn within(head: &Parts, bounds: &Bounds) -> Result<(), Error> {
    let path = head.uri.path_and_query().map_or(0, |path| path.as_str().len());
    let authority = head.uri.authority().map_or(0, |authority| authority.as_str().len());
    if path + authority > bounds.uri_bytes {
        return Err(refused("the URI is too long").with_status(StatusCode::URI_TOO_LONG));
    }
    if head.headers.len() > bounds.fields {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(refused("too many header fields").with_status(status));
    }
    Ok(())
}

/// Tells the application who called. What the client says of itself is removed, unless it came over
/// mTLS and the caller is to be added to it.
pub fn set_client_cert(headers: &mut HeaderMap, how: ClientCert, own: &str, peer: Option<&Peer>) {
    let kept = match (how, peer) {
        (ClientCert::Append, Some(_)) => headers.get_all(CLIENT_CERT).iter().cloned().collect(),
        _ => Vec::new(),
    };
    headers.remove(CLIENT_CERT);
    let Some(peer) = peer.filter(|_| how != ClientCert::Remove) else {
        return;
    };
    let caller = format!("By={own};URI={}", peer.id);
    let all = kept.iter().map(HeaderValue::as_bytes).chain([caller.as_bytes()]);
    if let Ok(value) = HeaderValue::from_bytes(&all.collect::<Vec<_>>().join(&b","[..])) {
        headers.insert(CLIENT_CERT, value);
    }
}

/// Tells the next proxy which version the client spoke; nothing if it is HTTP/2.
pub fn set_version(headers: &mut HeaderMap, version: Version) {
    let text = match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_11 => "1.1",
        _ => return,
    };
    headers.insert(HTTP_VERSION, HeaderValue::from_static(text));
}

/// Tells the next proxy that this is a copy.
pub fn set_copy(headers: &mut HeaderMap) {
    headers.insert(COPY, HeaderValue::from_static("1"));
}

/// Puts the wish for another protocol back onto a connection.
pub fn set_upgrade(headers: &mut HeaderMap, protocol: &HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol.clone());
}

/// Whether the message is gRPC (`application/grpc`, `application/grpc+proto`, …, not gRPC-Web).
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    kind.strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// RFC 9112, 6.3: lengths that could be read in two ways are smuggling's tools. In HTTP/1 the guard in
/// front of the codec has refused them by now.
fn framing(headers: &HeaderMap) -> Result<(), Error> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        let digits = !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit);
        if !digits || lengths.next().is_some() {
            return Err(refused("content-length is not one number"));
        }
        if headers.contains_key(header::TRANSFER_ENCODING) {
            return Err(refused("content-length beside transfer-encoding"));
        }
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && (!coding.as_bytes().eq_ignore_ascii_case(b"chunked") || codings.next().is_some())
    {
        return Err(refused("a transfer-encoding other than chunked"));
    }
    Ok(())
}

/// Moves the request's authority to `Host` (RFC 9112, 3.2; RFC 9113, 8.3.1).
fn authority(head: &mut Parts, fallback: Option<SocketAddr>) -> Result<(), Error> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = hosts.next().cloned();
    if hosts.next().is_some() {
        return Err(refused("more than one Host"));
    }
    let in_uri = head.uri.authority().map(|a| a.as_str().to_owned());
    let text = match (in_uri, host) {
        (Some(in_uri), Some(host)) => {
            if !host.as_bytes().eq_ignore_ascii_case(in_uri.as_bytes()) {
                return Err(refused("Host differs from the URI's authority"));
            }
            in_uri
        }
        (Some(in_uri), None) if head.version != Version::HTTP_11 => in_uri,
        (None, Some(host)) => match host.to_str() {
            Ok(text) => text.to_owned(),
            Err(_not_text) => return Err(refused("Host is not text")),
        },
        (_, None) => match fallback.filter(|_| head.version != Version::HTTP_11) {
            Some(fallback) => fallback.to_string(),
            None => return Err(refused("no Host")),
        },
    };
    // An empty Host is allowed (RFC 9112, 3.2): it is what a URI without authority gives.
    let well_formed = text.is_empty() || Authority::try_from(text.as_str()).is_ok();
    if !well_formed || text.contains('@') {
        return Err(refused("Host is not a host"));
    }
    let Ok(value) = HeaderValue::try_from(&text) else {
        return Err(refused("Host is not text"));
    };
    head.headers.insert(header::HOST, value);
    if head.uri.authority().is_some() || head.uri.scheme().is_some() {
        let path = head.uri.path_and_query().cloned();
        head.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    Ok(())
}

/// `Upgrade` if `Connection` lists it. HTTP/2 by upgrade is over (RFC 9113, 3.1): such a request is
/// served in its own version.
fn wanted_upgrade(head: &Parts) -> Option<HeaderValue> {
    let listed = head.version == Version::HTTP_11
        && connection_options(&head.headers).any(|option| option.eq_ignore_ascii_case("upgrade"));
    let protocol = head.headers.get(header::UPGRADE).filter(|_| listed)?;
    (!protocol.as_bytes().eq_ignore_ascii_case(b"h2c")).then(|| protocol.clone())
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok());
    lists.flat_map(|list| list.split(',').map(str::trim)).filter(|option| !option.is_empty())
}

/// RFC 9110, 7.6.1: what `Connection` lists, and what is known to be for one connection. `TE:
/// trailers` stays, gRPC wants it.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let listed: Vec<_> = connection_options(headers)
            .filter_map(|option| HeaderName::try_from(option).ok())
            // Whoever lists these asks a proxy to hide them from the server.
            .filter(|name| !matches!(*name, header::HOST | header::CONTENT_LENGTH | header::TE))
            .collect();
        for name in listed {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    if let Some(te) = headers.remove(header::TE)
        && te
            .to_str()
            .is_ok_and(|te| te.split(',').any(|c| c.trim().eq_ignore_ascii_case("trailers")))
    {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    for name in
        [header::TRANSFER_ENCODING, header::UPGRADE, KEEP_ALIVE, PROXY_CONNECTION, HTTP2_SETTINGS]
    {
        headers.remove(name);
    }
}

/// Removes our own headers but for `keep`, and for what clients say.
fn remove_ours(headers: &mut HeaderMap, keep: Option<&HeaderName>) {
    let is_ours = |name: &&HeaderName| {
        name.as_str().starts_with(OURS) && Some(*name) != keep && *name != LANE
    };
    let ours: Vec<_> = headers.keys().filter(is_ours).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
}

fn refused(detail: &'static str) -> Error {
    Error::new(Reason::Protocol, detail)
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    const FALLBACK: &str = "10.0.0.1:80";

    fn head(version: Version, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().version(version).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn receive_all(version: Version, uri: &str, headers: &[(&str, &str)]) -> Result<Parts, Error> {
        let mut head = head(version, uri, headers);
        receive(&mut head, false, FALLBACK.parse().unwrap()).map(|_| head)
    }

    #[test]
    fn heads_that_can_be_read_in_two_ways_are_refused() {
        for headers in [
            &[("host", "a"), ("host", "b")][..],
            &[("host", "a"), ("content-length", "1"), ("content-length", "1")],
            &[("host", "a"), ("content-length", "+1")],
            &[("host", "a"), ("content-length", "1"), ("transfer-encoding", "chunked")],
            &[("host", "a"), ("transfer-encoding", "gzip, chunked")],
            &[("host", "user@a")],
            &[("host", "a/b")],
            &[],
        ] {
            let error = receive_all(Version::HTTP_11, "/", headers).unwrap_err();
            assert_eq!(error.reason(), Reason::Protocol, "{headers:?}");
        }
        for version in [Version::HTTP_11, Version::HTTP_2] {
            assert!(receive_all(version, "http://a/", &[("host", "b")]).is_err());
        }
        assert!(receive_all(Version::HTTP_11, "http://a/", &[]).is_err());
    }

    #[test]
    fn the_authority_is_in_host_and_the_uri_is_a_path() {
        for (version, uri, headers, host) in [
            (Version::HTTP_11, "/x?y", &[("host", "a:8")][..], "a:8"),
            (Version::HTTP_11, "http://b/x?y", &[("host", "B")], "b"),
            (Version::HTTP_2, "http://a/x?y", &[], "a"),
            (Version::HTTP_10, "/x?y", &[], "10.0.0.1:80"),
        ] {
            let head = receive_all(version, uri, headers).unwrap();
            assert_eq!(
                (head.uri.to_string().as_str(), &head.headers["host"]),
                ("/x?y", &HeaderValue::from_static(host))
            );
        }
    }

    #[test]
    fn what_concerns_one_connection_goes_and_the_rest_stays() {
        let headers = [
            ("host", "a"),
            ("connection", "x-private, keep-alive, te"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip, trailers"),
            ("x-tulle-not-reached", "1"),
            ("x-tulle-lane", "pr-1"),
            ("x-other", "2"),
        ];
        let head = receive_all(Version::HTTP_11, "/", &headers).unwrap();
        let mut left: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["host", "te", "x-other", "x-tulle-lane"]);
        assert_eq!(head.headers["te"], "trailers");
    }

    #[test]
    fn only_a_sidecar_may_say_what_the_client_spoke() {
        for (from_sidecar, version) in [(true, Version::HTTP_11), (false, Version::HTTP_2)] {
            let mut head = head(Version::HTTP_2, "http://a/", &[("x-tulle-http-version", "1.1")]);
            assert_eq!(
                receive(&mut head, from_sidecar, FALLBACK.parse().unwrap()).unwrap().version,
                version
            );
            assert!(!head.headers.contains_key(HTTP_VERSION));
        }
    }

    #[test]
    fn a_websocket_is_an_upgrade_and_h2c_is_not() {
        let upgrade = |protocol: &str| {
            let headers =
                [("host", "a"), ("connection", "keep-alive, Upgrade"), ("upgrade", protocol)];
            receive(&mut head(Version::HTTP_11, "/", &headers), false, FALLBACK.parse().unwrap())
                .unwrap()
                .upgrade
        };
        assert_eq!(upgrade("websocket"), Some(HeaderValue::from_static("websocket")));
        assert_eq!(upgrade("h2c"), None);
    }

    proptest! {
        #[test]
        fn nothing_of_ours_gets_through(names in prop::collection::vec("(x-tulle-)?[a-z]{1,8}", 0..8)) {
            let mut headers: Vec<_> = names.iter().map(|n| (n.as_str(), "1")).collect();
            headers.retain(|(name, _)| !matches!(*name, "host" | "te" | "upgrade"));
            headers.push(("host", "a"));
            let head = receive_all(Version::HTTP_11, "/", &headers).unwrap();
            let is_ours = |name: &HeaderName| name.as_str().starts_with(OURS) && *name != LANE;
            prop_assert!(!head.headers.keys().any(is_ours));
        }
    }
}
