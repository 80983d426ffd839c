//! After a 101: the connection speaks another protocol, of which we know nothing.

use http::Response;
use hyper::{
    body::Incoming,
    upgrade::{self, OnUpgrade},
};
use hyper_util::rt::TokioIo;

use crate::{
    error::{Error, Reason, chain},
    net::copy::{self, Copied},
    telemetry::Record,
    upstream::send::Lease,
};

/// Carries bytes between both ends as soon as the 101 has reached the client. The record closes
/// and the lease ends with the last of them.
pub fn carry(
    client: OnUpgrade,
    response: &mut Response<Incoming>,
    lease: Lease,
    mut record: Record,
) {
    let server = upgrade::on(response);
    tokio::spawn(async move {
        let ends = tokio::try_join!(client, server);
        let (client, server) = match ends {
            Ok(ends) => ends,
            Err(error) => {
                record.fail(&Error::new(Reason::Reset, chain(&error)));
                return;
            }
        };
        let copied = Copied { sent: record.received(), received: record.sent() };
        let done =
            copy::both_ways(&mut TokioIo::new(client), &mut TokioIo::new(server), &copied).await;
        match done {
            Ok(()) => record.finish(),
            Err((side, error)) => record.fail(&side.failure(&error)),
        }
        drop(lease);
    });
}
