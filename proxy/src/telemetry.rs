//! What we say about traffic: one [`Record`] per request or opaque connection, from which the
//! access log line and the metrics come. Nothing else on the data path logs or counts traffic.

mod dns;
mod ejected;
mod metrics;
mod record;
mod refusals;
mod told;

pub use dns::Dns;
pub use ejected::register_ejected;
pub use metrics::{Metrics, Outcome};
pub use record::{Direction, Record};
pub use refusals::count_refusals;
pub use told::Told;
