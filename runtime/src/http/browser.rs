//! A page that somebody opens in a browser can make it ask any address that the browser reaches: by an
//! address, which the browser then says in `Origin`, or by a name of its own that it lets point there
//! ("DNS rebinding"), which the browser then says in `Host`. Neither gets an answer here.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header, uri::Authority};

use super::text;

/// Names end so that nobody can register: of the machine, the link, a private network (ICANN), and of
/// Services.
const PRIVATE: [&str; 4] = ["localhost", "local", "internal", "svc"];

/// By which names a server may be asked, beside its addresses, names of a single word, and those that
/// end in a domain that nobody can own. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Names {
    domains: Arc<[String]>,
    pages: bool,
}

impl Names {
    /// Also by names within these domains: a namespace, a cluster's domain.
    pub fn within(domains: impl IntoIterator<Item = String>) -> Self {
        let domains = domains.into_iter().map(|domain| domain.to_ascii_lowercase());
        Self { domains: domains.collect(), pages: false }
    }

    /// Also for pages that come from here.
    #[must_use]
    pub fn for_pages(self) -> Self {
        Self { pages: true, ..self }
    }

    /// What whoever sent this gets instead of an answer, if that may be a page in a browser.
    pub(super) fn refusal<B>(&self, request: &Request<B>) -> Option<Response<Bytes>> {
        if let Some(origin) = request.headers().get(header::ORIGIN)
            && !(self.pages && is_own(origin, request.headers()))
        {
            let told = format!(
                "nothing here is for pages of others in a browser, and {origin:?} sent this\n"
            );
            return Some(text(StatusCode::FORBIDDEN, told));
        }
        let wrong = hosts(request.uri(), request.headers()).find(|host| !self.are(host))?;
        let told = format!(
            "{wrong:?} is no name of this server (has a page lured a browser here?); ask by its \
             address, by localhost, or by the name of a Service\n"
        );
        Some(text(StatusCode::MISDIRECTED_REQUEST, told))
    }

    /// Whether the server may be asked by this host.
    fn are(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else {
            return false;
        };
        let name = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let within = |domain: &str| {
            name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let address = name.trim_start_matches('[').trim_end_matches(']');
        address.parse::<IpAddr>().is_ok()
            || !name.contains('.')
            || PRIVATE.into_iter().chain(self.domains.iter().map(String::as_str)).any(within)
    }
}

/// Whether a page was got from the host by which this is asked.
fn is_own(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST);
    host.is_some_and(|host| origin.as_bytes().strip_prefix(b"http://") == Some(host.as_bytes()))
}

/// Every host that a request says it is for. One of HTTP/1.0 may say none, which no browser does.
fn hosts<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> impl Iterator<Item = String> + 'a {
    let told = headers.get_all(header::HOST).into_iter();
    let told = told.map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    uri.authority().map(ToString::to_string).into_iter().chain(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let names = Names::within(["Shop".to_owned(), "k8s.example".to_owned()]);
        for (host, may) in [
            ("10.244.0.7:15021", true),
            ("10.244.0.7", true),
            ("[fd00::7]:15021", true),
            ("[::1]", true),
            ("localhost:15021", true),
            ("LOCALHOST", true),
            ("page.localhost", true),
            ("web", true),
            ("web:80", true),
            ("web.shop", true),
            ("web.shop.svc", true),
            ("web.shop.svc.cluster.local.", true),
            ("web.shop.svc.k8s.example:15021", true),
            ("node-1.internal", true),
            ("evil.example", false),
            ("evil.example:15021", false),
            ("web.other", false),
            ("evilshop.example", false),
            ("a.evil-k8s.example", false),
            ("web.shop.svc.evil.example", false),
            ("10.244.0.7.evil.example", false),
            ("localhost.evil.example", false),
            ("[fd00::7", false),
            ("a b", false),
            ("", false),
        ] {
            assert_eq!(names.are(host), may, "{host:?}");
        }
    }

    #[test]
    fn pages_of_its_own() {
        let names = Names::default();
        for (host, origin, own) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080", true),
            ("localhost:8080", "http://localhost:8080", true),
            ("127.0.0.1:8080", "http://127.0.0.1:8081", false),
            ("127.0.0.1:8080", "https://127.0.0.1:8080", false),
            ("127.0.0.1:8080", "http://evil.example", false),
            ("127.0.0.1:8080", "null", false),
            ("evil.example", "http://evil.example", false),
        ] {
            let request = Request::get("/").header(header::HOST, host);
            let request = request.header(header::ORIGIN, origin).body(()).unwrap();
            assert!(names.refusal(&request).is_some(), "{host} {origin}");
            let refused = names.clone().for_pages().refusal(&request).is_some();
            assert_eq!(refused, !own, "{host} {origin}");
        }
    }
}
