//! Asking the application as the kubelet would: at the pod's address, where a port bound to loopback
//! is not reached either.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request,
    header::{ACCEPT, CONNECTION, HOST, USER_AGENT},
    uri::PathAndQuery,
};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tonic::transport::Endpoint;
use tulle_proto::health::v1::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{Action, Scheme};
use crate::{net::dial::dial, tls::unverified};

/// As much of an answer's body as is read, so that a usual one is not cut off. The kubelet's number.
const BODY: usize = 10 << 10;

/// Where the application is.
#[derive(Debug, Clone, Copy)]
pub struct Application {
    /// The pod's address.
    pub address: IpAddr,
    /// Our address towards the application; `None` lets the kernel choose.
    pub source: Option<IpAddr>,
}

impl Application {
    /// Whether the application is well. Not bounded in time.
    ///
    /// # Errors
    /// Why not, for people.
    pub(super) async fn ask(&self, action: &Action, agent: &HeaderValue) -> Result<(), String> {
        match action {
            Action::HttpGet { port, path, scheme, http_headers } => {
                let request = self.request(*port, path, http_headers, agent)?;
                let io = self.connect(*port).await?;
                match scheme {
                    Scheme::Http => exchange(io, request).await,
                    Scheme::Https => {
                        let io = unverified::connect(io).await;
                        let io = io.map_err(|error| format!("TLS handshake: {error}"))?;
                        exchange(io, request).await
                    }
                }
            }
            Action::TcpSocket { port } => self.connect(*port).await.map(drop),
            Action::Grpc { port, service } => self.grpc(*port, service, agent).await,
            // Nothing that the application would know.
            Action::Hold { .. } => Ok(()),
        }
    }

    fn at(&self, port: NonZeroU16) -> SocketAddr {
        SocketAddr::new(self.address, port.get())
    }

    async fn connect(&self, port: NonZeroU16) -> Result<TcpStream, String> {
        let address = self.at(port);
        let dialled = dial(address, self.source, Duration::MAX).await;
        dialled.map_err(|error| format!("cannot connect to {address}: {error}"))
    }

    /// What the kubelet sends. The user's headers win over its own.
    fn request(
        &self,
        port: NonZeroU16,
        path: &PathAndQuery,
        headers: &HeaderMap,
        agent: &HeaderValue,
    ) -> Result<Request<Empty<Bytes>>, String> {
        let say = |error: &dyn std::fmt::Display| format!("cannot ask: {error}");
        let mut request = Request::get(path.as_str());
        if let Some(all) = request.headers_mut() {
            all.extend(headers.clone());
            let host = HeaderValue::try_from(self.at(port).to_string());
            all.entry(HOST).or_insert(host.map_err(|error| say(&error))?);
            all.entry(USER_AGENT).or_insert(agent.clone());
            all.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
            all.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        request.body(Empty::new()).map_err(|error| say(&error))
    }

    /// <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>
    async fn grpc(
        &self,
        port: NonZeroU16,
        service: &str,
        agent: &HeaderValue,
    ) -> Result<(), String> {
        let mut io = Some(TokioIo::new(self.connect(port).await?));
        let connector = tower::service_fn(move |_| {
            let io = io.take().ok_or_else(|| io::Error::other("the connection has ended"));
            async move { io }
        });
        let endpoint = Endpoint::from_shared(format!("http://{}", self.at(port)))
            .and_then(|endpoint| endpoint.user_agent(agent.clone()))
            .map_err(|error| format!("gRPC: {error}"))?;
        let channel = Box::pin(endpoint.connect_with_connector(connector)).await;
        let channel = channel.map_err(|error| format!("gRPC: {error}"))?;
        let request = HealthCheckRequest { service: service.to_owned() };
        let mut client = HealthClient::new(channel);
        let answer = Box::pin(client.check(request)).await;
        let answer = answer.map_err(|status| {
            format!("gRPC health check: {}: {}", status.code(), status.message())
        })?;
        match answer.get_ref().status() {
            ServingStatus::Serving => Ok(()),
            other => Err(format!("gRPC health check: {}", other.as_str_name())),
        }
    }
}

/// Any status from 200 to 399 is well. Redirects are not followed.
async fn exchange<I>(io: I, request: Request<Empty<Bytes>>) -> Result<(), String>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    // Names as programs of Go write them: some servers compare bytes.
    let handshake = http1::Builder::new().title_case_headers(true).handshake(TokioIo::new(io));
    let (mut sender, connection) = handshake.await.map_err(|error| say(&error))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        read_some(response.into_body()).await?;
        Ok(status)
    };
    let status = tokio::select! {
        biased;
        status = answer => status,
        Err(error) = connection => Err(error),
    };
    let status = status.map_err(|error| say(&error))?;
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(format!("HTTP status {}", status.as_u16()))
    }
}

async fn read_some(mut body: Incoming) -> hyper::Result<()> {
    let mut read = 0;
    while read < BODY
        && let Some(frame) = body.frame().await
    {
        read += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(())
}

/// With its cause, without which hyper's errors say little.
fn say(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("HTTP: {error}: {cause}"),
        None => format!("HTTP: {error}"),
    }
}
