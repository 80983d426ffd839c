//! Records of what ended lately, as people and programs read them.

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tulle_proto::telemetry::v1 as proto;
use tulle_xds::text::{bounded, printable};

use super::{End, Travels, why::why};
use crate::{
    telemetry::{Direction, Edge, Workload},
    world::objects::Name,
};

/// Bytes of a text, before what is not printable is escaped.
const MAX_TEXT: usize = 1 << 10;
/// Header fields of a record.
const MAX_HEADERS: usize = 64;

/// A page of records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TapView {
    /// The earliest first.
    pub records: Vec<RecordView>,
    /// To be given back with the next question, which then is told what came since.
    pub cursor: String,
    /// Records that sidecars forgot before anybody asked.
    pub missed: u64,
    /// Records that were asked for and are not here, because they were too many: earlier ones.
    pub left_out: u64,
    /// Replicas of the control plane that did not say what their sidecars know.
    pub unheard: Vec<String>,
    /// Pods, `NAMESPACE/POD`, of which no sidecar answered.
    pub silent: Vec<String>,
    /// How many pods were asked.
    pub asked: usize,
    /// How many more there are, that were not.
    pub not_asked: usize,
}

/// A request or connection, as one sidecar saw it. What is not known is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RecordView {
    /// When it ended, RFC 3339, by the clock of its sidecar.
    pub time: String,
    /// From its arrival to its end.
    pub duration_seconds: f64,
    /// To the head of its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_seconds: Option<f64>,
    /// `inbound` or `outbound`, as seen by the pod whose sidecar tells.
    pub direction: String,
    /// That pod.
    pub pod: String,
    /// Who called; without namespace a class: `internet`, …
    pub caller: End,
    /// Who was called; `unknown` if nobody was reached.
    pub workload: End,
    /// The Service and its port that was called, as far as the caller's sidecar told.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// `tcp`, `http/1.1`, `http/2`, …
    pub protocol: String,
    /// Of a request.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// As the client wrote it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Without its query.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Of its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u32>,
    /// The name of a gRPC call's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub grpc_status: String,
    /// It ended otherwise than it should, whoever is to blame.
    pub failed: bool,
    /// Why the sidecar ended it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Whose fault that is: `downstream`, `upstream`, `policy` or `proxy`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fault: String,
    /// The story.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The object that decided, `KIND/NAMESPACE/NAME`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub policy: String,
    /// The field of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub policy_field: String,
    /// The policy that would have refused it, were it not only audited.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub audit: String,
    /// The endpoint that is left out for a while because of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ejected: String,
    /// The object that wants that, and its field.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ejected_by: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    #[expect(missing_docs, reason = "the field above says it")]
    pub ejected_field: String,
    /// Attempts at endpoints.
    pub attempts: u32,
    /// The rule that matched, `KIND/NAMESPACE/NAME#RULE`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route: String,
    /// How its bytes travelled; absent if nobody was reached, or it is outside of the mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<Travels>,
    /// The other side's SPIFFE id, which it has proven.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub peer_id: String,
    /// Its pod.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub peer_pod: String,
    /// The endpoint that answered, or was tried last.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub upstream: String,
    /// Addresses of the connection that it came on.
    pub client: String,
    #[expect(missing_docs, reason = "the field above says it")]
    pub destination: String,
    /// Bytes that the client sent and was sent.
    pub bytes_received: u64,
    #[expect(missing_docs, reason = "the field above says it")]
    pub bytes_sent: u64,
    /// It is a copy, whose answer nobody waits for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mirror: bool,
    /// If it is in a trace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trace_id: String,
    /// Whether that is recorded.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub trace_sampled: bool,
    /// Those that were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderView>,
    /// Why it ended as it did, if there is something to say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// A header field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderView {
    /// In lower case.
    pub name: String,
    /// `(masked)` of what may be a secret.
    pub value: String,
    /// It is the answer's.
    pub response: bool,
}

/// What the proxies of these pods answered, by time: the latest `most`; how many were missed; how many are left out.
pub(in crate::telemetry) fn merged(
    answers: &[(&Name, &Workload, proto::Records)],
    most: usize,
) -> (Vec<RecordView>, u64, u64) {
    let mut all: Vec<(u64, RecordView)> = Vec::new();
    let (mut missed, mut matched) = (0_u64, 0_u64);
    for (pod, workload, records) in answers {
        missed = missed.saturating_add(records.missed);
        matched = matched.saturating_add(records.matched.max(records.records.len() as u64));
        let read = records
            .records
            .iter()
            .filter_map(|record| Some((record.time, RecordView::read((pod, workload), record)?)));
        all.extend(read);
    }
    all.sort_by_key(|(time, _)| *time);
    let too_many = all.len().saturating_sub(most);
    let shown: Vec<_> = all.drain(too_many..).map(|(_, view)| view).collect();
    let left_out = matched.saturating_sub(shown.len() as u64);
    (shown, missed, left_out)
}

impl RecordView {
    /// What a proxy of `workload` says. `None` if it makes no sense.
    fn read((pod, workload): (&Name, &Workload), record: &proto::Record) -> Option<Self> {
        let (edge, route) = Edge::read(workload, record.edge.as_ref()?).ok()?;
        let text = |text: &str| printable(bounded(text, MAX_TEXT));
        let own = End { namespace: workload.namespace.clone(), name: workload.name.clone() };
        let peer = End::named((&edge.peer.namespace, &edge.peer.name));
        let (direction, caller, called) = match edge.direction {
            Direction::Inbound => ("inbound", peer, own),
            Direction::Outbound => ("outbound", own, peer),
        };
        let service = match &edge.server {
            (host, _) if host.is_empty() => String::new(),
            (host, 0) => host.clone(),
            (host, port) => format!("{host}:{port}"),
        };
        let header = |header: &proto::Header| HeaderView {
            name: text(&header.name),
            value: text(&header.value),
            response: header.response,
        };
        let mut view = Self {
            time: time(record.time),
            duration_seconds: seconds(record.took_ns),
            first_byte_seconds: (record.first_byte_ns > 0).then(|| seconds(record.first_byte_ns)),
            direction: direction.to_owned(),
            pod: pod.to_string(),
            caller,
            workload: called,
            service,
            protocol: text(&record.protocol),
            method: text(&record.method),
            host: text(&record.host),
            path: text(&record.path),
            status: Some(record.status).filter(|status| (100..=999).contains(status)),
            grpc_status: text(&record.grpc),
            failed: record.failed,
            reason: text(&record.reason),
            fault: text(&record.fault),
            detail: text(&record.detail),
            policy: text(&record.policy),
            policy_field: text(&record.policy_field),
            audit: text(&record.audit),
            ejected: text(&record.ejected),
            ejected_by: text(&record.ejected_by),
            ejected_field: text(&record.ejected_field),
            attempts: record.attempts,
            route,
            security: Travels::of(edge.security),
            peer_id: text(&record.peer_id),
            peer_pod: text(&record.peer_pod),
            upstream: text(&record.upstream),
            client: text(&record.client),
            destination: text(&record.destination),
            bytes_received: record.received,
            bytes_sent: record.sent,
            mirror: record.mirror,
            trace_id: text(&record.trace_id),
            trace_sampled: record.sampled,
            headers: record.headers.iter().take(MAX_HEADERS).map(header).collect(),
            why: String::new(),
        };
        view.why = why(&view).unwrap_or_default();
        Some(view)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a duration of centuries is off by microseconds")]
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// RFC 3339, to the microsecond.
fn time(nanoseconds: u64) -> String {
    let microseconds = nanoseconds / 1000 * 1000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(microseconds.into());
    time.ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
