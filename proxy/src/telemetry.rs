//! What we say about traffic: one [`Record`] per request or opaque connection, from which the
//! access log line and the metrics come. Nothing else on the data path logs or counts traffic.
//!
//! ```text
//! [ Record ] ─┬─► a line of the access log
//!             ├─► its [ worker ]'s counts ─► [ series ] of each [ edge ]: who called whom, by a Telemetry's [ tags ]
//!             │      [ edges ] gathers them in a [ table ] and shows them to whoever scrapes, [ report ] sends what is new of them to the control plane
//!             ├─► [ tap ]: what ended lately, for whoever asks, by [ report ]
//!             └─► [ closed ] in its worker's [ outbox ] ─► [ otlp ]: spans, lines and series, for collectors
//! ```

mod closed;
mod clusters;
mod dns;
mod edge;
mod edges;
mod exemplar;
mod fault;
mod grpc;
mod lanes;
mod metrics;
mod otlp;
mod outbox;
mod record;
mod refusals;
mod report;
mod response_flags;
mod sent;
mod series;
mod table;
mod tags;
mod tap;
mod told;
pub mod trace;
mod versions;
mod wanted;
mod words;
mod worker;

pub use clusters::register_clusters;
pub use dns::Dns;
pub use metrics::{Handshake, Metrics, Outcome};
pub use otlp::{Export, Pace};
pub(crate) use record::route_text;
pub use record::{Direction, Record, blame};
pub use refusals::count_refusals;
pub use report::Reporter;
pub use told::Told;
pub use wanted::Wanted;
pub use worker::Worker;
