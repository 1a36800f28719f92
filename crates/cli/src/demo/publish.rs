//! Publishing the events of a run, in file order per key.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use trunkline::{Attributes, Event, Priority, RetryClass, Route, Topic, partition_of};

use super::kinds::{Kind, Kinds};
use super::record::{Place, Record, Sequence};
use super::settings::Promise;
use super::stage::Stage;
use crate::input::Item;
use crate::terminal::Chain;

/// Tasks that publish beside each other, each the events of keys of its own.
///
/// A store with one writer, such as SQLite, gains little from more, and each makes the others wait; a
/// broker behind a network gains.
const PUBLISHERS: u32 = 4;
/// How long a publish is tried again that failed for a reason that may pass.
///
/// A server that was killed needs up to a quarter of it to serve again.
const PATIENCE: Duration = Duration::from_secs(60);
/// The first wait before a publish is tried again; doubled up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What was sent on its way.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// The kinds of events, in the order of the input.
    pub(super) kinds: Kinds,
    /// The streams of the store that hold them.
    pub(super) streams: HashSet<String>,
    sequences: HashMap<(Topic, String, Option<Priority>, Route), Arc<Sequence>>,
    keyless: u32,
}

struct Job {
    event: Event,
    record: Arc<Record>,
}

/// Publishes what comes until there is no more, somebody interrupts, or publishing fails for good.
pub(super) async fn publish_all(stage: &Arc<Stage>, mut items: mpsc::Receiver<Item>) -> Sent {
    let mut sent = Sent::default();
    let crew = Crew::start(stage);
    loop {
        let item = tokio::select! {
            biased;
            () = stage.interrupt.asked() => break,
            item = items.recv() => item,
        };
        match item {
            None => break,
            Some(Item::Invalid { line, reason }) => stage.console.reject(line, &reason),
            Some(Item::Broken(error)) => {
                let name = stage.console.source();
                stage.console.trouble(&format!("cannot read {name} to its end: {error}"));
                break;
            }
            Some(Item::Event { line, event }) => {
                if !sent.dispatch(stage, &crew, line, event).await {
                    break;
                }
            }
        }
    }
    crew.finish(stage).await;
    sent
}

impl Sent {
    /// Hands an event to the publisher of its key; whether there is still one.
    async fn dispatch(&mut self, stage: &Stage, crew: &Crew, line: u64, event: Event) -> bool {
        let attributes = event.attributes();
        let route = stage.route_of(attributes);
        let kind = self.kinds.of(attributes, route);
        let opened =
            stage.ledger.open(&event, || self.record(line, attributes, kind, stage.promise));
        let record = match opened {
            Ok(record) => record,
            Err(first) => {
                let reason = format!(
                    "the identity {} was on line {} already: an id is used once per source",
                    attributes.identity(),
                    first.line
                );
                stage.console.reject(line, &reason);
                return true;
            }
        };
        if stage.bus.store().is_some() {
            self.streams.insert(event.stream().to_string());
        }
        let publisher = match attributes.key() {
            Some(key) => partition_of(key, PUBLISHERS),
            None => {
                self.keyless = self.keyless.wrapping_add(1);
                self.keyless % PUBLISHERS
            }
        };
        crew.send(publisher, Job { event, record }).await
    }

    fn record(
        &mut self,
        line: u64,
        attributes: &Attributes,
        kind: Arc<Kind>,
        promise: Promise,
    ) -> Record {
        let key = attributes.key().filter(|_| promise != Promise::None);
        let place = key.map(|key| {
            let lane = (promise == Promise::PerKeyAndPriority).then(|| attributes.priority());
            let sequence = (attributes.topic().clone(), key.to_owned(), lane, kind.route);
            Place::next(self.sequences.entry(sequence).or_default())
        });
        Record::new(line, kind, place)
    }
}

/// The publishers.
struct Crew {
    jobs: Vec<mpsc::Sender<Job>>,
    tasks: JoinSet<Ended>,
}

impl Crew {
    fn start(stage: &Arc<Stage>) -> Self {
        let mut crew = Self { jobs: Vec::new(), tasks: JoinSet::new() };
        for _ in 0..PUBLISHERS {
            // One job ahead is enough: the input is read ahead already.
            let (jobs, receiver) = mpsc::channel(1);
            crew.jobs.push(jobs);
            crew.tasks.spawn(publish_jobs(Arc::clone(stage), receiver));
        }
        crew
    }

    async fn send(&self, publisher: u32, job: Job) -> bool {
        self.jobs[publisher as usize].send(job).await.is_ok()
    }

    /// Waits until everything that was handed out is published.
    async fn finish(self, stage: &Stage) {
        let Self { jobs, mut tasks } = self;
        drop(jobs);
        let mut given_up = false;
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(ended) => given_up |= ended == Ended::GivenUp,
                Err(error) => stage.console.trouble(&format!("a publisher died: {error}")),
            }
        }
        if given_up {
            stage.console.trouble("publishing does not work: the rest of the input is left out");
        }
    }
}

/// Why a publisher ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// There was no more to do, or somebody stopped the run.
    Done,
    /// Nothing can be published.
    GivenUp,
}

/// Publishes one event after the other until there is no more, or one cannot be published at all.
async fn publish_jobs(stage: Arc<Stage>, mut jobs: mpsc::Receiver<Job>) -> Ended {
    while let Some(Job { event, record }) = jobs.recv().await {
        if !stage.pace.turn(&stage.interrupt).await {
            return Ended::Done;
        }
        match publish(&stage, &event, &record).await {
            Publish::Done => {}
            Publish::Interrupted => return Ended::Done,
            Publish::Refused(reason) => stage.console.reject(record.line, &reason),
            Publish::Hopeless(reason) => {
                stage.console.reject(record.line, &reason);
                return Ended::GivenUp;
            }
        }
    }
    Ended::Done
}

enum Publish {
    Done,
    /// Somebody stopped the run before the broker took the event.
    Interrupted,
    /// This event cannot be published.
    Refused(String),
    /// No event can be published.
    Hopeless(String),
}

async fn publish(stage: &Stage, event: &Event, record: &Record) -> Publish {
    let began = Instant::now();
    let mut wait = FIRST_WAIT;
    record.start();
    loop {
        let Err(error) = stage.bus.publish_event(event).await else {
            stage.ledger.accept(record);
            return Publish::Done;
        };
        let reason = Chain(&error).to_string();
        match error.retry() {
            RetryClass::Permanent | RetryClass::Misuse => return Publish::Refused(reason),
            // The same event again: an unknown outcome is no second event.
            RetryClass::Transient | RetryClass::Ambiguous if began.elapsed() < PATIENCE => {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = stage.interrupt.asked() => return Publish::Interrupted,
                }
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            RetryClass::Transient | RetryClass::Ambiguous | RetryClass::Closed => {
                return Publish::Hopeless(reason);
            }
        }
    }
}
