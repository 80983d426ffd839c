//! An HTTP/1 connection to an endpoint, which carries one request at a time.

use std::sync::Arc;

use http::{Method, Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1::SendRequest},
};

use super::host::Carrier;
use crate::{
    net::guard::{Responses, scan::Asked},
    request::body::RequestBody,
};

/// What sends on such a connection.
#[derive(Debug)]
pub struct Exclusive {
    sender: SendRequest<RequestBody>,
    responses: Responses,
    carrier: Arc<Carrier>,
}

impl Exclusive {
    pub(super) fn new(
        sender: SendRequest<RequestBody>,
        responses: Responses,
        carrier: Arc<Carrier>,
    ) -> Self {
        Self { sender, responses, carrier }
    }

    /// Whether a request can be sent now.
    pub fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Whether none can be sent any more.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether it was ended because the cluster is retired.
    pub fn is_retired(&self) -> bool {
        self.carrier.is_retired()
    }

    /// Sends a request, to change to another protocol if it is an `upgrade`.
    ///
    /// # Errors
    /// hyper's, with the request if not a byte of it was written.
    pub async fn send(
        &mut self,
        request: Request<RequestBody>,
        upgrade: bool,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        self.responses.asked(match (upgrade, request.method()) {
            (true, _) => Asked::Upgrade,
            (false, &Method::HEAD) => Asked::Head,
            (false, _) => Asked::Response,
        });
        self.sender.try_send_request(request).await
    }
}
