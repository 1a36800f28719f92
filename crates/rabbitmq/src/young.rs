//! Quorum queues that a `SIGKILL` of the server would lose.
//!
//! The server writes down half a second late which quorum queues it has: one that was younger when it
//! was killed comes back dead, with what it had confirmed. So what may have gone to a young queue is
//! accepted when it is old enough, and sent again if the connection ends before.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lapin::types::ShortString;
use tokio::time::Instant;
use trunkline_core::{Pattern, Topic};

use crate::lock;

/// Twice the age of the oldest queue that was seen to come back dead.
const GROWN_UP: Duration = Duration::from_secs(1);

/// The queues that were made just now.
#[derive(Debug, Default)]
pub(crate) struct Young {
    any: AtomicBool,
    queues: Mutex<Vec<Queues>>,
}

#[derive(Debug)]
struct Queues {
    /// What leads to them whatever the routing key is.
    exchange: ShortString,
    topics: Vec<Pattern>,
    until: Instant,
}

impl Young {
    /// Notes that queues behind an exchange, and behind topics, are being made, or were so long ago.
    pub(crate) fn note(&self, exchange: ShortString, topics: Vec<Pattern>, ago: Duration) {
        let Some(left) = GROWN_UP.checked_sub(ago) else { return };
        let until = Instant::now() + left;
        lock(&self.queues).push(Queues { exchange, topics, until });
        self.any.store(true, Ordering::Release);
    }

    /// When what was published there is safe, if it is not yet.
    pub(crate) fn until(
        &self,
        exchange: &ShortString,
        routing_key: &ShortString,
    ) -> Option<Instant> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let now = Instant::now();
        let mut queues = lock(&self.queues);
        queues.retain(|young| young.until > now);
        self.any.store(!queues.is_empty(), Ordering::Release);
        let topic = Topic::new(routing_key.as_str()).ok();
        let leads = |young: &&Queues| {
            young.exchange == *exchange
                || topic.as_ref().is_some_and(|topic| young.topics.iter().any(|p| p.matches(topic)))
        };
        queues.iter().filter(leads).map(|young| young.until).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_leads_to_a_young_queue_waits_until_it_is_grown_up() {
        let young = Young::default();
        let (main, group) = (ShortString::from("trunkline"), ShortString::from("billing"));
        let (orders, other) = (ShortString::from("orders.placed"), ShortString::from("other"));
        young.note(group.clone(), vec!["orders.#".parse().unwrap()], Duration::ZERO);
        assert!(young.until(&main, &orders).is_some() && young.until(&group, &other).is_some());
        assert!(young.until(&main, &other).is_none());
        tokio::time::advance(GROWN_UP).await;
        assert!(young.until(&main, &orders).is_none());
    }
}
