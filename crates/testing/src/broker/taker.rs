//! One subscription, driven by hand.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use trunkline_core::{Delivery, Event, Subscription, SubscriptionExt as _};

use super::number;
use crate::failure::{Check, Failure, ensure, ensure_eq};

/// How long what must happen may take: far more than any broker needs.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A moment that is long for a broker in this process.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

tokio::task_local! {
    /// How long what must not happen is looked for where [`PAUSE`] is too short for it: on a server.
    pub(crate) static QUIET: Duration;

    /// The most that is waited for anything: less than the time that the property has.
    pub(crate) static PATIENCE: Duration;
}

/// The limit, or the most that is waited for anything.
fn at_most(limit: Duration) -> Duration {
    PATIENCE.try_with(|most| limit.min(*most)).unwrap_or(limit)
}

/// How long the next delivery may take: a server may have to notice first that another member is gone.
pub(crate) fn patience() -> Duration {
    at_most(if QUIET.try_with(|_| ()).is_ok() { 3 * SOON } else { SOON })
}

/// How long what must not happen is looked for.
pub(crate) fn quiet() -> Duration {
    QUIET.try_with(|quiet| *quiet).unwrap_or(PAUSE)
}

/// Waits until `holds` answers true.
pub(crate) async fn eventually<Fut>(
    limit: Duration,
    what: &str,
    mut holds: impl FnMut() -> Fut,
) -> Check
where
    Fut: Future<Output = Result<bool, Failure>>,
{
    const BETWEEN: Duration = Duration::from_millis(2);
    let limit = at_most(limit);
    let deadline = Instant::now() + limit;
    while !holds().await? {
        ensure!(Instant::now() < deadline, "after {limit:?} it is still not so that {what}");
        tokio::time::sleep(BETWEEN).await;
    }
    Ok(())
}

/// Fails unless what began at `begun` took at least `least` and less than `most`.
pub(crate) fn elapsed_between(begun: Instant, least: Duration, most: Duration) -> Check {
    let taken = begun.elapsed();
    ensure!(taken >= least, "it took {taken:?}, and may not be earlier than {least:?}");
    ensure!(taken < most, "it took {taken:?}, and may take {most:?} at most");
    Ok(())
}

pub(crate) async fn ack(delivery: Delivery) -> Check {
    delivery.ack().await.map_err(|unsettled| Failure::from(unsettled.error))
}

/// A subscription, driven by hand.
pub(crate) struct Taker(Box<dyn Subscription>);

impl Taker {
    pub(crate) fn new(subscription: Box<dyn Subscription>) -> Self {
        Self(subscription)
    }

    /// The next delivery; that it does not come soon is a failure.
    pub(crate) async fn next(&mut self) -> Result<Delivery, Failure> {
        let limit = patience();
        match timeout(limit, self.0.next()).await {
            Ok(Ok(Some(delivery))) => Ok(delivery),
            Ok(Ok(None)) => Err(Failure::new("the subscription has ended")),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Failure::new(format!("no delivery came within {limit:?}"))),
        }
    }

    /// At least one and up to `most` deliveries, or `None` when the subscription has ended.
    pub(crate) async fn some(&mut self, most: usize) -> Result<Option<Vec<Delivery>>, Failure> {
        let mut out = Vec::new();
        let more = poll_fn(|cx| self.0.poll_deliveries(cx, most, &mut out)).await?;
        ensure!(out.len() <= most, "{} deliveries where {most} were asked for", out.len());
        ensure!(more != out.is_empty(), "ready without a delivery, or ended with one");
        Ok(more.then_some(out))
    }

    /// The next `count` deliveries.
    pub(crate) async fn take(&mut self, count: usize) -> Result<Vec<Delivery>, Failure> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            let next = self.next().await;
            taken.push(next.map_err(|failure| {
                Failure::new(format!("{} of {count} came, and then: {failure}", taken.len()))
            })?);
        }
        Ok(taken)
    }

    /// The next event, acknowledged.
    pub(crate) async fn event(&mut self) -> Result<Event, Failure> {
        let delivery = self.next().await?;
        let event = delivery.event().clone();
        ack(delivery).await?;
        Ok(event)
    }

    /// Takes and acknowledges events, which have to have just these numbers in this order.
    pub(crate) async fn expect(&mut self, numbers: impl IntoIterator<Item = u64>) -> Check {
        for wanted in numbers {
            let found = number(&self.event().await.map_err(|failure| {
                Failure::new(format!("while number {wanted} was waited for: {failure}"))
            })?)?;
            ensure_eq!(found, wanted, "the next number");
        }
        Ok(())
    }

    /// Takes and acknowledges events, which have to have just these numbers in any order.
    pub(crate) async fn expect_all(&mut self, numbers: impl IntoIterator<Item = u64>) -> Check {
        let wanted: BTreeSet<u64> = numbers.into_iter().collect();
        let mut found = BTreeSet::new();
        while found.len() < wanted.len() {
            let next = number(&self.event().await?)?;
            ensure!(wanted.contains(&next), "number {next} came, which is not wanted");
            ensure!(found.insert(next), "number {next} came twice");
        }
        Ok(())
    }

    /// Takes and acknowledges whatever still comes, until nothing has come for a moment.
    pub(crate) async fn drain(&mut self) -> Check {
        while let Ok(next) = timeout(quiet(), self.0.next()).await {
            let Some(delivery) = next? else { break };
            ack(delivery).await?;
        }
        Ok(())
    }

    /// Fails when anything comes within a moment.
    pub(crate) async fn nothing(&mut self) -> Check {
        self.nothing_for(quiet()).await
    }

    /// Fails when anything comes within `pause`.
    pub(crate) async fn nothing_for(&mut self, pause: Duration) -> Check {
        match timeout(pause, self.0.next()).await {
            Err(_) => Ok(()),
            Ok(Ok(Some(delivery))) => {
                let event = delivery.event();
                let (number, topic) = (number(event)?, event.topic());
                Err(Failure::new(format!("number {number} of {topic} came, and nothing should")))
            }
            Ok(Ok(None)) => Err(Failure::new("the subscription has ended")),
            Ok(Err(error)) => Err(error.into()),
        }
    }

    /// Fails unless the subscription ends soon, without a further delivery.
    pub(crate) async fn ends(&mut self) -> Check {
        let limit = at_most(SOON);
        match timeout(limit, self.0.next()).await {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(_))) => Err(Failure::new("a delivery came where the end was due")),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Failure::new(format!("it has not ended within {limit:?}"))),
        }
    }

    /// Leaves cleanly.
    pub(crate) async fn leave(self) -> Check {
        Ok(self.0.close(SOON).await?)
    }
}
