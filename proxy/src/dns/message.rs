//! Questions and answers, as bytes (RFC 1035). Pure.

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode},
    rr::{
        DNSClass, RData, Record, RecordType,
        rdata::{A, AAAA},
    },
};

/// Answers are valid for this many seconds: short, as cluster DNS has it, since pods come and go.
const TTL: u32 = 5;

/// What fits through any network in one datagram (DNS flag day 2020).
pub(super) const MAX_DATAGRAM: u16 = 1232;

/// A question for the addresses of a name.
#[derive(Debug, Clone)]
pub struct Question {
    message: Message,
    name: String,
    wanted: RecordType,
}

impl Question {
    /// Reads a message. `None` for whatever is no plain question for addresses: it is not for us.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let message = Message::from_vec(bytes).ok()?;
        let [query] = message.queries.as_slice() else {
            return None;
        };
        let wanted = query.query_type;
        let plain = message.metadata.message_type == MessageType::Query
            && message.metadata.op_code == OpCode::Query
            && query.query_class == DNSClass::IN
            && matches!(wanted, RecordType::A | RecordType::AAAA)
            && message.version() == 0;
        let name = query.name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
        plain.then_some(Self { message, name, wanted })
    }

    /// The name, in lower case and without the last dot.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many bytes the answer may have in one datagram.
    pub fn datagram(&self) -> usize {
        self.message.max_payload().clamp(512, MAX_DATAGRAM).into()
    }

    /// The answer: those of `addresses` that are of the version asked for, maybe none, which says that
    /// the name is there. If it has more than `limit` bytes it says that it is truncated, and the
    /// resolver asks again over TCP.
    pub fn answer(&self, addresses: &[IpAddr], limit: usize) -> Option<Vec<u8>> {
        let [query] = self.message.queries.as_slice() else {
            return None;
        };
        let mut response =
            Message::response(self.message.metadata.id, self.message.metadata.op_code);
        response.metadata = Metadata::response_from_request(&self.message.metadata);
        response.metadata.recursion_available = true;
        if self.message.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_DATAGRAM);
            response.set_edns(edns);
        }
        response.add_query(query.clone());
        let data = addresses.iter().filter_map(|address| match (address, self.wanted) {
            (IpAddr::V4(v4), RecordType::A) => Some(RData::A(A(*v4))),
            (IpAddr::V6(v6), RecordType::AAAA) => Some(RData::AAAA(AAAA(*v6))),
            _ => None,
        });
        let mut records: Vec<_> =
            data.map(|data| Record::from_rdata(query.name.clone(), TTL, data)).collect();
        // Most clients take the first: let it be each one in turn.
        if !records.is_empty() {
            let turn = usize::from(self.message.metadata.id) % records.len();
            records.rotate_left(turn);
        }
        response.add_answers(records);
        let whole = response.to_vec().ok()?;
        if whole.len() <= limit {
            return Some(whole);
        }
        response.truncate().to_vec().ok()
    }
}

/// How the control plane would call a name: `SERVICE.NAMESPACE.svc.DOMAIN`, or with an endpoint's name
/// before. Also for `SERVICE.NAMESPACE.svc`, which many clients try before they append the domain.
/// `None` for all other names, which cost no question.
pub fn cluster_name(asked: &str, domain: &str) -> Option<String> {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if domain.is_empty() {
        return None;
    }
    let (before, short) = match asked.strip_suffix(domain).and_then(|b| b.strip_suffix(".svc.")) {
        Some(before) => (before, false),
        None => (asked.strip_suffix(".svc")?, true),
    };
    let labels = before.split('.').count();
    let fits = before.split('.').all(label) && (labels == 2 || (labels == 3 && !short));
    fits.then(|| format!("{before}.svc.{domain}"))
}

#[cfg(test)]
mod tests {
    use hickory_proto::{
        op::{Query, ResponseCode},
        rr::Name,
    };
    use proptest::prelude::*;

    use super::*;

    fn query(name: &str, kind: RecordType) -> Message {
        let mut message = Message::query();
        message.metadata.id = 7;
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message
    }

    fn addresses(count: u8) -> Vec<IpAddr> {
        (0..count).map(|n| [10, 96, 0, n].into()).collect()
    }

    fn answered(query: &Message, addresses: &[IpAddr]) -> Message {
        let question = Question::read(&query.to_vec().unwrap()).unwrap();
        let answer = question.answer(addresses, question.datagram()).unwrap();
        assert!(answer.len() <= question.datagram());
        Message::from_vec(&answer).unwrap()
    }

    #[test]
    fn each_version_has_its_own_records() {
        let both = ["10.96.0.7", "fd00::7"].map(|a| a.parse().unwrap());
        for (kind, expected) in [(RecordType::A, "10.96.0.7"), (RecordType::AAAA, "fd00::7")] {
            let answer = answered(&query("Web.shop.svc.cluster.local.", kind), &both);
            assert_eq!((answer.metadata.id, answer.answers.len()), (7, 1));
            assert_eq!(answer.answers[0].data.to_string(), expected);
            assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
            assert!(answer.metadata.recursion_available && answer.metadata.recursion_desired);
        }
        // There, but not with IPv6: no NXDOMAIN, or nobody would ask for IPv4 any more.
        let none = answered(&query("web.shop.svc.cluster.local.", RecordType::AAAA), &both[..1]);
        assert_eq!((none.metadata.response_code, none.answers.len()), (ResponseCode::NoError, 0));
    }

    #[test]
    fn what_does_not_fit_is_truncated() {
        let mut plain = query("web.shop.svc.cluster.local.", RecordType::A);
        let short = answered(&plain, &addresses(100));
        assert!(short.metadata.truncation && short.answers.is_empty() && short.queries.len() == 1);
        assert!(!answered(&plain, &addresses(20)).metadata.truncation);
        let mut edns = Edns::new();
        edns.set_max_payload(4096);
        plain.set_edns(edns);
        let longer = answered(&plain, &addresses(60));
        assert!(!longer.metadata.truncation && longer.edns.is_some());
        assert!(answered(&plain, &addresses(200)).metadata.truncation);
        let question = Question::read(&plain.to_vec().unwrap()).unwrap();
        let whole = question.answer(&addresses(200), usize::from(u16::MAX)).unwrap();
        assert_eq!(Message::from_vec(&whole).unwrap().answers.len(), 200);
    }

    #[test]
    fn what_is_no_question_for_addresses_is_not_for_us() {
        let mut two = query("a.example.", RecordType::A);
        two.add_query(two.queries[0].clone());
        let mut response = query("a.example.", RecordType::A);
        response.metadata.message_type = MessageType::Response;
        let mut update = query("a.example.", RecordType::A);
        update.metadata.op_code = OpCode::Update;
        let others = [two, response, update, query("a.example.", RecordType::SRV)];
        for message in others {
            assert!(Question::read(&message.to_vec().unwrap()).is_none(), "{message:?}");
        }
        assert!(Question::read(b"\0\x01garbage").is_none());
    }

    #[test]
    fn only_names_of_the_cluster_cost_a_question() {
        let full = "web.shop.svc.cluster.local";
        for (asked, expected) in [
            (full, Some(full)),
            ("web.shop.svc", Some(full)),
            ("db-0.db.shop.svc.cluster.local", Some("db-0.db.shop.svc.cluster.local")),
            ("db-0.db.shop.svc", None),
            ("web.shop", None),
            ("web", None),
            ("shop.svc.cluster.local", None),
            ("www.example.com.shop.svc.cluster.local", None),
            ("www.example.com.cluster.local", None),
            ("_http._tcp.web.shop.svc.cluster.local", None),
            ("xsvc.cluster.local", None),
            ("a\\.b.shop.svc.cluster.local", None),
            (".shop.svc.cluster.local", None),
            ("www.example.com", None),
            ("cluster.local", None),
            ("", None),
        ] {
            assert_eq!(cluster_name(asked, "cluster.local").as_deref(), expected, "{asked}");
            assert_eq!(cluster_name(asked, ""), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_or_passed_on(bytes: Vec<u8>, count in 0..80_u8, limit: u16) {
            if let Some(question) = Question::read(&bytes) {
                let answer = question.answer(&addresses(count), limit.into());
                prop_assert!(answer.is_none_or(|a| Message::from_vec(&a).is_ok()));
            }
        }
    }
}
