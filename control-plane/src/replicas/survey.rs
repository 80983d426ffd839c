//! What a replica knows of its proxies right now: their streams, and what they make of each object.

use std::sync::Arc;

use tokio::sync::watch;
use tulle_proto::replica::v1 as proto;
use tulle_xds::{
    cache::Dialect,
    server::{AdsService, SessionStatus},
};

use super::{Tellings, wire};
use crate::{
    roster::Roster,
    telemetry::{Hub, Workload},
    world::objects::Name,
};

/// A rejection is told for this many resources of a stream.
const MOST_REJECTIONS: usize = 8;
/// And so much of each.
const MOST_REASON: usize = 500;

/// What a survey is made from. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Surveyor {
    /// The streams.
    pub ads: AdsService,
    /// Whose pods they are.
    pub roster: Roster,
    /// Who reports.
    pub hub: Hub,
    /// What they make of each object.
    pub told: watch::Receiver<Arc<Tellings>>,
}

/// What a replica knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survey {
    /// Version of its program.
    pub version: String,
    /// Its proxies' streams, in the order of their pods.
    pub streams: Vec<Stream>,
    /// What they make of each object.
    pub told: Tellings,
}

/// A stream of configuration that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Whose it is.
    pub pod: Name,
    /// What that is of.
    pub workload: Option<Workload>,
    /// What is at its other end: `tulle`, `envoy`, `grpc`.
    pub data_plane: String,
    /// Version of its program, as it says.
    pub version: String,
    /// Resources that it uses.
    pub resources: usize,
    /// Those of them of which it has accepted the latest version.
    pub accepted: usize,
    /// Some of those that it rejects, and why.
    pub rejections: Vec<(String, String)>,
    /// It reports what it carries.
    pub reports: bool,
    /// When its certificate ends, in seconds since 1970, as it reports; 0: not known.
    pub certificate_ends: i64,
}

impl Surveyor {
    /// What this replica knows.
    pub fn survey(&self) -> Survey {
        let reporting = self.hub.reporters();
        let stream = |status: SessionStatus| {
            let (namespace, pod) = status.caller.pod.split_once('/')?;
            let pod = Name::new(namespace, pod);
            let workload = self.roster.get(&pod).map(|member| member.workload(namespace));
            let reports = reporting.get(&pod).copied();
            Some(Stream::of(&status, pod, workload, reports))
        };
        let mut streams: Vec<_> = self.ads.sessions().into_iter().filter_map(stream).collect();
        streams.sort_by(|one, other| one.pod.cmp(&other.pod));
        let told = Tellings::clone(&self.told.borrow());
        Survey { version: env!("CARGO_PKG_VERSION").to_owned(), streams, told }
    }
}

impl Stream {
    fn of(
        status: &SessionStatus,
        pod: Name,
        workload: Option<Workload>,
        reports: Option<i64>,
    ) -> Self {
        let names = || status.kinds.iter().flat_map(|kind| &kind.names);
        let rejected = names().filter_map(|name| {
            let reason = name.rejected.as_ref()?.chars().take(MOST_REASON).collect();
            Some((name.name.clone(), reason))
        });
        let data_plane = match status.dialect {
            Dialect::Tulle | Dialect::Other(_) => "tulle",
            Dialect::Envoy => "envoy",
            Dialect::Grpc => "grpc",
        };
        Self {
            pod,
            workload,
            data_plane: data_plane.to_owned(),
            version: status.version.clone(),
            resources: names().count(),
            accepted: names().filter(|name| name.sent == name.accepted).count(),
            rejections: rejected.take(MOST_REJECTIONS).collect(),
            reports: reports.is_some(),
            certificate_ends: reports.unwrap_or(0),
        }
    }
}

impl Survey {
    pub(super) fn message(&self) -> proto::SurveyResponse {
        let stream = |stream: &Stream| proto::Stream {
            pod: stream.pod.to_string(),
            workload: stream.workload.as_ref().map(Workload::message),
            data_plane: stream.data_plane.clone(),
            version: stream.version.clone(),
            resources: wire::count(stream.resources),
            accepted: wire::count(stream.accepted),
            rejections: stream.rejections.iter().map(rejection).collect(),
            reports: stream.reports,
            certificate_ends: stream.certificate_ends,
        };
        proto::SurveyResponse {
            version: self.version.clone(),
            streams: self.streams.iter().map(stream).collect(),
            forces: self.told.iter().map(|(object, told)| wire::encode(object, told)).collect(),
        }
    }

    /// What makes no sense, because the other is of another version, is left out.
    pub(super) fn read(message: proto::SurveyResponse) -> Self {
        let streams = message.streams.into_iter().filter_map(|stream| {
            let (namespace, pod) = stream.pod.split_once('/')?;
            let rejections = stream.rejections.into_iter();
            Some(Stream {
                pod: Name::new(namespace, pod),
                workload: stream.workload.map(Workload::read),
                data_plane: stream.data_plane,
                version: stream.version,
                resources: stream.resources as usize,
                accepted: stream.accepted as usize,
                rejections: rejections.map(|one| (one.resource, one.reason)).collect(),
                reports: stream.reports,
                certificate_ends: stream.certificate_ends,
            })
        });
        Self {
            version: message.version,
            streams: streams.collect(),
            told: message.forces.into_iter().filter_map(wire::decode).collect(),
        }
    }
}

fn rejection((resource, reason): &(String, String)) -> proto::Rejection {
    proto::Rejection { proxy: String::new(), resource: resource.clone(), reason: reason.clone() }
}
