//! What the intake and the workers of one consumer share.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use trunkline_core::{Attributes, Error, ErrorKind, FailureCause, Group, Result};

use crate::bus::BusInner;
use crate::consumer::{Registration, Settings};
use crate::lanes::{Lanes, WorkerId};
use crate::metrics::ConsumerCounters;

/// Who a consumer is, as its handlers may know.
#[derive(Debug)]
pub(crate) struct ConsumerInfo {
    pub(crate) name: String,
    pub(crate) group: Option<Group>,
    pub(crate) bus: Weak<BusInner>,
}

/// What the intake and the workers of one consumer share.
pub(crate) struct Runtime {
    pub(crate) info: Arc<ConsumerInfo>,
    pub(crate) settings: Settings,
    pub(crate) lanes: Lanes,
    pub(crate) counters: ConsumerCounters,
    handlers: Vec<Registration>,
    workers: Mutex<Workers>,
    executor: Handle,
    closing: AtomicBool,
    random: AtomicU64,
}

/// The workers of a consumer.
#[derive(Default)]
struct Workers {
    cancellable: JoinSet<()>,
    /// A plain function that runs cannot be stopped: its worker keeps the event until then.
    plain: JoinSet<()>,
}

impl Workers {
    /// Ready when all have gone home.
    fn poll_home(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while ready!(self.cancellable.poll_join_next(cx)).is_some() {}
        while ready!(self.plain.poll_join_next(cx)).is_some() {}
        Poll::Ready(())
    }
}

impl Runtime {
    pub(crate) fn new(
        info: ConsumerInfo,
        settings: Settings,
        handlers: Vec<Registration>,
    ) -> Arc<Self> {
        Arc::new(Self {
            info: Arc::new(info),
            lanes: Lanes::new(handlers.len(), settings.concurrency, settings.prefetch),
            counters: ConsumerCounters::default(),
            handlers,
            settings,
            workers: Mutex::default(),
            executor: Handle::current(),
            closing: AtomicBool::new(false),
            random: AtomicU64::new(0x9e37_79b9_7f4a_7c15),
        })
    }

    /// Adds a worker to a pool, if it may have one more.
    pub(crate) fn hire(self: &Arc<Self>, pool: u32) {
        let pool = pool as usize;
        let Some(number) = self.lanes.hire(pool) else { return };
        let work = (self.handlers[pool].hire)(Arc::clone(self), WorkerId { pool, number });
        let mut workers = self.workers();
        let set = match self.handlers[pool].cancellable {
            true => &mut workers.cancellable,
            false => &mut workers.plain,
        };
        // Only a worker that died early is home before the consumer closes.
        while set.try_join_next().is_some() {}
        set.spawn_on(work, &self.executor);
    }

    /// The pool that handles an event, and its fate when no handler takes it.
    pub(crate) fn find_handler(&self, event: &Attributes) -> (u32, Option<FailureCause>) {
        // Foreign events without a `dataversion` are the first version of their type.
        let version = event.version().unwrap_or(1);
        let of_type = |handler: &Registration| handler.event_type == Some(event.event_type());
        let mut typed = (0..).zip(&self.handlers).filter(|(_, h)| of_type(h)).peekable();
        if typed.peek().is_some() {
            return match typed.find(|(_, handler)| handler.versions.contains(&version)) {
                Some((pool, _)) => (pool, None),
                None => (0, Some(FailureCause::UnknownVersion)),
            };
        }
        match (0..).zip(&self.handlers).find(|(_, handler)| handler.event_type.is_none()) {
            Some((pool, _)) => (pool, None),
            None => (0, Some(FailureCause::Unhandled)),
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Starts closing: nothing further starts, and what was not started goes back to the broker.
    pub(crate) fn start_closing(&self) {
        self.closing.store(true, Ordering::Release);
        drop(self.lanes.close());
    }

    /// Closes without waiting: handlers are cancelled where they stand, and their events go back.
    /// Only a plain function goes on, with its event, until it returns.
    pub(crate) fn abandon(&self) {
        self.start_closing();
        self.workers().cancellable.abort_all();
    }

    fn workers(&self) -> MutexGuard<'_, Workers> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the running handlers; those that are too slow are cancelled, and their events go
    /// back.
    ///
    /// A dropped call has cancelled nothing: the workers stay where they are.
    pub(crate) async fn finish(&self, deadline: tokio::time::Instant) -> Result<()> {
        let all_home = poll_fn(|cx| self.workers().poll_home(cx));
        let in_time = tokio::time::timeout_at(deadline, all_home).await.is_ok();
        let Workers { mut cancellable, mut plain } = std::mem::take(&mut *self.workers());
        let running = self.lanes.running();
        cancellable.shutdown().await;
        plain.detach_all();
        if in_time && running == 0 {
            return Ok(());
        }
        let message = format!(
            "handlers of `{}` did not finish in time: their events will be delivered again",
            self.info.name
        );
        Err(Error::new(ErrorKind::TimedOut, "close", message).with("handlers", running))
    }

    /// A number from 0 to 1 that spreads waits; an xorshift generator is random enough for that.
    pub(crate) fn random(&self) -> f64 {
        let step = |mut x: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x
        };
        let previous =
            self.random.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |x| Some(step(x)));
        let bits = step(previous.unwrap_or_default()) >> 40;
        f64::from(u32::try_from(bits).unwrap_or_default()) / f64::from(1_u32 << 24)
    }
}
