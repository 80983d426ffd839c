//! What replicas ask and answer each other, as messages.

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use tulle_proto::replica::v1 as proto;

use super::{Ask, Edge, Known, Of, Reporting, Row, Totals, Workload};

impl Ask {
    pub(super) fn message(&self, looks: bool) -> proto::ObserveRequest {
        let (namespace, name) = match &self.of {
            Of::All => ("", ""),
            Of::Namespace(namespace) => (namespace.as_str(), ""),
            Of::Named(namespace, name) => (namespace.as_str(), name.as_str()),
        };
        proto::ObserveRequest {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            window_ms: u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX),
            points: self.points,
            routes: self.routes,
            durations: self.durations,
            looks,
        }
    }

    /// And whether who asks goes on looking.
    pub(crate) fn read(message: proto::ObserveRequest) -> (Self, bool) {
        let of = match (message.namespace, message.name) {
            (namespace, _) if namespace.is_empty() => Of::All,
            (namespace, name) if name.is_empty() => Of::Namespace(namespace),
            (namespace, name) => Of::Named(namespace, name),
        };
        let ask = Self {
            of,
            window: Duration::from_millis(message.window_ms),
            points: message.points,
            routes: message.routes,
            durations: message.durations,
        };
        (ask, message.looks)
    }
}

impl Known {
    pub(crate) fn message(&self) -> proto::ObserveResponse {
        let row = |row: &Row| proto::Row {
            workload: Some(row.edge.workload.message()),
            edge: Some(row.edge.message(&row.route)),
            points: row.points.iter().map(Totals::message).collect(),
            covers: row.covers,
        };
        let reporting = self.reporting.iter().map(|one| proto::Reporting {
            workload: Some(one.workload.message()),
            proxies: u32::try_from(one.proxies).unwrap_or(u32::MAX),
        });
        proto::ObserveResponse {
            rows: self.rows.iter().map(row).collect(),
            reporting: reporting.collect(),
            shortened: self.shortened,
            since_ms: u64::try_from(self.since.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Bytes of it, as a message to another replica.
    pub fn message_bytes(&self) -> usize {
        self.message().encoded_len()
    }

    /// What makes no sense, because the other is of another version, is left out.
    pub(super) fn read(message: proto::ObserveResponse) -> Self {
        let rows = message.rows.into_iter().filter_map(|row| {
            let (edge, route) = Edge::read(&Workload::read(row.workload?), &row.edge?).ok()?;
            let points = row.points.iter().map(|counts| {
                let mut totals = Totals::default();
                totals.read(counts);
                totals
            });
            Some(Row { edge: edge.into(), route, points: points.collect(), covers: row.covers })
        });
        let reporting = message.reporting.into_iter().filter_map(|one| {
            let workload = Workload::read(one.workload?);
            Some(Reporting { workload, proxies: one.proxies as usize })
        });
        let since = Duration::from_millis(message.since_ms);
        Self {
            rows: Arc::new(rows.collect()),
            reporting: reporting.collect(),
            shortened: message.shortened,
            since,
            whole: since,
        }
    }
}

impl Workload {
    pub(crate) fn message(&self) -> proto::Workload {
        let Self { namespace, kind, name } = self.clone();
        proto::Workload { namespace, kind, name }
    }

    pub(crate) fn read(message: proto::Workload) -> Self {
        let proto::Workload { namespace, kind, name } = message;
        Self { namespace, kind, name }
    }
}
