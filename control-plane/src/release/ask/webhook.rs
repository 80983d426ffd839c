//! A webhook: who is asked, what, and what the answer means.

use std::{net::SocketAddr, path::Path};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use serde::Serialize;
use tokio::net::{TcpStream, lookup_host};
use tulle_api::ReleasePhase as Phase;
use tulle_runtime::http::within;

use super::hosts::{AllowedHost, address, forbidden};
use crate::{
    release::{Answer, Course, Gate},
    server::outward,
    world::release::Release,
};

/// Most bytes of an answer, of which a line is kept.
const LARGEST: usize = 64 << 10;
/// As people know the file with authorities.
const AUTHORITIES: &str = "--release-ca";

/// What is asked.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Question<'a> {
    /// `NAMESPACE/NAME`.
    release: String,
    namespace: &'a str,
    name: &'a str,
    revision: Revision<'a>,
    /// The gate; none where it is about a step that shall begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    gate: Option<&'a str>,
    /// The step that it is in or that shall begin, from 1 on; 0: none.
    step: usize,
    /// Percent: those of steps are whole.
    weight: u16,
    phase: Phase,
}

#[derive(Serialize)]
struct Revision<'a> {
    stable: &'a str,
    canary: &'a str,
}

impl<'a> Question<'a> {
    pub(super) fn new(release: &'a Release, course: &'a Course, gate: &'a Gate) -> Self {
        let (gate, step, weight) = match gate {
            Gate::Step(at) => {
                let step = release.plan.steps.get(*at);
                (None, Some(*at), step.map_or(course.weight, |step| step.weight))
            }
            Gate::Webhook(name) => (Some(name.as_str()), course.step, course.weight),
            _ => (None, course.step, course.weight),
        };
        Self {
            release: release.name.to_string(),
            namespace: &release.name.namespace,
            name: &release.name.name,
            revision: Revision { stable: &course.stable, canary: &course.canary },
            gate,
            step: step.map_or(0, |at| at + 1),
            weight: weight.per_ten_thousand() / 100,
            phase: course.phase,
        }
    }

    pub(super) fn to_json(&self) -> Bytes {
        // What consists of texts and numbers can be written.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// Asks whoever is at `url`, if the installation allows it.
///
/// # Errors
/// Why there is no answer.
pub(super) async fn call(
    (hosts, authority): (&[AllowedHost], Option<&Path>),
    url: &str,
    body: Bytes,
) -> Result<Answer, String> {
    let url: Uri = url.parse().map_err(|error| format!("{url:.100?}: {error}"))?;
    let own = if url.scheme_str() == Some("https") { 443 } else { 80 };
    let host = url.host().unwrap_or_default();
    let port = url.port_u16().unwrap_or(own);
    let named = if port == own { host.to_owned() } else { format!("{host}:{port}") };
    if !hosts.iter().any(|allowed| allowed.is(host, port, own)) {
        return Err(format!(
            "{named} is not among the hosts that the installation allows: controlPlane.releaseHosts"
        ));
    }
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::post(path)
        .header(header::HOST, &named)
        .header(header::USER_AGENT, concat!("tulle/", env!("CARGO_PKG_VERSION")))
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(text)?;
    let tcp = connect(&resolve(host, port).await?).await?;
    let answered = match own {
        443 => {
            let read = match authority {
                Some(path) => Some(read(path).await?),
                None => None,
            };
            let trusted = (AUTHORITIES, read.as_deref());
            let shaken = Box::pin(outward::shake_hands(tcp, host, trusted)).await;
            within(shaken.map_err(|error| format!("TLS: {error}"))?, request, LARGEST).await
        }
        _ => within(tcp, request, LARGEST).await,
    };
    answered.map(|answered| meaning(&answered)).map_err(text)
}

/// Where a host is. All of its addresses must be such that somebody may be asked there, and to none else is connected: who
/// resolves a name twice may get two answers.
async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let addresses: Vec<_> = match address(host) {
        Some(address) => vec![(address, port).into()],
        None => {
            let found = lookup_host((host, port)).await;
            found.map_err(|error| format!("{host}: {error}"))?.collect()
        }
    };
    checked(host, addresses)
}

fn checked(host: &str, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, String> {
    for address in addresses.iter().map(SocketAddr::ip) {
        if let Some(why) = forbidden(host, address) {
            return Err(format!("{host} is at {address}, which is {why}: nobody is asked there"));
        }
    }
    Ok(addresses)
}

async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let mut failure = "it has no address".to_owned();
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(tcp) => return Ok(tcp),
            Err(error) => failure = format!("{address}: {error}"),
        }
    }
    Err(failure)
}

async fn read(path: &Path) -> Result<Vec<u8>, String> {
    tokio::fs::read(path).await.map_err(|error| format!("{}: {error}", path.display()))
}

/// What an answer means, with its first line.
fn meaning(answer: &Response<Bytes>) -> Answer {
    let status = answer.status();
    let said = String::from_utf8_lossy(answer.body());
    let line = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let said = match line {
        _ if status.is_redirection() => format!("{status}: redirects are not followed"),
        // A page, for browsers.
        "" => status.to_string(),
        line if line.starts_with('<') => status.to_string(),
        line => format!("{status}: {line}"),
    };
    match status {
        StatusCode::CONFLICT => Answer::No(said),
        status if status.is_success() => Answer::Yes(said),
        _ => Answer::Open(said),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_at_which_nobody_is_asked_is_one_too_many() {
        let at = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let good: Vec<SocketAddr> = at(&["10.0.0.7:80", "[fd00::7]:80"]);
        assert_eq!(checked("gate", good.clone()), Ok(good));
        assert_eq!(
            checked("gate", at(&["10.0.0.7:80", "169.254.169.254:80"])),
            Err("gate is at 169.254.169.254, which is link-local: nobody is asked there".to_owned())
        );
    }

    #[test]
    fn what_an_answer_means() {
        let text = |text: &str| text.to_owned();
        for (status, body, meant) in [
            (200, "", Answer::Yes(text("200 OK"))),
            (204, "", Answer::Yes(text("204 No Content"))),
            (200, "\n  fine \nreally", Answer::Yes(text("200 OK: fine"))),
            (409, "frozen", Answer::No(text("409 Conflict: frozen"))),
            (202, "", Answer::Yes(text("202 Accepted"))),
            (302, "x", Answer::Open(text("302 Found: redirects are not followed"))),
            (404, "<html>", Answer::Open(text("404 Not Found"))),
            (425, "wait", Answer::Open(text("425 Too Early: wait"))),
            (500, "", Answer::Open(text("500 Internal Server Error"))),
        ] {
            let answer = Response::builder().status(status).body(Bytes::from(body)).unwrap();
            assert_eq!(meaning(&answer), meant);
        }
    }
}
