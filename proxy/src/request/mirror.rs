//! Copies of requests, whose answers are thrown away.
//!
//! ```text
//! client ──► Upload ──► an endpoint ──► answer ──► client
//!              └─ [ tail ] ──► the mirror's endpoint ──► answer, read and dropped
//! ```
//!
//! A copy is a request of its own: it has its own record and its own way through [`retry`], where it is
//! tried again only if it was never sent, and it counts towards its cluster's limits. Its
//! head is the original's behind the filters of the rule; a backend's filters are for that backend.
//! That goes for `Host`, too: a server that decides by it does with a copy what it does with the
//! original (Envoy would add `-shadow`; Gateway API says nothing). A sidecar is told that it
//! gets a copy, for its log.
//!
//! What wants another protocol (`Upgrade`) has no copies.
//!
//! **Invariant.** A copy never makes its original wait: what there is no room for is not sent, or
//! broken off, and counted.

pub mod tail;

use std::sync::Arc;

use http::request::Parts;
use http_body_util::BodyExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Duration, Instant, sleep},
};
use tulle_expression::Side;
use tulle_xds::model::Mirror;

use super::{
    Connection,
    body::{Upload, grpc_status},
    retry,
    target::{Chosen, Forward},
};
use crate::{
    error::{Error, Reason, chain},
    mesh::Destination,
    telemetry::Record,
    upstream::{
        Cluster,
        limits::{Bound, Permit},
        send::{Answer, Message},
    },
};
use tail::{Fate, Waiting};

/// Copies that a process has under way.
const MOST_UNDER_WAY: usize = 1024;

/// The time that a mirror has to answer once it could have the whole request. A rule's own time for the
/// request holds for its copies as well.
const PATIENCE: Duration = Duration::from_secs(15);

/// Bytes of an answer that are read, so that its connection serves again. A longer one is broken off.
const MOST_READ: usize = 1 << 20;

/// What all copies of a process share.
#[derive(Debug)]
pub struct Mirrors {
    places: Arc<Semaphore>,
    waiting: Waiting,
}

impl Default for Mirrors {
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(MOST_UNDER_WAY));
        Self { places, waiting: Waiting::default() }
    }
}

/// The clusters that get a copy of one request, by lot; `points` are uniform over all of `u32`.
pub fn draw(
    mirrors: &[Mirror],
    destination: &Destination,
    mut points: impl FnMut() -> u32,
) -> Vec<Arc<Cluster>> {
    let drawn = mirrors.iter().filter(|mirror| is_drawn(mirror.millionths, points()));
    // One that does not exist is nowhere to send a copy to.
    drawn.filter_map(|mirror| destination.clusters.get(&mirror.cluster).cloned()).collect()
}

fn is_drawn(millionths: u32, point: u32) -> bool {
    (u64::from(point) * 1_000_000) >> 32 < u64::from(millionths)
}

/// Sends a copy of a request to each of its target's mirrors. `head` is what the original has after
/// the rule's filters, `original` its record; the original's body is not read any faster for its copies.
pub fn start(
    connection: &Arc<Connection>,
    target: &Forward,
    head: &Parts,
    upload: &Upload,
    original: &mut Record,
) {
    let version = original.spoken();
    for cluster in target.mirrors() {
        let Some(places) = admit(connection, cluster) else {
            continue;
        };
        let mut record = connection.record();
        record.copy_of(head, version, cluster);
        record.keep(&connection.cx.settings().wanted, Side::Request, &head.headers);
        if let Some(Chosen { route, rule, .. }) = target.chosen() {
            record.matched(route, *rule);
        }
        let mut head = head.clone();
        record.follow(original, &mut head.headers);
        original.mirrored(cluster);
        let (upload, fate) = upload.tail(&connection.cx.mirrors.waiting, record.received());
        let copy = Copy {
            connection: Arc::clone(connection),
            target: Forward::to(Arc::clone(cluster)),
            message: Message { head, version, upgrade: None, upload, copy: true },
            deadline: target.timeout().map(|within| Instant::now() + within),
            fate,
            _places: places,
        };
        tokio::spawn(copy.run(record));
    }
}

/// A place among the process's copies, and one among the requests of `cluster`. Without both it is only
/// counted: a mirror that cannot keep up shall not fill the log.
fn admit(connection: &Connection, cluster: &Cluster) -> Option<(OwnedSemaphorePermit, Permit)> {
    let refused = |limit| {
        let metrics = &connection.cx.metrics;
        metrics.rejected(limit);
        metrics.mirrored(cluster, Reason::Overflow.as_str());
    };
    let place = Arc::clone(&connection.cx.mirrors.places).try_acquire_owned();
    let place = place.map_err(|_full| refused("mirrors")).ok()?;
    let permit = cluster.limits().take(Bound::Requests);
    let permit = permit.map_err(|full| refused(full.what.as_str())).ok()?;
    Some((place, permit))
}

/// A copy under way.
struct Copy {
    connection: Arc<Connection>,
    target: Forward,
    message: Message,
    deadline: Option<Instant>,
    fate: Fate,
    _places: (OwnedSemaphorePermit, Permit),
}

impl Copy {
    async fn run(self, mut record: Record) {
        let Self { connection, target, message, deadline, fate, _places } = self;
        let ended = tokio::select! {
            biased;
            error = late(fate) => Err(error),
            ended = Box::pin(exchange(&connection, &target, deadline, &message, &mut record)) => ended,
        };
        match ended {
            Ok(()) => record.finish(),
            Err(error) => record.fail(&error),
        }
    }
}

/// Sends a copy, and reads what is answered.
async fn exchange(
    connection: &Connection,
    target: &Forward,
    deadline: Option<Instant>,
    message: &Message,
    record: &mut Record,
) -> Result<(), Error> {
    let answer = retry::run(&connection.cx, target, deadline, message, record).await?;
    let Answer { response, lease, .. } = answer;
    record.status(response.status());
    if let Some(status) = grpc_status(response.headers()) {
        record.grpc_status(status);
    }
    let (sent, mut body) = (record.sent(), response.into_body());
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Error::new(Reason::Reset, format!("the mirror's answer broke off: {}", chain(&error)))
        })?;
        if let Some(status) = frame.trailers_ref().and_then(grpc_status) {
            record.grpc_status(status);
        }
        let new = frame.data_ref().map_or(0, bytes::Bytes::len);
        sent.fetch_add(new as u64, std::sync::atomic::Ordering::Relaxed);
        read += new;
        if read > MOST_READ {
            // Enough. Without being completed, the lease ends the connection.
            return Ok(());
        }
    }
    lease.complete();
    Ok(())
}

/// Resolves when a copy must not go on, with the reason.
async fn late(fate: Fate) -> Error {
    if fate.fell_behind().await {
        let detail = "the mirror takes the body more slowly than the endpoint, and too much waited";
        return Error::new(Reason::Overflow, detail);
    }
    sleep(PATIENCE).await;
    Error::new(Reason::Timeout, "the mirror has not answered whole within 15 s")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_mirror_has_its_time_once_it_could_have_it_all() {
        let begun = Instant::now();
        assert_eq!(late(Fate::ended()).await.reason(), Reason::Timeout);
        assert_eq!(begun.elapsed(), PATIENCE);
    }

    #[test]
    fn none_and_all_are_exact() {
        for point in [0, 1, u32::MAX / 2, u32::MAX - 1, u32::MAX] {
            assert!(!is_drawn(0, point));
            assert!(is_drawn(1_000_000, point));
        }
    }

    proptest! {
        /// The points that are drawn are as many as the share says, to one of 2^32.
        #[test]
        fn a_share_is_the_lower_part_of_all_points(millionths in 1_u32..1_000_000) {
            let end = (u64::from(millionths) << 32).div_ceil(1_000_000);
            let first_not = u32::try_from(end).unwrap();
            prop_assert!(is_drawn(millionths, first_not - 1));
            prop_assert!(!is_drawn(millionths, first_not));
        }
    }
}
