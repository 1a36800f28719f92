//! Which publishes are under way when the broker closes: they end as if it did not, as far as time allows.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// Lets publishes in until it is closed, and those that are in go on until it is sealed.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Publishes that have not handed all their records to the producer.
    inside: AtomicUsize,
    is_closed: AtomicBool,
    is_sealed: AtomicBool,
    emptied: Notify,
}

/// A publish that is inside, as long as it lives.
#[derive(Debug)]
pub(crate) struct Pass<'a>(&'a Gate);

impl Gate {
    pub(crate) fn enter(&self) -> Option<Pass<'_>> {
        // Counted before it looks, as closing looks after it has closed: one of the two sees the other.
        self.inside.fetch_add(1, Ordering::SeqCst);
        let pass = Pass(self);
        (!self.is_closed.load(Ordering::SeqCst)).then_some(pass)
    }

    /// Whether records are taken no more, whoever is inside.
    pub(crate) fn is_sealed(&self) -> bool {
        self.is_sealed.load(Ordering::Acquire)
    }

    /// Lets nobody in from now on, and waits so long at most until nobody is inside.
    pub(crate) async fn close(&self, limit: Duration) {
        self.is_closed.store(true, Ordering::SeqCst);
        let empty = async {
            loop {
                let mut told = std::pin::pin!(self.emptied.notified());
                told.as_mut().enable();
                if self.inside.load(Ordering::SeqCst) == 0 {
                    return;
                }
                told.await;
            }
        };
        if tokio::time::timeout(limit, empty).await.is_err() {
            tracing::warn!("publishes were cut off by the close of the broker");
        }
        self.is_sealed.store(true, Ordering::Release);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.0.inside.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_inside_goes_on_until_the_gate_is_sealed_and_nobody_follows() {
        let gate = Gate::default();
        let pass = gate.enter().unwrap();
        let closing = gate.close(Duration::from_secs(60));
        let leaving = async {
            assert!(!gate.is_sealed() && gate.enter().is_none());
            drop(pass);
        };
        tokio::join!(closing, leaving);
        assert!(gate.is_sealed());
    }

    #[tokio::test]
    async fn who_stays_inside_is_not_waited_for_longer_than_the_limit() {
        let gate = Gate::default();
        let _stays = gate.enter().unwrap();
        gate.close(Duration::from_millis(1)).await;
        assert!(gate.is_sealed());
    }
}
