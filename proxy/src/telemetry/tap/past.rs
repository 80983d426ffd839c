//! A record that has ended, as the ring remembers it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{Method, StatusCode};
use tokio::time::Instant;
use tulle_xds::{model::Endpoint, text::bounded};

use super::Field;
use crate::{
    error::Reason,
    telemetry::{Direction, edge::Security, fault::Fault, trace::Position},
    tls::Peer,
};

/// Bytes of each text.
const MAX_TEXT: usize = 1 << 10;
/// A slot's memory beyond that is given back when another record takes it.
const USUAL: usize = 1 << 10;

/// See the [module](self). What it shares with others is data that they would keep anyway, never configuration as a whole: a proxy
/// without traffic would hold that of long ago.
#[derive(Debug, Clone)]
pub(in super::super) struct Past {
    pub(in super::super) ended: Instant,
    pub(in super::super) took: Duration,
    pub(in super::super) first_byte: Option<Duration>,
    pub(in super::super) direction: Direction,
    pub(in super::super) protocol: &'static str,
    /// Of a request that could be read.
    pub(in super::super) method: Option<Method>,
    pub(in super::super) status: Option<StatusCode>,
    pub(in super::super) grpc: Option<&'static str>,
    pub(in super::super) reason: Option<Reason>,
    pub(in super::super) fault: Option<Fault>,
    pub(in super::super) failed: bool,
    pub(in super::super) mirror: bool,
    pub(in super::super) attempts: u32,
    pub(in super::super) received: u64,
    pub(in super::super) sent: u64,
    pub(in super::super) security: Option<Security>,
    pub(in super::super) served: Served,
    pub(in super::super) caller: Option<Arc<Peer>>,
    pub(in super::super) endpoint: Option<Arc<Endpoint>>,
    pub(in super::super) client: SocketAddr,
    pub(in super::super) destination: SocketAddr,
    pub(in super::super) position: Option<Position>,
    pub(in super::super) texts: Texts,
    pub(in super::super) fields: Vec<Field>,
}

/// What was called; a Service's host name is among the texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Served {
    /// The application, or it is not known.
    Unknown,
    /// This port of a Service.
    Port(u16),
    /// Anything else.
    Other,
}

/// Texts of a record, one after the other, so that a slot of the ring has one piece of memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Texts {
    all: String,
    ends: [u16; Text::COUNT],
}

/// Which text, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Text {
    /// Of the workload on the other side; empty for a class.
    PeerNamespace,
    Peer,
    Host,
    Path,
    /// The Service's host name.
    Service,
    Route,
    Detail,
    Policy,
    PolicyField,
    Audit,
    Ejected,
    EjectedBy,
    EjectedField,
}

impl Text {
    const COUNT: usize = Self::EjectedField as usize + 1;
}

impl Texts {
    /// These, in the memory of those before. Each is made of parts, and cut where it is too long.
    pub(in super::super) fn say(&mut self, texts: [&[&str]; Text::COUNT]) {
        self.all.clear();
        if self.all.capacity() > USUAL {
            self.all = String::new();
        }
        for (parts, end) in texts.into_iter().zip(&mut self.ends) {
            let mut left = MAX_TEXT;
            for part in parts {
                let part = bounded(part, left);
                self.all.push_str(part);
                left -= part.len();
            }
            *end = u16::try_from(self.all.len()).unwrap_or(u16::MAX);
        }
    }

    pub(in super::super) fn get(&self, text: Text) -> &str {
        let at = text as usize;
        let begin = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.all.get(begin.into()..self.ends[at].into()).unwrap_or_default()
    }
}

impl Past {
    pub(super) fn text(&self, text: Text) -> &str {
        self.texts.get(text)
    }

    /// What it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let fields: usize = self.fields.iter().map(Field::bytes).sum();
        size_of::<Self>() + self.texts.all.capacity() + fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_what_was_said_last_and_bounded() {
        let mut texts = Texts::default();
        let long = "ä".repeat(MAX_TEXT);
        let mut all: [&[&str]; Text::COUNT] = [&[]; Text::COUNT];
        let path = ["/", &long];
        all[Text::Path as usize] = &path;
        all[Text::Route as usize] = &["HTTPRoute", "/", "shop"];
        all[Text::EjectedField as usize] = &["end"];
        texts.say(all);
        assert_eq!(texts.get(Text::Path).len(), MAX_TEXT - 1, "cut between characters");
        let read = [Text::Host, Text::Route, Text::Detail, Text::EjectedField];
        assert_eq!(read.map(|text| texts.get(text)), ["", "HTTPRoute/shop", "", "end"]);
        texts.say([&["a"]; Text::COUNT]);
        assert_eq!((texts.get(Text::PeerNamespace), texts.get(Text::EjectedField)), ("a", "a"));
        assert!(texts.all.capacity() <= USUAL, "a long one's memory is given back");
    }
}
