//! What is measured, in rounds in which the two take turns.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::ours::{Ours, Way};
use super::table::{Better, Row};
use super::{Contender, Load, Log, Message, Outcome};

/// How many tasks publish one message at a time.
const TASKS: usize = 64;
const BATCH: usize = 256;
/// The work of a slow handler.
const SLOW: Duration = Duration::from_millis(2);
/// The pause between two messages at the low rate.
const PAUSE: Duration = Duration::from_millis(5);
/// How many messages are published at the low rate: two seconds of it.
const SELDOM: usize = 400;
/// No run takes this long; one that does is stuck.
const STUCK: Duration = Duration::from_secs(300);

/// What the command line asks for.
#[derive(Debug)]
pub(super) struct Asked {
    messages: usize,
    rounds: usize,
    measures: Vec<String>,
}

/// The two, on topics of the same number of partitions.
pub(super) struct Pair<T> {
    pub(super) ours: Ours,
    pub(super) twin: Arc<T>,
}

impl Asked {
    pub(super) fn from_command_line(messages: usize) -> Self {
        let arguments = || std::env::args().skip(1);
        let mut numbers = arguments().filter_map(|argument| argument.parse().ok());
        let word =
            |argument: &String| !argument.starts_with('-') && argument.parse::<usize>().is_err();
        Self {
            messages: numbers.next().unwrap_or(messages),
            rounds: numbers.next().unwrap_or(5).max(1),
            measures: arguments().filter(word).collect(),
        }
    }

    fn wants(&self, measure: &str) -> bool {
        self.measures.is_empty() || self.measures.iter().any(|name| measure.contains(name.as_str()))
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} messages, medians of {} rounds", self.messages, self.rounds)
    }
}

/// Runs every measure that is asked for. The first round warms up.
pub(super) async fn all<T: Contender>(
    asked: &Asked,
    many: &Pair<T>,
    one: &Pair<T>,
) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    let publishes =
        [("publish, 64 tasks", Shape::Tasks), ("publish, batches of 256", Shape::Batches)];
    for (name, shape) in publishes.into_iter().filter(|(name, _)| asked.wants(name)) {
        rows.extend(publishing(asked, many, name, shape).await?);
    }
    if asked.wants("publish, one by one") {
        rows.extend(one_by_one(asked, many).await?);
    }
    if asked.wants("consume") {
        rows.extend(consuming(asked, many).await?);
    }
    if asked.wants("latency") {
        rows.extend(latency(asked, many).await?);
    }
    if asked.wants("slow handler") {
        rows.extend(slow_handler(asked, one).await?);
    }
    Ok(rows)
}

/// How messages are published.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Tasks,
    Batches,
    OneByOne,
}

async fn publishing<T: Contender>(
    asked: &Asked,
    pair: &Pair<T>,
    name: &'static str,
    shape: Shape,
) -> Outcome<Vec<Row>> {
    let mut rows = [
        Row::new(name, "broker", "k/s", Better::Higher(0.9)),
        Row::new(name, "bus", "k/s", Better::Higher(0.9)),
    ];
    for round in 0..=asked.rounds {
        let twin = publish(&pair.twin, asked.messages, shape).await?;
        for (row, way) in rows.iter_mut().zip([Way::Broker, Way::Bus]) {
            let ours = publish(&pair.ours.by(way), asked.messages, shape).await?;
            row.add(round, ours, twin);
        }
    }
    Ok(rows.into())
}

/// One by one, beside the twin and beside our own batches.
async fn one_by_one<T: Contender>(asked: &Asked, pair: &Pair<T>) -> Outcome<Vec<Row>> {
    let name = "publish, one by one";
    let mut beside_twin = Row::new(name, "broker", "k/s", Better::Higher(0.9));
    let mut batches = Row::new("batches over one by one", "broker", "k/s", Better::Higher(10.0));
    let ours = pair.ours.by(Way::Broker);
    for round in 0..=asked.rounds {
        let twin = publish(&pair.twin, asked.messages / 50, Shape::OneByOne).await?;
        let single = publish(&ours, asked.messages / 50, Shape::OneByOne).await?;
        beside_twin.add(round, single, twin);
        batches.add(round, publish(&ours, asked.messages, Shape::Batches).await?, single);
    }
    Ok(vec![beside_twin, batches])
}

async fn consuming<T: Contender>(asked: &Asked, pair: &Pair<T>) -> Outcome<Vec<Row>> {
    let name = "consume, ack after handle";
    let mut rows = [
        Row::new(name, "broker", "k/s", Better::Higher(0.9)),
        Row::new(name, "bus, concurrency 1", "k/s", Better::Higher(0.9)),
        Row::new(name, "bus, concurrency 64", "k/s", Better::Higher(0.9)),
    ];
    let load = |concurrency| Load { concurrency, work: Duration::ZERO };
    for round in 0..=asked.rounds {
        let [one, many] = [1, 64].map(|tasks| consume(&pair.twin, asked.messages, load(tasks)));
        let (one, many) = (one.await?, many.await?);
        let ways = [(Way::Broker, 1, one), (Way::Bus, 1, one), (Way::Bus, 64, many)];
        for (row, (way, concurrency, twin)) in rows.iter_mut().zip(ways) {
            let ours = consume(&pair.ours.by(way), asked.messages, load(concurrency)).await?;
            row.add(round, ours, twin);
        }
    }
    Ok(rows.into())
}

async fn latency<T: Contender>(asked: &Asked, pair: &Pair<T>) -> Outcome<Vec<Row>> {
    let name = "latency p50 at 200/s";
    let mut rows = [
        Row::new(name, "broker", "ms", Better::Lower(1.1)),
        Row::new(name, "bus", "ms", Better::Lower(1.1)),
    ];
    for round in 0..=asked.rounds {
        let twin = under_way(&pair.twin).await?;
        for (row, way) in rows.iter_mut().zip([Way::Broker, Way::Bus]) {
            row.add(round, under_way(&pair.ours.by(way)).await?, twin);
        }
    }
    Ok(rows.into())
}

async fn slow_handler<T: Contender>(asked: &Asked, pair: &Pair<T>) -> Outcome<Vec<Row>> {
    let name = "handler of 2 ms, one partition";
    let mut beside_twin = Row::new(name, "bus, concurrency 64", "k/s", Better::Higher(0.9));
    let mut beside_serial = Row::new("the same over serial", "bus", "k/s", Better::Higher(40.0));
    let load = Load { concurrency: 64, work: SLOW };
    let messages = (asked.messages / 10).clamp(2_000, 20_000);
    for round in 0..=asked.rounds {
        let twin = consume(&pair.twin, messages, load).await?;
        let ours = consume(&pair.ours.by(Way::Bus), messages, load).await?;
        beside_twin.add(round, ours, twin);
        beside_serial.add(round, ours, serial().await);
    }
    Ok(vec![beside_twin, beside_serial])
}

/// What the slow handler reaches without any broker, one event at a time.
async fn serial() -> f64 {
    let start = Instant::now();
    for _ in 0..100 {
        sleep(SLOW).await;
    }
    rate(100, start.elapsed())
}

/// Publishes and returns thousands of messages a second.
async fn publish<C: Contender>(contender: &Arc<C>, count: usize, shape: Shape) -> Outcome<f64> {
    let topic = fresh_topic();
    contender.open(&topic).await?;
    let messages = Arc::new(build(&**contender, &topic, count + 1)?);
    // A client learns of a topic at its first message.
    contender.publish(&messages[0]).await?;
    let runner = Arc::clone(contender);
    let run = tokio::spawn(async move {
        let start = Instant::now();
        send(&runner, &messages, shape).await?;
        Outcome::Ok(start.elapsed())
    });
    let elapsed = timeout(STUCK, run).await???;
    contender.remove(&topic).await?;
    Ok(rate(count, elapsed))
}

/// Publishes all but the first message.
async fn send<C: Contender>(
    contender: &Arc<C>,
    messages: &Arc<Vec<C::Message>>,
    shape: Shape,
) -> Outcome {
    match shape {
        Shape::OneByOne => {
            for message in &messages[1..] {
                contender.publish(message).await?;
            }
        }
        Shape::Batches => {
            for batch in messages[1..].chunks(BATCH) {
                contender.publish_batch(batch).await?;
            }
        }
        Shape::Tasks => {
            let task = |task| {
                let (contender, messages) = (Arc::clone(contender), Arc::clone(messages));
                tokio::spawn(async move {
                    for message in messages[1..].iter().skip(task).step_by(TASKS) {
                        contender.publish(message).await?;
                    }
                    Outcome::Ok(())
                })
            };
            let tasks: Vec<_> = (0..TASKS).map(task).collect();
            for task in tasks {
                task.await??;
            }
        }
    }
    Ok(())
}

/// Consumes what is there already and returns thousands of messages a second.
async fn consume<C: Contender>(contender: &Arc<C>, count: usize, load: Load) -> Outcome<f64> {
    let topic = fresh_topic();
    contender.open(&topic).await?;
    for batch in build(&**contender, &topic, count)?.chunks(BATCH) {
        contender.publish_batch(batch).await?;
    }
    let log = Arc::new(Log::new(count));
    let consumer = consumer(contender, &topic, load, &log);
    timeout(STUCK, consumer).await???;
    contender.remove(&topic).await?;
    Ok(rate(count, log.elapsed()?))
}

/// Publishes at a low rate and returns the median time from the call to the consumer, in milliseconds.
async fn under_way<C: Contender>(contender: &Arc<C>) -> Outcome<f64> {
    let topic = fresh_topic();
    contender.open(&topic).await?;
    let messages = build(&**contender, &topic, SELDOM)?;
    let log = Arc::new(Log::timed(SELDOM));
    let consumer = consumer(contender, &topic, Load { concurrency: 1, work: Duration::ZERO }, &log);
    let (runner, sent) = (Arc::clone(contender), Arc::clone(&log));
    let publisher = tokio::spawn(async move {
        let mut ticks = interval(PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for (number, message) in messages.iter().enumerate() {
            ticks.tick().await;
            sent.send(number);
            runner.publish(message).await?;
            if number == 0 {
                // The consumer is there once it has the first.
                sent.reached(1).await;
            }
        }
        Outcome::Ok(())
    });
    timeout(STUCK, publisher).await???;
    timeout(STUCK, consumer).await???;
    contender.remove(&topic).await?;
    log.elapsed()?;
    Ok(log.waits()[SELDOM / 2].as_secs_f64() * 1_000.0)
}

fn consumer<C: Contender>(
    contender: &Arc<C>,
    topic: &str,
    load: Load,
    log: &Arc<Log>,
) -> tokio::task::JoinHandle<Outcome> {
    let (contender, topic, log) = (Arc::clone(contender), topic.to_owned(), Arc::clone(log));
    tokio::spawn(async move { contender.consume(&topic, load, log).await })
}

fn build<C: Contender>(contender: &C, topic: &str, count: usize) -> Outcome<Vec<C::Message>> {
    (0..count).map(|number| contender.build(topic, Message::number(number))).collect()
}

/// Every run has a topic of its own, so that no run reads what another left.
fn fresh_topic() -> String {
    static USED: AtomicUsize = AtomicUsize::new(0);
    format!("bench.run-{}", USED.fetch_add(1, Ordering::Relaxed))
}

fn rate(count: usize, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64() / 1_000.0
}
