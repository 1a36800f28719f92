//! A publish on its way.

use std::time::Duration;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::ShortString;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::codec::Message;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Why a publish was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    Unroutable,
    /// A queue, or a server without room, refused it until the deadline.
    Refused,
    /// It was sent, and no confirm came.
    NoConfirm,
    /// It was never sent.
    Disconnected,
    Closed,
}

pub(crate) type Outcome = Result<(), Failed>;

/// A publish that waits for its confirm.
pub(crate) struct Job {
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) body: Bytes,
    pub(crate) properties: BasicProperties,
    pub(crate) mandatory: bool,
    pub(crate) deadline: Instant,
    pub(crate) sent: Option<Instant>,
    /// A queue has refused it since it was sent last, or it was never sent because the server takes nothing.
    pub(crate) refused: bool,
    /// How long it waits after the next refusal, and until when it waits now.
    pause: Duration,
    again_at: Instant,
    /// It is confirmed, and safe from then on.
    pub(crate) safe_at: Option<Instant>,
    pub(crate) reply: oneshot::Sender<Outcome>,
}

impl Job {
    pub(crate) fn new(
        exchange: ShortString,
        routing_key: ShortString,
        message: Message,
        deadline: Instant,
    ) -> (Self, oneshot::Receiver<Outcome>) {
        let (reply, outcome) = oneshot::channel();
        let (body, properties) = message.into_parts();
        let job = Self {
            exchange,
            routing_key,
            body,
            properties,
            mandatory: true,
            deadline,
            sent: None,
            refused: false,
            pause: FIRST_PAUSE,
            again_at: deadline,
            safe_at: None,
            reply,
        };
        (job, outcome)
    }

    /// That nobody takes it is no error.
    pub(crate) fn optional(mut self) -> Self {
        self.mandatory = false;
        self
    }

    /// Notes that it is on its way.
    pub(crate) fn send(&mut self) {
        self.sent = Some(Instant::now());
        self.refused = false;
    }

    /// Notes that a queue refused it. Other queues behind the exchange have taken it and get another copy
    /// each time, so that the pauses grow. It is sent again only where as much time is left for the answer:
    /// that it was refused is known, and would be no more.
    pub(crate) fn refuse(&mut self) {
        self.refused = true;
        let again_at = Instant::now() + self.pause;
        let has_time = again_at + self.pause < self.deadline;
        self.again_at = if has_time { again_at } else { self.deadline };
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Notes that the server takes no publishes; what was sent before may have been accepted.
    pub(crate) fn hold(&mut self) {
        self.refused |= self.sent.is_none();
    }

    /// Whether it is time to send again what was refused.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.again_at <= now
    }

    pub(crate) fn end(self, outcome: Outcome) {
        if self.reply.send(outcome).is_err() {
            tracing::trace!("the caller of a publish has not waited for its outcome");
        }
    }

    pub(crate) fn expire(self) {
        if self.safe_at.is_some() {
            return self.end(Ok(()));
        }
        let failed = match (self.refused, self.sent) {
            (true, _) => Failed::Refused,
            (false, Some(_)) => Failed::NoConfirm,
            (false, None) => Failed::Disconnected,
        };
        self.end(Err(failed));
    }

    pub(crate) fn mark(&self) -> Mark {
        let id = self.properties.message_id().as_ref().map(ShortString::to_string);
        (id.unwrap_or_default(), self.routing_key.to_string())
    }
}

/// What tells messages of one channel apart: message id and routing key.
pub(crate) type Mark = (String, String);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_sent_again_only_while_there_is_time_for_an_answer() {
        let begun = Instant::now();
        let deadline = begun + Duration::from_secs(3);
        let (exchange, key) = (ShortString::from("trunkline"), ShortString::from("orders"));
        let (mut job, _outcome) = Job::new(exchange, key, Message::record(Vec::new()), deadline);
        let mut sent = Vec::new();
        while Instant::now() < deadline {
            sent.push(begun.elapsed().as_millis());
            job.send();
            job.refuse();
            tokio::time::sleep_until(job.again_at).await;
        }
        assert_eq!(sent, [0, 50, 150, 350, 750, 1550]);
        assert!(job.is_due(deadline) && job.refused);
    }
}
