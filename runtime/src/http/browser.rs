//! A page that somebody opens in a browser can make it ask any address that the browser reaches: by an
//! address, which the browser then says in `Origin`, or by a name of its own that it lets point there
//! ("DNS rebinding"), which the browser then says in `Host`. Neither gets an answer here.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header, uri::Authority};

use super::text;

/// Names end so that nobody can register: of the machine, the link, a private network (ICANN), and of
/// Services.
const PRIVATE: [&str; 4] = ["localhost", "local", "internal", "svc"];

/// By which names a server may be asked, beside its addresses, names of a single word, and those that
/// end in a domain that nobody can own. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Names(Arc<[String]>);

impl Names {
    /// Also by names within these domains: a namespace, a cluster's domain.
    pub fn within(domains: impl IntoIterator<Item = String>) -> Self {
        Self(domains.into_iter().map(|domain| domain.to_ascii_lowercase()).collect())
    }

    /// What whoever sent this gets instead of an answer, if that may be a page in a browser.
    pub(super) fn refusal<B>(&self, request: &Request<B>) -> Option<Response<Bytes>> {
        if let Some(origin) = request.headers().get(header::ORIGIN) {
            let told =
                format!("nothing here is for pages in a browser, and {origin:?} sent this\n");
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
            || PRIVATE.into_iter().chain(self.0.iter().map(String::as_str)).any(within)
    }
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
}
