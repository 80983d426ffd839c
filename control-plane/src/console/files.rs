//! The dashboard, as it was built with this program.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use tulle_runtime::http::{answer, text};

/// A file of the dashboard.
struct File {
    /// Below `/dashboard/`.
    path: &'static str,
    plain: &'static [u8],
    /// By gzip, RFC 1952.
    zipped: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/dashboard.rs"));

/// Nothing but what comes from here, no inline script or style.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
     worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The file that is asked for. `None`: it is none that the dashboard could have.
pub fn find(request: &Request<Bytes>) -> Option<Response<Bytes>> {
    let path = request.uri().path();
    if matches!(path, "/" | "/dashboard") {
        let mut moved = text(StatusCode::FOUND, "the dashboard is at dashboard/\n");
        let to = HeaderValue::from_static("./dashboard/");
        moved.headers_mut().insert(header::LOCATION, to);
        return Some(moved);
    }
    let path = path.strip_prefix("/dashboard/")?;
    let path = if path.is_empty() { "index.html" } else { path };
    let Some(file) = FILES.iter().find(|file| file.path == path) else {
        return Some(text(StatusCode::NOT_FOUND, missing()));
    };
    let coded = request.headers().get(header::ACCEPT_ENCODING);
    let zipped =
        coded.and_then(|coded| coded.to_str().ok()).is_some_and(|all| all.contains("gzip"));
    let bytes = if zipped { file.zipped } else { file.plain };
    let mut response = answer(StatusCode::OK, media(path), Bytes::from_static(bytes));
    let headers = response.headers_mut();
    let mut set =
        |name, value: &'static str| drop(headers.insert(name, HeaderValue::from_static(value)));
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::VARY, "accept-encoding");
    // The names of all but the page have a hash of what is in them.
    let kept = if path == "index.html" { "no-cache" } else { "max-age=31536000, immutable" };
    set(header::CACHE_CONTROL, kept);
    if zipped {
        set(header::CONTENT_ENCODING, "gzip");
    }
    Some(response)
}

fn missing() -> &'static str {
    match FILES.is_empty() {
        true => {
            "this control plane was built without the dashboard: `make dashboard`, then build it again\n"
        }
        false => "the dashboard has no such file\n",
    }
}

fn media(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str, coded: &str) -> Option<Response<Bytes>> {
        let request = Request::get(path).header(header::ACCEPT_ENCODING, coded);
        find(&request.body(Bytes::new()).unwrap())
    }

    #[test]
    fn the_dashboard_is_served_under_a_strict_policy() {
        assert!(get("/telemetry/stat", "").is_none());
        let moved = get("/", "").unwrap();
        assert_eq!(moved.status(), StatusCode::FOUND);
        assert_eq!(moved.headers()[header::LOCATION], "./dashboard/");
        assert_eq!(get("/dashboard/../secret", "").unwrap().status(), StatusCode::NOT_FOUND);
        // A build without it, as `cargo build` alone makes, says what to do.
        let Some(index) = FILES.iter().find(|file| file.path == "index.html") else {
            let missing = get("/dashboard/", "").unwrap();
            assert!(String::from_utf8_lossy(missing.body()).contains("make dashboard"));
            return;
        };
        let page = get("/dashboard/", "br").unwrap();
        assert_eq!(page.body(), index.plain);
        assert_eq!(page.headers()[header::CONTENT_SECURITY_POLICY], POLICY);
        let zipped = get("/dashboard/", "gzip, br").unwrap();
        assert_eq!(zipped.body(), index.zipped);
        assert_eq!(zipped.headers()[header::CONTENT_ENCODING], "gzip");
    }
}
