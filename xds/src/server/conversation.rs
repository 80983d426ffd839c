//! One stream.

use prost::Message as _;
use tokio::sync::mpsc;
use tonic::Status;

use super::{Open, pushed::Part, share::Share, wire::Variant};
use crate::{cache::Subscriber, session::Violation};

/// The session, between the client and the cache.
pub(super) struct Conversation<'a, S: Variant> {
    pub(super) open: &'a Open<S>,
    pub(super) share: Share,
    pub(super) subscriber: Subscriber,
    pub(super) responses: &'a mpsc::Sender<S::Response>,
    pub(super) pushed: Part,
}

impl<S: Variant> Conversation<'_, S> {
    pub(super) fn take(&mut self, request: S::Request) -> Result<(), Status> {
        let pod = &self.open.caller.pod;
        let taken = {
            let mut session = self.open.session.lock();
            session.take(request).map(|taken| (taken, session.subscriptions()))
        };
        let shared =
            taken.and_then(|(taken, subscriptions)| self.share.is(subscriptions).map(|()| taken));
        let (kind, changes) = shared.inspect_err(|status| {
            tracing::warn!(pod, %status, "a stream is closed");
        })?;
        for name in changes.subscribed {
            self.subscriber.subscribe(kind, &name);
        }
        for name in changes.unsubscribed {
            self.subscriber.unsubscribe(kind, &name);
        }
        for name in changes.refused {
            tracing::warn!(pod, name, ?kind, "asked for the resource of another pod: refused");
        }
        for (name, reason) in changes.rejected {
            tracing::warn!(pod, name, ?kind, reason, "a resource was rejected by its client");
        }
        self.note_changes();
        Ok(())
    }

    pub(super) fn note_changes(&self) {
        let mut session = self.open.session.lock();
        for (kind, name) in self.subscriber.take_changed() {
            session.changed(kind, &name);
        }
    }

    pub(super) async fn send(&mut self) -> Result<(), Status> {
        loop {
            let published = |kind, name: &str| self.subscriber.get(kind, name);
            let (response, unanswered) = {
                let mut session = self.open.session.lock();
                (session.next_response(published), session.unanswered())
            };
            self.pushed.waits_for(unanswered);
            let Some(response) = response else {
                return Ok(());
            };
            self.pushed.sends(response.encoded_len());
            let closed = |_| Status::cancelled("the client is gone");
            self.responses.send(response).await.map_err(closed)?;
        }
    }
}

impl From<Violation> for Status {
    fn from(violation: Violation) -> Self {
        let text = violation.to_string();
        match violation {
            Violation::TooMany => Self::resource_exhausted(text),
            Violation::LongName(_) => Self::invalid_argument(text),
            Violation::Wildcard(_) => Self::unimplemented(text),
        }
    }
}
