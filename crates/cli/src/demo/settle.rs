//! Waiting until every event is settled.

use std::time::{Duration, Instant};

use trunkline::{Result, RetryClass};

use super::consumers::Consumers;
use super::stage::Stage;

/// How long nothing may be settled before what is missing counts as lost: longer than the longest
/// reconnect, or hand-over between members, that a broker makes.
const STALL: Duration = Duration::from_secs(60);
/// The same once somebody has asked the program to stop.
const STALL_INTERRUPTED: Duration = Duration::from_secs(3);
/// How often dead letters and progress are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Turns given to other tasks before looking on becomes a timed wait.
const QUICK_LOOKS: u32 = 1_000;

/// How the waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Everything was settled, and acknowledged, at this time.
    Settled(Instant),
    /// Nothing moved any more, or nobody wanted to wait.
    GivenUp,
}

/// Waits until everything that was accepted is handled or dead-lettered by everybody, with its
/// acknowledgement, and nothing waits at the broker that would be a copy.
///
/// # Errors
/// What the broker says of its groups and dead letters.
pub(super) async fn settle(stage: &Stage, consumers: &Consumers) -> Result<Ending> {
    let mut watch = Watch::new(stage);
    while stage.ledger.outstanding() > 0 {
        if consumers.given_up() > watch.given_up {
            let given_up = consumers.given_up();
            if passing(consumers.note_dead_letters(&stage.bus, &stage.ledger).await)?.is_some() {
                watch.given_up = given_up;
            }
        }
        if !watch.look(stage, stage.ledger.settled()).await {
            return Ok(Ending::GivenUp);
        }
    }
    let mut looks = 0;
    while consumers.in_flight() > 0 {
        looks += 1;
        if looks < QUICK_LOOKS {
            tokio::task::yield_now().await;
        } else if !watch.look(stage, std::future::pending()).await {
            return Ok(Ending::GivenUp);
        }
    }
    let settled = Instant::now();
    // A broker that is away for the moment may hold a copy.
    while passing(consumers.waiting(&stage.bus).await)?.is_none_or(|waiting| waiting > 0) {
        if !watch.look(stage, std::future::pending()).await {
            break;
        }
    }
    if consumers.given_up() > 0 {
        consumers.note_dead_letters(&stage.bus, &stage.ledger).await?;
    }
    Ok(Ending::Settled(settled))
}

/// Takes an error that will pass for no answer yet.
fn passing<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if matches!(error.retry(), RetryClass::Transient | RetryClass::Ambiguous) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Tells a run that is slow from one that stands still.
struct Watch {
    settlements: u64,
    moved: Instant,
    given_up: u64,
}

impl Watch {
    fn new(stage: &Stage) -> Self {
        Self { settlements: stage.ledger.settlements(), moved: Instant::now(), given_up: 0 }
    }

    /// Waits a little, or for `news`; whether it makes sense to go on waiting.
    async fn look(&mut self, stage: &Stage, news: impl Future<Output = ()>) -> bool {
        let patient = tokio::select! {
            () = news => true,
            () = tokio::time::sleep(LOOK) => true,
            () = stage.interrupt.insisted() => false,
        };
        let settlements = stage.ledger.settlements();
        if settlements != self.settlements {
            (self.settlements, self.moved) = (settlements, Instant::now());
        }
        let limit = if stage.interrupt.is_asked() { STALL_INTERRUPTED } else { STALL };
        patient && self.moved.elapsed() < limit
    }
}
