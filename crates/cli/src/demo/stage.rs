//! What the parts of a run share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use trunkline::hybrid::HybridBroker;
use trunkline::{Attributes, EventBus, Route};

use super::ledger::Ledger;
use super::settings::Promise;
use crate::console::Console;
use crate::interrupt::Interrupt;

/// What the parts of a run share.
pub(super) struct Stage {
    pub(super) bus: EventBus,
    pub(super) hybrid: Option<HybridBroker>,
    /// Where everything goes that no hybrid decides.
    pub(super) only_route: Route,
    pub(super) promise: Promise,
    pub(super) ledger: Arc<Ledger>,
    pub(super) console: Arc<Console>,
    pub(super) interrupt: Interrupt,
    pub(super) pace: Pace,
}

impl Stage {
    /// Where an event goes: a strategy is pure, so that it can be asked without sending.
    pub(super) fn route_of(&self, attributes: &Attributes) -> Route {
        match &self.hybrid {
            Some(hybrid) => hybrid.explain(attributes).route,
            None => self.only_route,
        }
    }
}

/// When publishes may start.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Option<Duration>,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// So many starts a second, or as many as there are.
    pub(super) fn new(per_second: Option<f64>) -> Self {
        let interval = per_second.map(|rate| Duration::from_secs_f64(rate.recip()));
        Self { interval, next: Mutex::default() }
    }

    /// Waits for the next start; `false` when an interrupt came first.
    ///
    /// Starts that came too late are made up for, so that the rate holds over the run.
    pub(super) async fn turn(&self, interrupt: &Interrupt) -> bool {
        let Some(interval) = self.interval else { return !interrupt.is_asked() };
        let start = {
            let mut next = self.next.lock().await;
            let start = next.unwrap_or_else(Instant::now);
            *next = start.checked_add(interval);
            start
        };
        tokio::select! {
            biased;
            () = interrupt.asked() => false,
            () = tokio::time::sleep_until(start) => true,
        }
    }
}
