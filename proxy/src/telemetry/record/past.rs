//! A record as it is remembered for whoever asks what happened lately.

use std::sync::atomic::Ordering;

use tokio::time::Instant;
use tulle_xds::model::Endpoint;

use super::{Record, Towards};
use crate::telemetry::tap::{Past, Served};

/// An endpoint that is left out for a while because of a request.
#[derive(Debug)]
pub(super) struct Ejected {
    /// Its pod, or its address.
    who: String,
    /// The object that wants it so, and its field.
    by: Option<(String, String)>,
}

impl Record {
    pub(super) fn remember_ejected(&mut self, endpoint: &Endpoint) {
        let who = match endpoint.pod.is_empty() {
            true => endpoint.address.to_string(),
            false => endpoint.pod.clone(),
        };
        self.ejected = Some(Box::new(Ejected { who, by: self.setter(&["spec.ejection"]) }));
    }

    /// Puts it where questions find it.
    pub(super) fn remember(&mut self, now: Instant) {
        let fields = std::mem::take(&mut self.tapped);
        self.cx.counts.remember(|mut texts| {
            let request = self.request.as_ref();
            let read = request.filter(|request| request.method.is_some());
            let edge = self.edge();
            let (peer_namespace, peer) = edge.peer;
            let (served, service) = match &self.towards {
                Towards::Nothing => (Served::Unknown, ""),
                Towards::Cluster(cluster) => match cluster.service() {
                    Some(service) => (Served::Port(service.port), service.host.as_str()),
                    None if cluster.is_local() => (Served::Unknown, ""),
                    None => (Served::Other, ""),
                },
                Towards::External => (Served::Other, ""),
            };
            let of_rule = edge.route.filter(|origin| !origin.rule.is_empty());
            let route = edge.route.map_or([""; 7], |origin| {
                let (hash, rule) = of_rule.map_or(("", ""), |origin| ("#", origin.rule.as_str()));
                [&origin.kind, "/", &origin.namespace, "/", &origin.name, hash, rule]
            });
            let ejected = self.ejected.as_deref();
            let (by, by_field) = ejected
                .and_then(|ejected| ejected.by.as_ref())
                .map_or(("", ""), |(by, field)| (by.as_str(), field.as_str()));
            texts.say([
                &[peer_namespace],
                &[peer],
                &[read.map_or("", |request| &request.host)],
                &[read.map_or("", |request| &request.path)],
                &[service],
                &route,
                &[&self.detail],
                &[self.policy.as_deref().unwrap_or_default()],
                &[self.policy_field.as_deref().unwrap_or_default()],
                &[self.audited.as_deref().unwrap_or_default()],
                &[ejected.map_or("", |ejected| &ejected.who)],
                &[by],
                &[by_field],
            ]);
            Past {
                ended: now,
                took: now.duration_since(self.started),
                first_byte: request.and_then(|request| request.first_byte),
                direction: self.direction,
                protocol: self.protocol(),
                method: read.and_then(|request| request.method.clone()),
                status: request.and_then(|request| request.status),
                grpc: self.grpc(),
                reason: self.reason,
                fault: self.fault(),
                failed: self.is_error(),
                mirror: request.is_some_and(|request| request.copy),
                attempts: self.attempts,
                received: self.received.load(Ordering::Relaxed),
                sent: self.sent.load(Ordering::Relaxed),
                security: edge.security,
                served,
                caller: self.caller.clone(),
                endpoint: self.endpoint.clone(),
                client: self.client,
                destination: self.destination,
                position: self.position,
                texts,
                fields,
            }
        });
    }
}
