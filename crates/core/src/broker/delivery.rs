//! One event handed out, settled exactly once.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::BrokerPosition;
use crate::error::{Error, Result};
use crate::event::Event;

/// One event handed out to one consumer.
///
/// Settling consumes it, so that settling twice does not compile. A delivery that is dropped
/// unsettled goes back to the head of its key in the same process, and to the broker when the
/// subscription closes; that is no attempt.
pub struct Delivery {
    /// Taken only when the delivery is settled or dropped.
    event: Option<Event>,
    handle: Arc<dyn Settle>,
    token: u64,
    attempts: u32,
    redeliveries: u32,
    defect: Option<Error>,
}

/// What becomes of a delivery.
#[derive(Debug)]
pub enum Verdict {
    /// Handled: the broker forgets it for this group.
    Ack,
    /// To be delivered again after a while, with the count of attempts so far written to it.
    Retry {
        /// How long to wait; zero puts it back at the head of its key.
        after: Duration,
        /// How many attempts were made in all.
        attempts: u32,
    },
    /// Moved to the dead letters.
    Reject(Box<DeadLetter>),
}

/// A broker's side of its deliveries: shared by them, told which one by a number.
pub trait Settle: Send + Sync + 'static {
    /// Settles one delivery; ready at once where nothing has to be waited for.
    ///
    /// Ok for a reject or a retry means that the dead letter or the delayed copy has been accepted.
    fn settle(&self, token: u64, event: &Event, verdict: Verdict) -> Settling;

    /// Takes back a delivery that was dropped unsettled: to the head of its key, with the counts
    /// that it was handed out with.
    fn release(&self, token: u64, event: Event, attempts: u32, redeliveries: u32);

    /// Where the event of a delivery stands in the log, where that is known: see
    /// [`Delivery::position`].
    fn position(&self, token: u64) -> Option<BrokerPosition> {
        let _nowhere = token;
        None
    }

    /// Whether another member may have the event of a delivery by now: see [`Delivery::is_revoked`].
    fn is_revoked(&self, token: u64) -> bool {
        let _kept = token;
        false
    }

    /// Waits until that is so; `None` where it never is while this process lives.
    fn revoked(&self, token: u64) -> Option<Revocation> {
        let _kept = token;
        None
    }
}

/// Ready when a delivery has been revoked: see [`Delivery::revoked`].
pub type Revocation = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A settlement under way: a future that is often ready at once.
pub enum Settling {
    /// The outcome is known.
    Ready(Result<()>),
    /// Something has to be waited for.
    Waiting(Pin<Box<dyn Future<Output = Result<()>> + Send>>),
}

/// A settlement that failed, with the delivery, so that it can be tried again.
#[derive(Debug)]
pub struct Unsettled {
    /// Why: `Fenced` when another member owns the event by now, else what the broker said.
    pub error: Error,
    /// The delivery, still unsettled.
    pub delivery: Delivery,
}

impl Delivery {
    /// Hands out `event`; `token` is what [`Settle`] will be told.
    #[must_use]
    pub fn new(event: Event, handle: Arc<dyn Settle>, token: u64) -> Self {
        Self { event: Some(event), handle, token, attempts: 0, redeliveries: 0, defect: None }
    }

    /// Adds the attempts that were written to the event, and how often the broker handed it out
    /// before.
    #[must_use]
    pub fn with_counts(mut self, attempts: u32, redeliveries: u32) -> Self {
        self.attempts = attempts;
        self.redeliveries = redeliveries;
        self
    }

    /// Says that the message could not be read as an event; `event` then holds its raw bytes.
    #[must_use]
    pub fn with_defect(mut self, defect: Error) -> Self {
        self.defect = Some(defect);
        self
    }

    /// The event.
    ///
    /// # Panics
    /// Never: the event is taken only by settling, which consumes the delivery.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "only settling takes the event, and it takes `self` too"
    )]
    pub fn event(&self) -> &Event {
        self.event.as_ref().expect("a delivery that is not settled has its event")
    }

    /// How many attempts were written to the event before this delivery.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// How often the broker handed the event out before, as well as it can tell.
    #[must_use]
    pub fn redeliveries(&self) -> u32 {
        self.redeliveries
    }

    /// Why the message is no event, if it is none.
    #[must_use]
    pub fn defect(&self) -> Option<&Error> {
        self.defect.as_ref()
    }

    /// Where the event stands in the broker's log, for [`StartAt::Position`](super::StartAt::Position).
    /// It is put together when it is asked for.
    ///
    /// None where the broker lacks `start_at_position`, for an event that does not stand in its
    /// topic's log, as one that waited for its retry elsewhere, and, on some brokers, when the
    /// subscription has lost the event's partition meanwhile. Of a hybrid broker it is the position
    /// at the side that the event came from, and a start for that side's broker alone.
    #[must_use]
    pub fn position(&self) -> Option<BrokerPosition> {
        self.handle.position(self.token)
    }

    /// Whether another member may have the event by now, because this one has lost its connection, its
    /// session or its lease as far as it can tell. Whatever settles the delivery is then refused as
    /// `Fenced`, and the event comes again, to this member or to another.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.handle.is_revoked(self.token)
    }

    /// Waits until the delivery [is revoked](Self::is_revoked), so that its handler can be cancelled:
    /// within the lease or session of the broker, or as soon as a connection is known to be gone where
    /// it holds the delivery. `None` where that never happens while this process lives.
    ///
    /// # Cancel safety
    /// Safe: a dropped future changes nothing.
    #[must_use]
    pub fn revoked(&self) -> Option<Revocation> {
        self.handle.revoked(self.token)
    }

    /// Acknowledges: the handler has finished.
    ///
    /// # Errors
    /// The delivery comes back with `Fenced` when another member owns it by now, or with
    /// `Disconnected`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown; the event may be delivered again.
    pub fn ack(self) -> Settlement {
        self.settle(Verdict::Ack)
    }

    /// Asks for the event again, after a while, with `attempts` made in all.
    ///
    /// # Errors
    /// The delivery comes back when the delayed copy was not accepted.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown; the event may be delivered twice.
    pub fn retry(self, after: Duration, attempts: u32) -> Settlement {
        self.settle(Verdict::Retry { after, attempts })
    }

    /// Moves the event to the dead letters of its group.
    ///
    /// # Errors
    /// The delivery comes back when the dead letter was not accepted: the original stays
    /// unacknowledged.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown; the event may be delivered again.
    pub fn reject(self, letter: DeadLetter) -> Settlement {
        self.settle(Verdict::Reject(Box::new(letter)))
    }

    fn settle(self, verdict: Verdict) -> Settlement {
        Settlement { delivery: Some(self), step: Step::Asked(verdict) }
    }
}

/// A settlement that is to be awaited; dropped before that, the delivery is dropped unsettled.
#[must_use = "a delivery is settled when its settlement is awaited"]
#[derive(Debug)]
pub struct Settlement {
    /// Taken when the settlement ends.
    delivery: Option<Delivery>,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Asked(Verdict),
    Waiting(Settling),
    Ended,
}

impl Future for Settlement {
    type Output = Result<(), Unsettled>;

    /// # Panics
    /// When polled again after it has ended, as most futures do.
    #[expect(clippy::expect_used, reason = "the contract of a future: not polled after its end")]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let delivery = this.delivery.as_ref().expect("polled only until it has ended");
        let mut settling = match std::mem::replace(&mut this.step, Step::Ended) {
            Step::Asked(verdict) => {
                delivery.handle.settle(delivery.token, delivery.event(), verdict)
            }
            Step::Waiting(settling) => settling,
            Step::Ended => return Poll::Pending,
        };
        let outcome = match &mut settling {
            Settling::Ready(outcome) => std::mem::replace(outcome, Ok(())),
            Settling::Waiting(future) => match future.as_mut().poll(cx) {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => {
                    this.step = Step::Waiting(settling);
                    return Poll::Pending;
                }
            },
        };
        let mut delivery = this.delivery.take().expect("present until the settlement has ended");
        Poll::Ready(match outcome {
            Ok(()) => {
                delivery.event = None;
                Ok(())
            }
            Err(error) => Err(Unsettled { error, delivery }),
        })
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(event) = self.event.take() {
            self.handle.release(self.token, event, self.attempts, self.redeliveries);
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("event", &self.event)
            .field("token", &self.token)
            .field("attempts", &self.attempts)
            .field("redeliveries", &self.redeliveries)
            .field("defect", &self.defect)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Settling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(outcome) => f.debug_tuple("Ready").field(outcome).finish(),
            Self::Waiting(_) => f.write_str("Waiting"),
        }
    }
}

/// Why an event was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureCause {
    /// Every attempt failed, or the handler said that no attempt can succeed.
    Failed,
    /// The message is no event, or its data is not what the handler expects.
    Undecodable,
    /// No handler of the type accepts the event's version.
    UnknownVersion,
    /// The group has no handler for the type, and its policy is to keep such events.
    Unhandled,
    /// The event kept killing the processes that handled it.
    Crashed,
}

/// Why and when an event was given up; the broker keeps the event itself beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Why the event was given up.
    pub cause: FailureCause,
    /// How many attempts were made in all.
    pub attempts: u32,
    /// When the first attempt failed.
    pub first_failure: Timestamp,
    /// When the last attempt failed.
    pub last_failure: Timestamp,
    /// The kind of the last error.
    pub error_kind: String,
    /// The text of the last error and its causes.
    pub error_text: String,
}
