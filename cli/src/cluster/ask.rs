//! Questions to the API server as they are on the wire, and through it to pods.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use serde_json::Value;
use tokio::time::timeout;

use super::chain;

/// Longest wait for a pod's answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);

/// An answer by way of the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// By whom was asked: status and text.
    Said(u16, String),
    /// The API server could not reach it, and why.
    Unreached(String),
    /// We may not ask.
    Forbidden,
}

/// What the API server says of a failure, or the text as it is.
pub(crate) fn message(body: &str) -> String {
    let said: Value = serde_json::from_str(body).unwrap_or_default();
    said["message"].as_str().unwrap_or(body).trim().to_owned()
}

/// One question, whatever its answer.
pub(crate) async fn ask(
    client: &Client,
    method: Method,
    path: &str,
    body: Option<&Value>,
    patience: Duration,
) -> Result<(u16, String), String> {
    let body = body.map_or_else(Body::empty, |body| Body::from(Bytes::from(body.to_string())));
    let request = Request::builder().method(method).uri(path);
    let request = request.header(header::CONTENT_TYPE, "application/json").body(body);
    let request = request.map_err(|error| error.to_string())?;
    let answer = async {
        let response = client.send(request).await.map_err(|error| chain(&error))?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(|error| chain(&error))?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    match timeout(patience, answer).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(format!("no answer within {} s", patience.as_secs())),
    }
}

/// Asks a pod by way of the API server. In `target` its name takes the place of `{}`.
pub(crate) async fn through(
    client: &Client,
    pod: (&str, &str),
    target: &str,
    path: &str,
) -> Answer {
    let (namespace, name) = pod;
    let target = target.replace("{}", name);
    let path = format!("/api/v1/namespaces/{namespace}/pods/{target}/proxy{path}");
    match ask(client, Method::GET, &path, None, PATIENCE).await {
        Ok((status, body)) if !body.starts_with("{\"kind\":\"Status\"") => {
            Answer::Said(status, body)
        }
        Ok((403, _)) => Answer::Forbidden,
        Ok((status, body)) => {
            let why = message(&body);
            // Others come from who listens there.
            let nobody = ["dial tcp", "timeout", "refused", "no route"];
            match nobody.iter().any(|sign| why.contains(sign)) {
                true => Answer::Unreached(why),
                false => Answer::Said(status, why),
            }
        }
        Err(why) => Answer::Unreached(why),
    }
}
