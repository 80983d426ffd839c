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

/// What ends such a connection.
#[derive(Debug)]
pub struct Ends<R> {
    /// How long it may carry nothing.
    pub idle: Option<Idle>,
    /// Resolves if the endpoint's version was rolled back.
    pub retired: R,
}

/// Carries bytes between both ends as soon as the 101 has reached the client, until policy does not
/// allow it any more, or one of `ends` comes. The record closes and the lease ends with the last of them.
pub fn carry<R: Future<Output = Error> + Send + 'static>(
    connection: Arc<Connection>,
    client: OnUpgrade,
    response: &mut Response<Incoming>,
    lease: Lease,
    ends: Ends<R>,
    mut record: Record,
) {
    let server = upgrade::on(response);
    let Ends { mut idle, retired } = ends;
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
            error = retired => Err(error),
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
