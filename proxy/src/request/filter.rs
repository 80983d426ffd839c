//! Changes to requests and responses. Pure.

use http::{HeaderMap, HeaderValue, StatusCode, Uri, header, request::Parts, uri::PathAndQuery};
use tulle_xds::model::{Filter, HeaderModifier, PathMatch, PathRewrite, Redirect};

/// Applies the filters that concern a request, in order. `matched` is the condition on the path
/// that the rule had, of which a rewrite may replace the prefix.
pub fn request(filters: &[Filter], matched: &PathMatch, head: &mut Parts) {
    for filter in filters {
        match filter {
            Filter::RequestHeaders(change) => headers(change, &mut head.headers),
            Filter::Rewrite { host, path } => {
                if let Some(host) = host.as_deref().and_then(|h| HeaderValue::try_from(h).ok()) {
                    head.headers.insert(header::HOST, host);
                }
                if let Some(path) = path {
                    head.uri = rewritten(path, matched, &head.uri);
                }
            }
            Filter::ResponseHeaders(_) => {}
        }
    }
}

/// Applies the filters that concern a response, in order.
pub fn response(filters: &[Filter], head: &mut HeaderMap) {
    for filter in filters {
        if let Filter::ResponseHeaders(change) = filter {
            headers(change, head);
        }
    }
}

/// Status and `Location` of a redirect. `port` is the one that the client dialled.
pub fn redirect(
    redirect: &Redirect,
    matched: &PathMatch,
    head: &Parts,
    port: u16,
) -> (StatusCode, Option<HeaderValue>) {
    let scheme = redirect.scheme.as_deref().unwrap_or("http");
    let own = head.headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    let host = redirect.host.as_deref().unwrap_or_else(|| without_port(own));
    let well_known = if scheme == "https" { 443 } else { 80 };
    let kept = if redirect.scheme.is_some() { well_known } else { port };
    let port = redirect.port.unwrap_or(kept);
    let port = if port == well_known { String::new() } else { format!(":{port}") };
    let uri = match &redirect.path {
        Some(path) => rewritten(path, matched, &head.uri),
        None => head.uri.clone(),
    };
    let location = format!("{scheme}://{host}{port}{uri}");
    (redirect.status, HeaderValue::try_from(location).ok())
}

fn headers(change: &HeaderModifier, headers: &mut HeaderMap) {
    for (name, value) in &change.set {
        headers.insert(name, value.clone());
    }
    for (name, value) in &change.add {
        headers.append(name, value.clone());
    }
    for name in &change.remove {
        headers.remove(name);
    }
}

/// `uri` with another path and its own query.
fn rewritten(rewrite: &PathRewrite, matched: &PathMatch, uri: &Uri) -> Uri {
    let path = match rewrite {
        PathRewrite::Full(path) => path.clone(),
        PathRewrite::Prefix(new) => {
            let prefix = if let PathMatch::Prefix(prefix) = matched { prefix.as_str() } else { "" };
            let rest = uri.path().strip_prefix(prefix).unwrap_or_else(|| uri.path());
            format!("{}{rest}", new.trim_end_matches('/'))
        }
    };
    let slash = if path.starts_with('/') { "" } else { "/" };
    let text = match uri.query() {
        Some(query) => format!("{slash}{path}?{query}"),
        None => format!("{slash}{path}"),
    };
    PathAndQuery::try_from(text).map_or_else(|_invalid| uri.clone(), Uri::from)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(uri: &str) -> Parts {
        Request::builder().uri(uri).header("host", "a:9080").body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_prefix_is_replaced_by_segments() {
        let prefix = PathMatch::Prefix("/xyz".into());
        for (new, from, to) in [
            ("/abc", "/xyz/d?q=1", "/abc/d?q=1"),
            ("/abc/", "/xyz/d", "/abc/d"),
            ("/abc", "/xyz", "/abc"),
            ("/", "/xyz/d", "/d"),
            ("/", "/xyz", "/"),
        ] {
            let rewrite = PathRewrite::Prefix(new.into());
            assert_eq!(rewritten(&rewrite, &prefix, &from.parse().unwrap()), to);
        }
        let full = PathRewrite::Full("/new".into());
        assert_eq!(rewritten(&full, &prefix, &"/xyz/d?q".parse().unwrap()), "/new?q");
    }

    #[test]
    fn a_redirect_keeps_what_it_does_not_change() {
        let to = Redirect {
            scheme: None,
            host: None,
            port: None,
            path: None,
            status: StatusCode::FOUND,
        };
        let location = |to: &Redirect| {
            redirect(to, &PathMatch::default(), &head("/p?q"), 9080)
                .1
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(location(&to), "http://a:9080/p?q");
        let https = Redirect { scheme: Some("https".into()), ..to.clone() };
        assert_eq!(location(&https), "https://a/p?q");
        let elsewhere = Redirect { host: Some("b".into()), port: Some(80), ..to };
        assert_eq!(location(&elsewhere), "http://b/p?q");
    }

    #[test]
    fn headers_are_set_then_added_then_removed() {
        let pair = |name: &'static str, value: &'static str| {
            (http::HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let change = HeaderModifier {
            set: vec![pair("host", "b"), pair("x-gone", "1")],
            add: vec![pair("x-a", "1"), pair("x-a", "2")],
            remove: vec![http::HeaderName::from_static("x-gone")],
        };
        let mut head = head("/");
        request(&[Filter::RequestHeaders(change)], &PathMatch::default(), &mut head);
        assert_eq!(head.headers["host"], "b");
        assert_eq!(head.headers.get_all("x-a").iter().count(), 2);
        assert!(!head.headers.contains_key("x-gone"));
    }

    #[test]
    fn ports_are_cut_off_hosts_of_all_kinds() {
        for (host, name) in [("a:1", "a"), ("a", "a"), ("[::1]:1", "[::1]"), ("[::1]", "[::1]")] {
            assert_eq!(without_port(host), name);
        }
    }
}
