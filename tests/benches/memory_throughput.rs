//! Typed publish to handler over the memory broker, beside a bounded tokio mpsc of `Arc<T>`.
//!
//! `cargo bench -p trunkline-tests --bench memory_throughput [-- EVENTS ROUNDS THREADS]`
//!
//! Events are built before the clock starts; one group, one member, 1,000 keys, metrics on, no store,
//! no middleware, no tracing subscriber. The two take turns in one run, so that the ratio holds when
//! the machine's speed drifts; the median of the ratios is what counts.

#![expect(clippy::expect_used, reason = "a benchmark ends at the first thing that goes wrong")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};
use trunkline_bus::{Consumer, EventBus};
use trunkline_core::{Event, Typed};
use trunkline_macros::DomainEvent;
use trunkline_memory::{MemoryBroker, MemoryConfig};

const KEYS: usize = 1_000;
/// The buffer of the group, and of the channel beside it.
const BUFFER: usize = 10_000;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "bench.measured", key = key)]
struct Measured {
    key: String,
    number: usize,
    text: String,
}

fn measured(number: usize) -> Measured {
    Measured { key: format!("key-{}", number % KEYS), number, text: "x".repeat(220) }
}

async fn twin(events: usize) -> Duration {
    let built: Vec<_> = (0..events).map(|number| Arc::new(measured(number))).collect();
    let (sender, mut receiver) = mpsc::channel::<Arc<Measured>>(BUFFER);
    let start = Instant::now();
    let consumer = tokio::spawn(async move {
        let mut sum = 0_usize;
        while let Some(event) = receiver.recv().await {
            sum = sum.wrapping_add(event.number);
        }
        sum
    });
    let producer = tokio::spawn(async move {
        for event in built {
            sender.send(event).await.expect("the consumer lives until the sender is dropped");
        }
    });
    producer.await.expect("the producer does not panic");
    let sum = consumer.await.expect("the consumer does not panic");
    assert_eq!(sum, events * (events - 1) / 2);
    start.elapsed()
}

async fn bus(events: usize, concurrency: usize) -> Duration {
    let built: Vec<_> = (0..events)
        .map(|number| Event::of(measured(number)).expect("the key is a valid attribute"))
        .collect();
    let broker = MemoryBroker::new(MemoryConfig::default().with_buffer(BUFFER));
    let bus = EventBus::builder(broker).start().await.expect("an in-memory bus starts");
    let handled = Arc::new(AtomicUsize::new(0));
    let done = Arc::new(Notify::new());
    let (count, finished) = (Arc::clone(&handled), Arc::clone(&done));
    let consumer =
        Consumer::group("bench").concurrency(concurrency).on(move |event: Typed<Measured>| {
            std::hint::black_box(event.number);
            if count.fetch_add(1, Ordering::Relaxed) + 1 == events {
                finished.notify_one();
            }
            std::future::ready(())
        });
    bus.subscribe(consumer).await.expect("the memory broker takes the consumer");
    let start = Instant::now();
    let publisher = bus.clone();
    let producer = tokio::spawn(async move {
        for event in built {
            publisher.publish_event(&event).await.expect("room comes in time");
        }
    });
    producer.await.expect("the producer does not panic");
    done.notified().await;
    let elapsed = start.elapsed();
    bus.close(Duration::from_secs(10)).await.expect("idle handlers finish at once");
    assert_eq!(handled.load(Ordering::Relaxed), events);
    elapsed
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let events = numbers.first().copied().unwrap_or(500_000);
    let rounds = numbers.get(1).copied().unwrap_or(7).max(1);
    let threads = numbers.get(2).copied().unwrap_or(2).max(1);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .expect("a runtime starts");
    let rate = |elapsed: Duration| events as f64 / elapsed.as_secs_f64() / 1_000.0;
    let (mut ratios, mut rates) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new(), Vec::new()]);
    for round in 0..=rounds {
        let twin =
            rate(runtime.block_on(async { tokio::spawn(twin(events)).await.expect("runs") }));
        let of = |concurrency| rate(runtime.block_on(bus(events, concurrency)));
        let (one, many) = (of(1), of(64));
        // The first round warms up.
        if round > 0 {
            ratios[0].push(one / twin);
            ratios[1].push(many / twin);
            for (known, rate) in rates.iter_mut().zip([twin, one, many]) {
                known.push(rate);
            }
        }
    }
    let [twin, one, many] = rates.map(median);
    let [ratio_one, ratio_many] = ratios.map(median);
    println!("{events} events, {rounds} rounds, {threads} threads, medians, thousand events/s");
    println!("mpsc of Arc<T>            {twin:>8.0}");
    println!("bus, concurrency 1        {one:>8.0}   ratio {ratio_one:.2}");
    println!("bus, concurrency 64       {many:>8.0}   ratio {ratio_many:.2}");
}
