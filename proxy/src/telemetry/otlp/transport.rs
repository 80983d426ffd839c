//! A connection to a destination, by gRPC or with protobuf in HTTP bodies.

use std::{collections::BTreeMap, io, time::Duration};

use bytes::{Buf, BufMut, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header, uri::PathAndQuery};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};
use tulle_xds::{
    model::{Otlp, OtlpProtocol},
    text,
};

use super::{
    Signal,
    queue::{Answer, again_by_grpc, again_by_http},
};
use crate::{
    error::chain,
    tls::system::{self, Io},
};

/// Bytes of an answer that are read.
const MOST_ANSWER: usize = 64 << 10;

/// A destination that cannot be one.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadDestination {
    #[error("{0:?} is no endpoint: write http://HOST:PORT, or https://HOST:PORT for TLS")]
    Endpoint(String),
    #[error("{0:?} is no header that can be sent with it")]
    Header(String),
}

/// See the [module](self).
pub(super) struct Transport {
    place: Place,
    headers: HeaderMap,
    open: Open,
}

/// Where a destination is.
#[derive(Debug, Clone)]
struct Place {
    host: String,
    port: u16,
    tls: bool,
    /// What signals' own paths come below.
    path: String,
}

enum Open {
    Grpc(Option<Channel>),
    Http(Option<http1::SendRequest<Full<Bytes>>>),
}

impl Transport {
    /// Connects when there is something to send.
    pub(super) fn new(to: &Otlp) -> Result<Self, BadDestination> {
        let open = match to.protocol {
            OtlpProtocol::Grpc => Open::Grpc(None),
            OtlpProtocol::Http => Open::Http(None),
        };
        Ok(Self {
            place: Place::of(&to.endpoint, to.protocol)?,
            headers: headers(&to.headers)?,
            open,
        })
    }

    /// Sends a request. Not cancel safe: a connection on which this was cancelled is to be [closed](Self::close).
    pub(super) async fn send(&mut self, signal: Signal, message: Bytes) -> Answer {
        let Self { place, headers, open } = self;
        match open {
            Open::Grpc(channel) => {
                let channel = match channel {
                    Some(channel) => channel.clone(),
                    None => match place.channel() {
                        Ok(new) => channel.insert(new).clone(),
                        Err(error) => return Answer::Refused(chain(&error)),
                    },
                };
                by_grpc(channel, headers, signal, message).await
            }
            Open::Http(sender) => by_http(place, sender, headers, signal, message).await,
        }
    }

    /// The next request has a new connection.
    pub(super) fn close(&mut self) {
        match &mut self.open {
            Open::Grpc(channel) => *channel = None,
            Open::Http(sender) => *sender = None,
        }
    }
}

impl Place {
    fn of(endpoint: &str, protocol: OtlpProtocol) -> Result<Self, BadDestination> {
        let bad = || BadDestination::Endpoint(endpoint.to_owned());
        let uri: Uri = endpoint.parse().map_err(|_no_uri| bad())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(bad)?.to_owned();
        let usual = match protocol {
            OtlpProtocol::Grpc => 4317,
            OtlpProtocol::Http => 4318,
        };
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { host, port: uri.port_u16().unwrap_or(usual), tls, path })
    }

    async fn dial(self, alpn: &'static [u8]) -> io::Result<Io> {
        let server = self.tls.then_some(&*self.host);
        Box::pin(system::connect(&self.host, self.port, server, alpn)).await
    }

    fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn channel(&self) -> Result<Channel, tonic::transport::Error> {
        let place = self.clone();
        // TLS is below: the scheme is only what the request says.
        let scheme = if self.tls { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("http://{}", self.authority()))?;
        let origin = format!("{scheme}://{}", self.authority()).parse::<Uri>();
        let endpoint = match origin {
            Ok(origin) => endpoint.origin(origin),
            Err(_unlikely) => endpoint,
        };
        let connector = tower::service_fn(move |_| {
            let place = place.clone();
            async move { place.dial(b"h2").await.map(TokioIo::new) }
        });
        Ok(endpoint.connect_with_connector_lazy(connector))
    }
}

fn headers(of: &BTreeMap<String, String>) -> Result<HeaderMap, BadDestination> {
    // The value may be a secret.
    let bad = |name: &String| BadDestination::Header(name.clone());
    let read = |(name, value): (&String, &String)| {
        let key = HeaderName::try_from(name).map_err(|_invalid| bad(name))?;
        let mut value = HeaderValue::try_from(value).map_err(|_invalid| bad(name))?;
        value.set_sensitive(true);
        Ok((key, value))
    };
    of.iter().map(read).collect()
}

async fn by_grpc(channel: Channel, headers: &HeaderMap, signal: Signal, message: Bytes) -> Answer {
    let mut client = tonic::client::Grpc::new(channel);
    if let Err(error) = client.ready().await {
        return Answer::Again { after: None, why: chain(&error) };
    }
    let mut request = tonic::Request::new(message);
    *request.metadata_mut() = MetadataMap::from_headers(headers.clone());
    let path = PathAndQuery::from_static(signal.method());
    match Box::pin(client.unary(request, path, Encoded)).await {
        Ok(response) => taken(response.get_ref()),
        Err(status) => {
            let after = retry_info(status.details());
            let why = text::status(&status);
            if again_by_grpc(status.code().into(), after.is_some()) {
                Answer::Again { after, why }
            } else {
                Answer::Refused(why)
            }
        }
    }
}

async fn by_http(
    place: &Place,
    open: &mut Option<http1::SendRequest<Full<Bytes>>>,
    headers: &HeaderMap,
    signal: Signal,
    message: Bytes,
) -> Answer {
    let again = |why: String| Answer::Again { after: None, why };
    let mut sender = match open.take().filter(|sender| !sender.is_closed()) {
        Some(sender) => sender,
        None => match connect(place).await {
            Ok(sender) => sender,
            Err(error) => return again(chain(&error)),
        },
    };
    let mut request = Request::post(format!("{}{}", place.path, signal.path()))
        .header(header::HOST, place.authority())
        .header(header::CONTENT_TYPE, "application/x-protobuf")
        .body(Full::new(message))
        .expect("a path that was parsed, and constants");
    request.headers_mut().extend(headers.clone());
    if let Err(error) = sender.ready().await {
        return again(chain(&error));
    }
    let response = match sender.send_request(request).await {
        Ok(response) => response,
        Err(error) => return again(chain(&error)),
    };
    let (head, body) = response.into_parts();
    let body = match Limited::new(body, MOST_ANSWER).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return again(chain(&*error)),
    };
    *open = Some(sender);
    if head.status.is_success() {
        return match ExportTraceServiceResponse::decode(body) {
            Ok(response) => taken(&response),
            // It said yes; what else it said is not known.
            Err(_unreadable) => Answer::Taken { rejected: 0, message: String::new() },
        };
    }
    let after = head.headers.get(header::RETRY_AFTER);
    let after = after.and_then(|after| after.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    if again_by_http(head.status.as_u16()) {
        Answer::Again { after, why: head.status.to_string() }
    } else {
        Answer::Refused(head.status.to_string())
    }
}

async fn connect(place: &Place) -> io::Result<http1::SendRequest<Full<Bytes>>> {
    let io = place.clone().dial(b"http/1.1").await?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(io)).await.map_err(io::Error::other)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = chain(&error), "a connection for telemetry ended");
        }
    });
    Ok(sender)
}

/// The three signals' answers have the same fields by number.
fn taken(response: &ExportTraceServiceResponse) -> Answer {
    let partial = response.partial_success.clone().unwrap_or_default();
    let rejected = usize::try_from(partial.rejected_spans).unwrap_or(0);
    Answer::Taken { rejected, message: partial.error_message }
}

/// A `google.rpc.Status`, of which only details matter.
#[derive(Clone, PartialEq, prost::Message)]
struct Details {
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<prost_types::Duration>,
}

/// When it may be sent again, if the status says so.
fn retry_info(details: &[u8]) -> Option<Duration> {
    let status = Details::decode(details).ok()?;
    let is_it = |any: &&prost_types::Any| any.type_url.ends_with("/google.rpc.RetryInfo");
    let info = RetryInfo::decode(&*status.details.iter().find(is_it)?.value).ok()?;
    info.retry_delay.unwrap_or_default().try_into().ok()
}

/// Requests come encoded.
#[derive(Debug, Clone, Copy)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = ExportTraceServiceResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(message);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = ExportTraceServiceResponse;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        let read = ExportTraceServiceResponse::decode(bytes);
        read.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
