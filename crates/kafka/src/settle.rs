//! Settling: what becomes of a delivery, on the subscriber's side.

use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_core::{BrokerPosition, DeadLetter, Event, Revocation, Settle, Settling, Verdict};

use crate::codec::{self, Draft};
use crate::part::Back;
use crate::seat::{Role, Seat};
use crate::{error, letters};

/// A seat as its deliveries hold it.
pub(crate) struct Handle(pub(crate) Arc<Seat>);

impl Handle {
    /// Writes a copy that waits, and then settles the delivery.
    fn retry_later(&self, token: u64, event: &Event, after: Duration, attempts: u32) -> Settling {
        let (seat, event) = (Arc::clone(&self.0), event.clone());
        Settling::Waiting(Box::pin(async move {
            seat.verify().await;
            let (extras, is_defective) = seat.raw(token)?;
            let shared = seat.shared.upgrade().ok_or_else(|| error::closed("settle"))?;
            let draft = Draft::again(&event, extras.as_ref(), is_defective)?.anywhere();
            let draft = draft
                .with_text(codec::TOPIC, event.topic())
                .with_text(codec::ATTEMPTS, &attempts)
                .with_text(codec::DUE, &due_in(after));
            match &seat.role {
                Role::Member(group) => {
                    let name = shared.topics.names.retry(group);
                    shared.producer.write(&name, draft).await?;
                    seat.replace(token).await
                }
                // Nobody else gets what a broadcast subscriber retries, and it dies with it: the
                // event waits where it is.
                _ => seat.put_back(token, event, written(attempts, Some(after))),
            }
        }))
    }

    fn reject(&self, token: u64, event: &Event, letter: DeadLetter) -> Settling {
        let (seat, event) = (Arc::clone(&self.0), event.clone());
        Settling::Waiting(Box::pin(async move {
            seat.verify().await;
            let (extras, is_defective) = seat.raw(token)?;
            let shared = seat.shared.upgrade().ok_or_else(|| error::closed("settle"))?;
            let draft = Draft::again(&event, extras.as_ref(), is_defective)?.anywhere();
            letters::keep(&shared, &seat.role, &event, draft, &letter).await?;
            seat.replace(token).await
        }))
    }
}

fn written(attempts: u32, after: Option<Duration>) -> Back {
    let until = after.map(|after| Instant::now() + after);
    Back { attempts, redeliveries: 1, is_written: true, until }
}

/// When what waits so long is due, in milliseconds since 1970, never early.
pub(crate) fn due_in(after: Duration) -> i64 {
    let wait = i64::try_from(after.as_micros().div_ceil(1_000)).unwrap_or(i64::MAX);
    codec::now_millis().saturating_add(wait).saturating_add(1)
}

impl Settle for Handle {
    fn settle(&self, token: u64, event: &Event, verdict: Verdict) -> Settling {
        match verdict {
            Verdict::Ack if self.0.is_suspect() => {
                let seat = Arc::clone(&self.0);
                Settling::Waiting(Box::pin(async move {
                    seat.verify().await;
                    seat.complete(token)
                }))
            }
            Verdict::Ack => Settling::Ready(self.0.complete(token)),
            Verdict::Retry { after, attempts } if after.is_zero() => {
                Settling::Ready(self.0.put_back(token, event.clone(), written(attempts, None)))
            }
            Verdict::Retry { after, attempts } => self.retry_later(token, event, after, attempts),
            Verdict::Reject(letter) => self.reject(token, event, *letter),
        }
    }

    fn release(&self, token: u64, event: Event, attempts: u32, redeliveries: u32) {
        // A partition that has gone takes its deliveries with it: the next owner reads them.
        let redeliveries = redeliveries + 1;
        let back = Back { attempts, redeliveries, is_written: false, until: None };
        let _gone = self.0.put_back(token, event, back);
    }

    fn is_revoked(&self, token: u64) -> bool {
        self.0.desk().check(token).is_err()
    }

    fn revoked(&self, token: u64) -> Option<Revocation> {
        let seat = Arc::clone(&self.0);
        Some(Box::pin(async move { seat.revoked(token).await }))
    }

    fn position(&self, token: u64) -> Option<BrokerPosition> {
        let spot = self.0.desk().spot(token)?;
        // What stands in a topic of ours waits there for its group alone.
        let shared = self.0.shared.upgrade()?;
        shared.topics.names.parse(&spot.name).map(|_topic| spot.position())
    }
}
