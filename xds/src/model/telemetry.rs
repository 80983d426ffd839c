//! What a proxy tells of its traffic beyond what it always does, and to whom.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use tulle_proto::xds::v1 as ours;

use super::wire::{self, At as _, bad};

/// What a proxy tells of its traffic. The default is what it does where no `Telemetry` says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Telemetry {
    /// Spans.
    pub traces: Traces,
    /// The access log.
    pub logs: Logs,
    /// Series of edges.
    pub metrics: Metrics,
}

/// Which requests have spans, and where these go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Traces {
    /// Of a million requests that come without a decision, so many are sampled.
    pub sampling_ppm: u32,
    /// Also B3's headers are read and written.
    pub b3: bool,
    /// Who gets the spans; nobody: none are made.
    pub destinations: Vec<Otlp>,
    /// More attributes.
    pub tags: Vec<Tag>,
}

/// Which lines the access log has, and where these go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Logs {
    /// How a line looks.
    pub format: LogFormat,
    /// A CEL expression over the record; empty: what is written is an error, or in the sample.
    pub filter: String,
    /// Who gets the lines beside the standard output.
    pub destinations: Vec<Otlp>,
    /// More fields.
    pub fields: Vec<Tag>,
}

/// How a line of the access log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum LogFormat {
    /// A JSON object.
    #[default]
    Json,
    /// Envoy's default text.
    Envoy,
    /// It is not written to the standard output.
    Off,
}

/// What is counted by edge, and who is sent it beside whoever scrapes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Metrics {
    /// Nothing is.
    pub off: bool,
    /// Who gets it.
    pub destinations: Vec<Otlp>,
    /// More labels.
    pub tags: Vec<Tag>,
    /// How often destinations get it, in milliseconds; 0 where there are none.
    pub interval_ms: u32,
}

/// A receiver of OpenTelemetry's protocol (OTLP).
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Otlp {
    /// `http://HOST:PORT`; `https` for TLS.
    pub endpoint: String,
    /// How it is spoken to.
    pub protocol: OtlpProtocol,
    /// Sent with everything; they may hold credentials.
    #[serde(skip)]
    pub headers: BTreeMap<String, String>,
}

/// The two ways of <https://opentelemetry.io/docs/specs/otlp/>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub enum OtlpProtocol {
    /// gRPC.
    #[default]
    Grpc,
    /// Protobuf in HTTP/1.1 bodies, below `/v1/traces`, `/v1/metrics` and `/v1/logs`.
    Http,
}

/// Something more that is said of each request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tag {
    /// Of the attribute, the field or the label.
    pub name: String,
    /// A CEL expression over the request.
    pub expression: String,
    /// Values that are told apart; what comes beyond is `other`. 0: without a bound, where nothing is counted by it.
    pub max_values: u32,
}

impl Telemetry {
    pub(super) fn message(&self) -> ours::Telemetry {
        let Self { traces, logs, metrics } = self;
        ours::Telemetry {
            traces: Some(ours::Traces {
                sampling_ppm: traces.sampling_ppm,
                b3: traces.b3,
                destinations: traces.destinations.iter().map(Otlp::message).collect(),
                tags: traces.tags.iter().map(Tag::message).collect(),
            }),
            logs: Some(ours::Logs {
                format: logs.format.number(),
                filter: logs.filter.clone(),
                destinations: logs.destinations.iter().map(Otlp::message).collect(),
                fields: logs.fields.iter().map(Tag::message).collect(),
            }),
            metrics: Some(ours::Metrics {
                off: metrics.off,
                destinations: metrics.destinations.iter().map(Otlp::message).collect(),
                tags: metrics.tags.iter().map(Tag::message).collect(),
                interval_ms: metrics.interval_ms,
            }),
        }
    }

    pub(super) fn read(message: ours::Telemetry) -> wire::Result<Self> {
        let traces = message.traces.unwrap_or_default();
        let logs = message.logs.unwrap_or_default();
        let metrics = message.metrics.unwrap_or_default();
        Ok(Self {
            traces: Traces {
                sampling_ppm: traces.sampling_ppm,
                b3: traces.b3,
                destinations: destinations(traces.destinations).at("traces")?,
                tags: traces.tags.into_iter().map(Tag::read).collect(),
            },
            logs: Logs {
                format: LogFormat::read(logs.format).at("logs.format")?,
                filter: logs.filter,
                destinations: destinations(logs.destinations).at("logs")?,
                fields: logs.fields.into_iter().map(Tag::read).collect(),
            },
            metrics: Metrics {
                off: metrics.off,
                destinations: destinations(metrics.destinations).at("metrics")?,
                tags: metrics.tags.into_iter().map(Tag::read).collect(),
                interval_ms: metrics.interval_ms,
            },
        })
    }
}

fn destinations(messages: Vec<ours::Otlp>) -> wire::Result<Vec<Otlp>> {
    let all = messages.into_iter().enumerate();
    all.map(|(i, one)| Otlp::read(one).at_index("destinations", i)).collect()
}

impl Otlp {
    fn message(&self) -> ours::Otlp {
        let protocol = match self.protocol {
            OtlpProtocol::Grpc => ours::OtlpProtocol::Grpc,
            OtlpProtocol::Http => ours::OtlpProtocol::Http,
        };
        let headers = self.headers.iter();
        let header = |(name, value): (&String, &String)| ours::Header {
            name: name.clone(),
            value: value.clone(),
        };
        ours::Otlp {
            endpoint: self.endpoint.clone(),
            protocol: protocol.into(),
            headers: headers.map(header).collect(),
        }
    }

    fn read(message: ours::Otlp) -> wire::Result<Self> {
        let protocol = match ours::OtlpProtocol::try_from(message.protocol) {
            Ok(ours::OtlpProtocol::Grpc) => OtlpProtocol::Grpc,
            Ok(ours::OtlpProtocol::Http) => OtlpProtocol::Http,
            Err(_) => {
                return Err(bad(format!(
                    "{} is no protocol that this version knows",
                    message.protocol
                )))
                .at("protocol");
            }
        };
        let headers = message.headers.into_iter().map(|header| (header.name, header.value));
        Ok(Self { endpoint: message.endpoint, protocol, headers: headers.collect() })
    }
}

/// Without the headers' values, which may be credentials.
impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, protocol, headers } = self;
        write!(f, "{protocol:?} {endpoint} {:?}", headers.keys())
    }
}

impl LogFormat {
    fn number(self) -> i32 {
        match self {
            Self::Json => ours::LogFormat::Json.into(),
            Self::Envoy => ours::LogFormat::Envoy.into(),
            Self::Off => ours::LogFormat::Off.into(),
        }
    }

    fn read(number: i32) -> wire::Result<Self> {
        match ours::LogFormat::try_from(number) {
            Ok(ours::LogFormat::Json) => Ok(Self::Json),
            Ok(ours::LogFormat::Envoy) => Ok(Self::Envoy),
            Ok(ours::LogFormat::Off) => Ok(Self::Off),
            Err(_) => Err(bad(format!("{number} is no format that this version knows"))),
        }
    }
}

impl Tag {
    fn message(&self) -> ours::Tag {
        let Self { name, expression, max_values } = self.clone();
        ours::Tag { name, expression, max_values }
    }

    fn read(message: ours::Tag) -> Self {
        let ours::Tag { name, expression, max_values } = message;
        Self { name, expression, max_values }
    }
}
