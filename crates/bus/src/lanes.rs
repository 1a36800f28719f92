//! The lanes of one consumer: which event may be handled next, and by whose workers.
//!
//! A lane keeps a key's events apart from other keys'. It exists while one of its events is with a
//! worker or waits for its next attempt; the others wait in it, in order. Events that may start are
//! in the `ready` queue of their handler's pool, and the pool's workers take them from there.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use jiff::Timestamp;
use tokio::time::Instant;
use trunkline_core::{Delivery, FailureCause};

/// A delivery on its way through the runtime; kept small, for it moves from queue to queue.
pub(crate) struct Job {
    pub(crate) delivery: Delivery,
    pub(crate) lane: Option<u64>,
    /// The failures of this run; there are none, mostly.
    pub(crate) failures: Option<Box<Failures>>,
    /// The handler's place in the consumer.
    pub(crate) pool: u32,
    /// Set when no handler is to run.
    pub(crate) fate: Option<FailureCause>,
}

/// The attempts at an event that failed.
#[derive(Clone, Copy)]
pub(crate) struct Failures {
    /// How many, written ones included.
    pub(crate) count: u32,
    /// When the first of this run failed.
    pub(crate) first: Timestamp,
}

impl Job {
    /// Attempts that failed, written ones included.
    pub(crate) fn failed(&self) -> u32 {
        self.failures.as_ref().map_or(self.delivery.attempts(), |failures| failures.count)
    }

    /// Notes that another attempt failed.
    pub(crate) fn fail(&mut self, now: Timestamp) {
        let count = self.failed() + 1;
        let first = self.failures.as_ref().map_or(now, |failures| failures.first);
        self.failures = Some(Box::new(Failures { count, first }));
    }

    fn pool(&self) -> usize {
        self.pool as usize
    }
}

struct Postponed {
    due: Instant,
    number: u64,
    job: Job,
}

impl PartialEq for Postponed {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Postponed {}

impl PartialOrd for Postponed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Postponed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

pub(crate) struct Lanes(Mutex<State>);

struct State {
    /// Open lanes, with what waits in them.
    open: HashMap<u64, VecDeque<Job>, foldhash::fast::RandomState>,
    /// Emptied lanes, kept so that a busy key allocates nothing.
    spare: Vec<VecDeque<Job>>,
    postponed: BinaryHeap<Reverse<Postponed>>,
    next_number: u64,
    pools: Vec<Pool>,
    intake: Option<Waker>,
    running: u64,
    /// Jobs that are here or with a worker.
    held: usize,
    prefetch: usize,
    closing: bool,
}

#[derive(Default)]
struct Pool {
    ready: VecDeque<Job>,
    idle: Vec<(usize, Waker)>,
    workers: usize,
    /// Names the next worker.
    next_worker: usize,
    limit: usize,
    /// A worker has been woken and has not looked yet: nobody else is woken meanwhile.
    searching: bool,
}

/// The job that a worker has done, or has put back: then its lane stays open.
#[derive(Clone, Copy)]
pub(crate) struct Finished {
    pub(crate) lane: Option<u64>,
}

/// A worker of a pool.
#[derive(Clone, Copy)]
pub(crate) struct WorkerId {
    pub(crate) pool: usize,
    pub(crate) number: usize,
}

/// What a worker is told when it asks for work.
pub(crate) enum Next {
    /// Handle this.
    Job(Job),
    /// Only hire, and ask again.
    Nothing,
    /// The consumer is closing.
    Closing,
}

/// Pools that want one more worker, to be hired once the lock is gone.
pub(crate) type Hires = [Option<u32>; 2];

impl Lanes {
    /// Lanes with a pool of at most `limit` workers for each handler, for a subscription that hands
    /// out at most `prefetch` deliveries.
    pub(crate) fn new(handlers: usize, limit: usize, prefetch: usize) -> Self {
        let pool = || Pool { limit: limit.max(1), ..Pool::default() };
        Self(Mutex::new(State {
            open: HashMap::default(),
            spare: Vec::new(),
            postponed: BinaryHeap::new(),
            next_number: 0,
            pools: (0..handlers.max(1)).map(|_| pool()).collect(),
            intake: None,
            running: 0,
            held: 0,
            prefetch,
            closing: false,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the broker has delivered, in order; returns the pools that want a worker.
    pub(crate) fn admit(&self, jobs: impl Iterator<Item = Job>) -> Vec<u32> {
        let mut state = self.state();
        if state.closing {
            drop(state);
            // Dropped, they go back to the broker.
            jobs.for_each(drop);
            return Vec::new();
        }
        for job in jobs {
            state.held += 1;
            state.admit(job);
        }
        (0..state.pools.len()).filter_map(|pool| state.call(pool)).collect()
    }

    /// The next job of a pool; first the lane of the worker's last job is moved on.
    pub(crate) fn poll_next(
        &self,
        worker: WorkerId,
        last: &mut Option<Finished>,
        cx: &Context<'_>,
    ) -> Poll<(Next, Hires)> {
        let WorkerId { pool, number } = worker;
        let mut state = self.state();
        let mut elsewhere = None;
        if let Some(Finished { lane }) = last.take() {
            state.running -= 1;
            state.held -= 1;
            elsewhere = lane.and_then(|lane| state.move_on(lane, pool));
        }
        let own = &mut state.pools[pool];
        own.searching = false;
        if let Some(job) = own.ready.pop_front() {
            state.running += 1;
            let more = state.call(pool);
            return Poll::Ready((Next::Job(job), [elsewhere, more]));
        }
        if state.closing {
            state.pools[pool].workers -= 1;
            return Poll::Ready((Next::Closing, [None, None]));
        }
        if elsewhere.is_some() {
            return Poll::Ready((Next::Nothing, [elsewhere, None]));
        }
        let own = &mut state.pools[pool];
        match own.idle.iter_mut().find(|(known, _)| *known == number) {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => own.idle.push((number, cx.waker().clone())),
        }
        let short = state.intake_when_short();
        drop(state);
        if let Some(waker) = short {
            waker.wake();
        }
        Poll::Pending
    }

    /// Notes that a worker has died, and its job with it; what waited behind that in its lane is
    /// returned, to be given back to the broker behind it. Also returns the pool if it wants another
    /// worker.
    pub(crate) fn bury(
        &self,
        worker: WorkerId,
        last: Option<Finished>,
    ) -> (VecDeque<Job>, Option<u32>) {
        let WorkerId { pool, number } = worker;
        let mut state = self.state();
        let own = &mut state.pools[pool];
        own.workers -= 1;
        own.idle.retain(|(known, _)| *known != number);
        // It may have been the one that was on the way.
        own.searching = false;
        let mut behind = VecDeque::new();
        if let Some(Finished { lane }) = last {
            behind = lane.and_then(|lane| state.open.remove(&lane)).unwrap_or_default();
            state.running -= 1;
            state.held -= 1 + behind.len();
        }
        (behind, state.call(pool))
    }

    /// Notes that a worker has been hired; `None` when the pool has enough of them or is closing.
    pub(crate) fn hire(&self, pool: usize) -> Option<usize> {
        let mut state = self.state();
        let closing = state.closing;
        let own = &mut state.pools[pool];
        own.searching = false;
        if closing || own.workers >= own.limit {
            return None;
        }
        own.workers += 1;
        own.next_worker += 1;
        own.searching = true;
        Some(own.next_worker)
    }

    /// Puts a job back to wait for its next attempt; its lane stays open, so that its key waits.
    pub(crate) fn postpone(&self, job: Job, due: Instant) {
        let mut state = self.state();
        if state.closing {
            drop(state);
            // Dropped, it goes back to the broker, for its next attempt to be made elsewhere.
            return drop(job);
        }
        let number = state.next_number;
        state.next_number += 1;
        state.held += 1;
        state.postponed.push(Reverse(Postponed { due, number, job }));
        let intake = state.intake.take();
        drop(state);
        if let Some(waker) = intake {
            waker.wake();
        }
    }

    /// Moves what is due to its pool, and says when the next one is; keeps the intake's waker.
    pub(crate) fn poll_postponed(
        &self,
        cx: &Context<'_>,
        mut hire: impl FnMut(u32),
    ) -> Option<Instant> {
        let mut state = self.state();
        if !state.intake.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            state.intake = Some(cx.waker().clone());
        }
        if state.postponed.is_empty() {
            return None;
        }
        let now = Instant::now();
        let mut wanting = Vec::new();
        while state.postponed.peek().is_some_and(|Reverse(first)| first.due <= now) {
            if let Some(Reverse(Postponed { job, .. })) = state.postponed.pop() {
                let pool = job.pool();
                state.pools[pool].ready.push_front(job);
                wanting.extend(state.call(pool));
            }
        }
        let next = state.postponed.peek().map(|Reverse(first)| first.due);
        drop(state);
        wanting.into_iter().for_each(&mut hire);
        next
    }

    /// Jobs that are with a worker now.
    pub(crate) fn running(&self) -> u64 {
        self.state().running
    }

    /// Lets no further job start and sends the workers home; what was not started is returned, to be
    /// given back to the broker by dropping it.
    pub(crate) fn close(&self) -> Vec<Job> {
        let mut state = self.state();
        state.closing = true;
        let mut jobs: Vec<Job> = Vec::new();
        let mut wakers = Vec::new();
        for pool in &mut state.pools {
            jobs.extend(pool.ready.drain(..));
            wakers.extend(pool.idle.drain(..).map(|(_, waker)| waker));
        }
        jobs.extend(state.open.values_mut().flat_map(std::mem::take));
        jobs.extend(state.postponed.drain().map(|Reverse(postponed)| postponed.job));
        wakers.extend(state.intake.take());
        state.held -= jobs.len();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        jobs
    }
}

impl State {
    fn admit(&mut self, job: Job) {
        let Some(lane) = job.lane else {
            self.pools[job.pool()].ready.push_back(job);
            return;
        };
        if let Some(waiting) = self.open.get_mut(&lane) {
            waiting.push_back(job);
            return;
        }
        self.open.insert(lane, self.spare.pop().unwrap_or_default());
        self.pools[job.pool()].ready.push_back(job);
    }

    /// Ends the lane's running job; the next one may start, in whichever pool it belongs to. Returns
    /// that pool when it is another one and wants a worker.
    fn move_on(&mut self, lane: u64, pool: usize) -> Option<u32> {
        const KEPT: usize = 64;
        let waiting = self.open.get_mut(&lane)?;
        if let Some(job) = waiting.pop_front() {
            let next = job.pool();
            self.pools[next].ready.push_back(job);
            // The caller is about to look at its own pool itself.
            return if next == pool { None } else { self.call(next) };
        }
        let emptied = self.open.remove(&lane)?;
        if emptied.capacity() > 0 && self.spare.len() < KEPT {
            self.spare.push(emptied);
        }
        None
    }

    /// The intake's waker, when a worker has nothing to do while the consumer holds nearly all that
    /// it may. A broker need not wake a full member for every single settlement, and what is left
    /// here may stand still for long.
    fn intake_when_short(&mut self) -> Option<Waker> {
        let is_nearly_full = self.held + (self.prefetch / 4).max(1) > self.prefetch;
        self.intake.take_if(|_| is_nearly_full)
    }

    /// Wakes one idle worker if there is work and nobody is on the way; else asks for a new one.
    ///
    /// One at a time: a worker that finds more than its own share calls the next.
    fn call(&mut self, number: usize) -> Option<u32> {
        let pool = &mut self.pools[number];
        if pool.ready.is_empty() || pool.searching {
            return None;
        }
        if let Some((_, waker)) = pool.idle.pop() {
            pool.searching = true;
            waker.wake();
            return None;
        }
        let may_hire = pool.workers < pool.limit && !self.closing;
        pool.searching = may_hire;
        u32::try_from(number).ok().filter(|_| may_hire)
    }
}
