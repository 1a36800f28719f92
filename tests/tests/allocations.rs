//! How much the local path allocates, by a counting allocator.
//!
//! One test in a process of its own: the counters are the whole process's.

#![expect(clippy::expect_used, reason = "a helper of a test fails the test where it panics")]

use std::alloc::System;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use trunkline_bus::{Consumer, EventBus};
use trunkline_core::Typed;
use trunkline_macros::DomainEvent;
use trunkline_memory::MemoryBroker;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Events before the count starts: queues, maps and workers reach the size that they keep.
const WARM_UP: usize = 5_000;
const EVENTS: usize = 10_000;
/// Events that are published before their handlers get their turn; far less than the buffer holds, so
/// that no publish has to wait, which costs a box.
const BURST: usize = 500;
/// What may be allocated beside the events, per run and not per event: a queue or a map may double once
/// more after the warm-up, and a worker may be hired late. One event in five hundred with a second
/// allocation is more than that.
const SLACK: usize = 16;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "meters.read", key = meter)]
struct MeterRead {
    meter: u64,
    number: usize,
    watts: f64,
}

/// How the handler spends its time.
#[derive(Debug, Clone, Copy)]
enum Pace {
    /// It never waits.
    AtOnce,
    /// It lets other tasks run first, so that as many handlers run as may.
    Yielding,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    concurrency: usize,
    keys: usize,
    pace: Pace,
}

/// What the allocator did while [`EVENTS`] events went from publish to settle.
#[derive(Debug, Clone, Copy)]
struct Counted {
    allocated: usize,
    reallocated: usize,
    freed: usize,
}

impl Counted {
    fn is_one_per_event(self) -> bool {
        let once = EVENTS..=EVENTS + SLACK;
        once.contains(&(self.allocated + self.reallocated)) && once.contains(&self.freed)
    }
}

fn consumer(case: Case, handled: &Arc<AtomicUsize>) -> Consumer {
    let handled = Arc::clone(handled);
    let handler = move |read: Typed<MeterRead>| {
        let handled = Arc::clone(&handled);
        async move {
            if let Pace::Yielding = case.pace {
                tokio::task::yield_now().await;
            }
            std::hint::black_box((read.number, read.watts));
            handled.fetch_add(1, Ordering::Relaxed);
        }
    };
    Consumer::group("billing").concurrency(case.concurrency).on(handler)
}

/// Publishes events and waits until all of them are settled.
async fn send(bus: &EventBus, numbers: Range<usize>, case: Case, handled: &AtomicUsize) {
    let end = numbers.end;
    for number in numbers {
        let read = MeterRead { meter: (number % case.keys) as u64, number, watts: 0.5 };
        bus.publish(read).await.expect("the buffer has room");
        if number % BURST == 0 {
            settle(handled, number + 1).await;
        }
    }
    settle(handled, end).await;
}

/// Lets the consumer run until it has handled so many, and then once more to settle the last.
async fn settle(handled: &AtomicUsize, count: usize) {
    while handled.load(Ordering::Relaxed) < count {
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;
}

async fn count(case: Case) -> Counted {
    let bus = EventBus::builder(MemoryBroker::default()).start().await.expect("a bus starts");
    let handled = Arc::new(AtomicUsize::new(0));
    bus.subscribe(consumer(case, &handled)).await.expect("the broker takes the consumer");
    send(&bus, 0..WARM_UP, case, &handled).await;
    let region = Region::new(ALLOCATOR);
    send(&bus, WARM_UP..WARM_UP + EVENTS, case, &handled).await;
    let change = region.change();
    bus.close(Duration::from_secs(10)).await.expect("idle handlers finish at once");
    Counted {
        allocated: change.allocations,
        reallocated: change.reallocations,
        freed: change.deallocations,
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for concurrency in [1, 64] {
        for keys in [1, 1_000] {
            for pace in [Pace::AtOnce, Pace::Yielding] {
                cases.push(Case { concurrency, keys, pace });
            }
        }
    }
    cases
}

#[test]
fn a_typed_local_event_costs_one_allocation_from_publish_to_settle() {
    let mut report = String::new();
    let mut kept = true;
    for case in cases() {
        // One thread, so that nothing else runs while the allocator counts.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let counted = runtime.expect("a runtime starts").block_on(count(case));
        kept &= counted.is_one_per_event();
        report += &format!("\n{EVENTS} events, {case:?}: {counted:?}");
    }
    println!("{report}");
    assert!(kept, "one allocation an event, and at most {SLACK} beside them:{report}");
}
