//! Publishing: what concurrent callers hand in goes out together, in one pipeline.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::{Cmd, Pipeline, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use trunkline_core::{
    BatchResult, Error, ErrorKind, Event, PublishOptions, Publishing, Result, RetryClass, Topic,
    partition_of,
};

use crate::broker::Shared;
use crate::codec;
use crate::error::{closed, disconnected, from_driver, refused};
use crate::index::{Route, Stream, check_partition, register_topic};
use crate::link::{Link, backoff, is_for_later};
use crate::lock;
use crate::names::delay_of;
use crate::scripts::Lua;

/// Commands in one pipeline: enough that a round trip costs each of them little.
const PIPELINE: usize = 512;
/// Pipelines under way: one is answered while the next is written.
const UNDER_WAY: usize = 2;
/// Events of a batch that go out at once: a transaction of so many holds the server up for a few
/// milliseconds.
const CHUNK: usize = 1_000;
/// Batches that wait for a place in a pipeline.
pub(crate) const QUEUE: usize = 4_096;

/// Commands of one caller, and where their answers go.
pub(crate) struct Job {
    commands: Vec<Cmd>,
    /// Whether the commands happen together or not at all.
    is_atomic: bool,
    deadline: Instant,
    reply: oneshot::Sender<Answers>,
}

/// One result a command; only what failed costs anything.
type Answers = Vec<Option<Error>>;

pub(crate) fn publish<'a>(
    shared: &'a Arc<Shared>,
    events: &'a [Event],
    options: &'a PublishOptions,
) -> Publishing<'a> {
    let refusal =
        shared.check_open("publish").and_then(|()| shared.capabilities.check_publish(options));
    if let Err(error) = refusal {
        return Publishing::Ready(BatchResult::failed(events.len(), &error));
    }
    if events.is_empty() {
        return Publishing::Ready(BatchResult::accepted());
    }
    // A close that has begun waits for what was begun before it, and lets nothing more begin.
    let Ok(begun) = Arc::clone(&shared.begun).try_read_owned() else {
        return Publishing::Ready(BatchResult::failed(events.len(), &closed("publish")));
    };
    Publishing::waiting(async move {
        let _begun = begun;
        let timeout = options.timeout.unwrap_or(shared.config.publish_timeout);
        let deadline = Instant::now() + timeout;
        let sticky = shared.next_sticky();
        let result = BatchResult::accepted();
        let mut batch = Batch { shared, events, options, deadline, sticky, last: None, result };
        for start in (0..events.len()).step_by(CHUNK) {
            batch.publish_chunk(start, (start + CHUNK).min(events.len())).await;
        }
        batch.result
    })
}

struct Batch<'a> {
    shared: &'a Arc<Shared>,
    events: &'a [Event],
    options: &'a PublishOptions,
    deadline: Instant,
    /// Where events without a key go: all of a batch to one partition.
    sticky: u32,
    last: Option<(Topic, Arc<Route>)>,
    result: BatchResult,
}

impl Batch<'_> {
    async fn publish_chunk(&mut self, start: usize, end: usize) {
        let mut commands = Vec::with_capacity(end - start);
        let mut places = Vec::with_capacity(end - start);
        // Empty sets cost nothing; one event cannot be of the same key as another.
        let mut lanes = HashSet::with_hasher(foldhash::fast::RandomState::default());
        let is_alone = end - start == 1;
        let mut is_atomic = false;
        for at in start..end {
            let event = &self.events[at];
            match self.command(event).await {
                Ok(command) => {
                    let lane = event.attributes().lane().filter(|_| !is_alone);
                    is_atomic |= lane.is_some_and(|lane| !lanes.insert(lane));
                    commands.push(command);
                    places.push(at);
                }
                Err(error) => self.result.fail(at, error),
            }
        }
        if commands.is_empty() {
            return;
        }
        let answers = self.hand_in(commands, is_atomic).await;
        match answers {
            Ok(answers) => {
                for (at, answer) in places.into_iter().zip(answers) {
                    if let Some(error) = answer {
                        self.fail_in_order(at, error);
                    }
                }
            }
            Err(error) => {
                places.into_iter().for_each(|at| self.result.fail(at, error.duplicate()));
            }
        }
    }

    fn fail_in_order(&mut self, at: usize, error: Error) {
        let is_later = self.result.aborts(&self.events[at], self.events);
        let is_definite = error.retry() != RetryClass::Ambiguous;
        self.result.fail(at, if is_later && is_definite { Error::aborted() } else { error });
    }

    async fn hand_in(&self, commands: Vec<Cmd>, is_atomic: bool) -> Result<Answers> {
        let (reply, answer) = oneshot::channel();
        let job = Job { commands, is_atomic, deadline: self.deadline, reply };
        match tokio::time::timeout_at(self.deadline, self.shared.jobs.send(job)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(closed("publish")),
            Err(_) => {
                let message = "the queue of publishes is full: the Redis server takes events more \
                               slowly than they are published";
                return Err(Error::new(ErrorKind::Full, "publish", message));
            }
        }
        answer.await.map_err(|_gone| closed("publish").with_retry(RetryClass::Ambiguous))
    }

    /// The command that publishes an event, or why it may not be.
    async fn command(&mut self, event: &Event) -> Result<Cmd> {
        if self.result.aborts(event, self.events) {
            return Err(Error::aborted());
        }
        let data = event.data()?;
        let limit = self.shared.config.max_event_bytes;
        if data.as_slice().len() > limit {
            return Err(Error::too_large(data.as_slice().len(), limit));
        }
        let route = match self.known_route(event.topic()) {
            Some(route) => route,
            None => self.make_route(event.topic()).await?,
        };
        let partition = self.partition(event, &route)?;
        let Stream { name: stream, is_touched } = &route.streams[partition];
        let headers = self.options.wire.as_deref().map_or(&[][..], |wire| &wire.headers);
        let mut command = match self.options.delay {
            None => {
                let mut command = redis::cmd("XADD");
                command.arg(stream.as_str());
                self.shared.trim_early(&mut command);
                command.arg("*");
                command
            }
            Some(delay) => self.delayed(event, stream, delay),
        };
        codec::write(&mut command, event, &data, self.options.audience, headers);
        // Mostly it is so already, and a write would take the line from other publishers.
        if !is_touched.load(Ordering::Relaxed) {
            is_touched.store(true, Ordering::Relaxed);
        }
        Ok(command)
    }

    /// The route of a topic that was met before; events of a batch are mostly of one topic.
    fn known_route(&mut self, topic: &Topic) -> Option<Arc<Route>> {
        match &self.last {
            Some((known, route)) if known == topic => Some(Arc::clone(route)),
            _ => {
                let route = self.shared.route(topic)?;
                self.last = Some((topic.clone(), Arc::clone(&route)));
                Some(route)
            }
        }
    }

    fn delayed(&self, event: &Event, stream: &str, delay: Duration) -> Cmd {
        let names = &self.shared.names;
        let delay_set = delay_of(stream);
        let body = format!("{delay_set}..body");
        let mut command = Lua::Delay.call(4);
        command.arg(&delay_set).arg(body).arg(&names.due).arg(&names.scheduled);
        let id = event.id().to_string();
        command.arg(millis(delay)).arg(self.shared.unique(&id)).arg(id);
        self.shared.schedule_changed.notify_one();
        command
    }

    fn partition(&self, event: &Event, route: &Route) -> Result<usize> {
        if let Some(wanted) = self.options.wire.as_ref().and_then(|wire| wire.partition) {
            return check_partition(wanted, route, event.topic());
        }
        let count = u32::try_from(route.streams.len()).unwrap_or(u32::MAX);
        let partition = match event.attributes().key() {
            Some(key) => partition_of(key, count),
            None => self.sticky % count,
        };
        Ok(partition as usize)
    }

    /// Makes the topic known, again and again until the time is over.
    async fn make_route(&self, topic: &Topic) -> Result<Arc<Route>> {
        let shared = self.shared;
        let mut attempt = 0;
        loop {
            let made = register_topic(&shared.link, &shared.names, topic, &shared.config).await;
            match made {
                Ok(record) => return Ok(lock(&shared.routes).add(&shared.names, topic, record)),
                Err(error) if Instant::now() >= self.deadline => {
                    // Nothing of the event itself was sent.
                    return Err(error.with_retry(RetryClass::Transient));
                }
                Err(error) if !is_passing(&error) => return Err(error),
                Err(_) => {
                    attempt += 1;
                    tokio::time::sleep(backoff(attempt)).await;
                }
            }
        }
    }
}

/// Whether the same call may succeed once the server is back.
pub(crate) fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::TimedOut)
}

/// Whole milliseconds, rounded up: nothing is due early.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// Sends what callers hand in, until all of them are gone or, after a close, `all_ended`.
pub(crate) async fn run(
    link: Arc<Link>,
    mut jobs: mpsc::Receiver<Job>,
    wait: Option<(u32, Duration)>,
    address: String,
    all_ended: impl Future<Output = ()>,
) {
    let mut all_ended = std::pin::pin!(all_ended);
    let mut under_way = FuturesUnordered::new();
    let mut taken = Vec::new();
    loop {
        tokio::select! {
            Some(()) = under_way.next() => {}
            // What is in the queue by now still goes out.
            () = &mut all_ended, if !jobs.is_closed() => jobs.close(),
            count = jobs.recv_many(&mut taken, PIPELINE), if under_way.len() < UNDER_WAY => {
                if count == 0 {
                    break;
                }
                under_way.push(deliver(&link, std::mem::take(&mut taken), wait, &address));
            }
        }
    }
    while under_way.next().await.is_some() {}
}

/// Sends one pipeline; what cannot have reached the server is tried again until its time is over.
async fn deliver(link: &Link, jobs: Vec<Job>, wait: Option<(u32, Duration)>, address: &str) {
    let deadline = jobs.iter().map(|job| job.deadline).min().unwrap_or_else(Instant::now);
    let (pipe, callers) = pipeline_of(jobs, wait);
    let mut attempt = 0;
    let failure = loop {
        let sending = tokio::time::timeout_at(deadline, link.send(&pipe));
        match sending.await {
            // What waits for replicas has one answer more, which is none of an event.
            Ok(Ok(values))
                if values
                    .iter()
                    .take(values.len() - usize::from(wait.is_some()))
                    .all(is_for_later) => {}
            Ok(Ok(values)) => return distribute(callers, values, wait),
            Ok(Err(failed)) if failed.sent => break from_driver("publish", failed.error, true),
            Ok(Err(_)) => {}
            Err(_) => {
                let message = "the Redis server did not answer in time: whether it has the event is \
                               not known";
                break Error::new(ErrorKind::TimedOut, "publish", message).with("address", address);
            }
        }
        attempt += 1;
        let pause = backoff(attempt);
        if Instant::now() + pause >= deadline {
            break disconnected("publish", address);
        }
        tokio::time::sleep(pause).await;
    };
    for caller in callers {
        let answers = (0..caller.count).map(|_| Some(failure.duplicate())).collect();
        // A caller that is gone does not want it.
        drop(caller.reply.send(answers));
    }
}

/// Who waits for the answers of so many commands.
struct Caller {
    count: usize,
    is_atomic: bool,
    reply: oneshot::Sender<Answers>,
}

fn pipeline_of(jobs: Vec<Job>, wait: Option<(u32, Duration)>) -> (Pipeline, Vec<Caller>) {
    let count = jobs.iter().map(|job| job.commands.len() + 2).sum();
    let mut pipe = Pipeline::with_capacity(count);
    let mut callers = Vec::with_capacity(jobs.len());
    for Job { commands, is_atomic, reply, .. } in jobs {
        callers.push(Caller { count: commands.len(), is_atomic, reply });
        if is_atomic {
            pipe.cmd("MULTI");
        }
        for command in commands {
            pipe.add_command(command);
        }
        if is_atomic {
            pipe.cmd("EXEC");
        }
    }
    if let Some((replicas, timeout)) = wait {
        pipe.cmd("WAIT").arg(replicas).arg(millis(timeout).max(1));
    }
    (pipe, callers)
}

fn distribute(callers: Vec<Caller>, mut values: Vec<Value>, wait: Option<(u32, Duration)>) {
    let too_few = wait.and_then(|(wanted, _)| match values.pop() {
        Some(Value::Int(reached)) if reached >= i64::from(wanted) => None,
        _ => Some(unreplicated(wanted)),
    });
    let mut values = values.into_iter();
    for caller in callers {
        let mut answers = if caller.is_atomic {
            atomic_answers(&mut values, caller.count)
        } else {
            values.by_ref().take(caller.count).map(answer_of).collect()
        };
        if let Some(error) = &too_few {
            let accepted = answers.iter_mut().filter(|answer| answer.is_none());
            accepted.for_each(|answer| *answer = Some(error.duplicate()));
        }
        drop(caller.reply.send(answers));
    }
}

/// The answers of a transaction: all of them, or its refusal for each.
fn atomic_answers(values: &mut impl Iterator<Item = Value>, count: usize) -> Answers {
    let mut refusal = None;
    // One for MULTI, and one for each command that was queued.
    for value in values.by_ref().take(count + 1) {
        refusal = refusal.or_else(|| answer_of(value));
    }
    match values.next() {
        Some(Value::Array(answers)) => answers.into_iter().map(answer_of).collect(),
        other => {
            let error = refusal.or_else(|| other.and_then(answer_of));
            let error = error.unwrap_or_else(|| refused("publish", "the transaction was aborted"));
            (0..count).map(|_| Some(error.duplicate())).collect()
        }
    }
}

fn answer_of(value: Value) -> Option<Error> {
    match value {
        Value::ServerError(error) => Some(from_driver("publish", error.into(), false)),
        _ => None,
    }
}

fn unreplicated(wanted: u32) -> Error {
    let message = format!(
        "the primary has the event, and fewer than {wanted} replicas confirmed it in time: it may be \
         lost with the primary"
    );
    Error::new(ErrorKind::TimedOut, "publish", message)
}
