//! An HTTP/1 connection to an endpoint, which carries one request at a time.

use http::{Method, Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1::SendRequest},
};

use crate::{
    net::guard::{Responses, scan::Asked},
    request::body::RequestBody,
};

/// What sends on such a connection.
#[derive(Debug)]
pub struct Exclusive {
    sender: SendRequest<RequestBody>,
    responses: Responses,
}

impl Exclusive {
    pub(super) fn new(sender: SendRequest<RequestBody>, responses: Responses) -> Self {
        Self { sender, responses }
    }

    /// Whether a request can be sent now.
    pub fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Whether none can be sent any more.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
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
