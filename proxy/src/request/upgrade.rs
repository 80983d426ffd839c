//! After a 101: the connection speaks another protocol, of which we know nothing.

use std::sync::Arc;

use http::Response;
use hyper::{
    body::Incoming,
    upgrade::{self, OnUpgrade},
};
use hyper_util::rt::TokioIo;

use super::{Connection, admit};
use crate::{
    error::{Error, Reason, chain},
    net::{
        copy::{self, Copied},
        idle::{self, Idle},
    },
    telemetry::Record,
    upstream::send::Lease,
};

/// Carries bytes between both ends as soon as the 101 has reached the client, and as long as policy
/// allows it and it is not idle for too long. The record closes and the lease ends with the last of them.
pub fn carry(
    connection: Arc<Connection>,
    client: OnUpgrade,
    response: &mut Response<Incoming>,
    lease: Lease,
    mut idle: Option<Idle>,
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
        let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
        let ended = tokio::select! {
            biased;
            error = admit::revoked(&connection) => Err(error),
            error = idle::expired(idle.as_mut()) => Err(error),
            ended = copy::both_ways(&mut client, &mut server, &copied) => {
                ended.map_err(|(side, error)| side.failure(&error))
            }
        };
        match ended {
            Ok(()) => record.finish(),
            Err(error) => record.fail(&error),
        }
        drop(lease);
    });
}
