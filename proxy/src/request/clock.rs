//! The time that a request has: until its end, and without carrying anything.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::StatusCode;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{body::Upload, target::Forward};
use crate::{
    error::{Error, Reason},
    net::idle::{self, Idle},
    telemetry::Record,
};

/// Runs from a request's arrival to its response's end.
#[derive(Debug)]
pub struct Clock {
    within: Option<Duration>,
    deadline: Option<Instant>,
    ends: Option<Pin<Box<Sleep>>>,
    idle: Option<Idle>,
}

impl Clock {
    /// As the target's rule says.
    pub fn new(target: &Forward, record: &Record) -> Self {
        let timeouts = target.rule().map(|rule| rule.timeouts).unwrap_or_default();
        let counters = || [record.received(), record.sent()];
        Self {
            within: timeouts.request,
            deadline: timeouts.request.map(|within| Instant::now() + within),
            ends: None,
            idle: timeouts.idle.map(|within| Idle::new(within, counters())),
        }
    }

    /// When the response must have ended.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What comes first: the answer, or the end of the time without anything. As Envoy does, that is 408 while
    /// the client owes a part of its request, and 504 once the server owes all of the answer.
    pub async fn answer<T>(
        &mut self,
        upload: &Upload,
        answering: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let answer = tokio::select! {
            biased;
            answer = answering => answer,
            error = idle::expired(self.idle.as_mut()) => Err(match upload.is_whole() {
                true => error,
                false => error.with_status(StatusCode::REQUEST_TIMEOUT),
            }),
        };
        if let Some(idle) = &mut self.idle {
            idle.restart();
        }
        answer
    }

    /// Whether the response must end, and why.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        if let Some(deadline) = self.deadline {
            let ends = self.ends.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if ends.as_mut().poll(cx).is_ready() {
                let within = self.within.unwrap_or_default();
                let detail =
                    format!("no whole answer within {within:?}, the rule's time for the request");
                return Poll::Ready(
                    Error::new(Reason::Timeout, detail).set_by(&["timeouts.request"]),
                );
            }
        }
        self.idle.as_mut().map_or(Poll::Pending, |idle| idle.poll_expired(cx))
    }

    /// What remains of it after a 101: what the connection then carries has no end of its own.
    pub fn into_idle(self) -> Option<Idle> {
        self.idle
    }
}
