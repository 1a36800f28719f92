//! Publishing: events become commands, and these go into the queue of the pipelines.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::Cmd;
use tokio::sync::oneshot;
use tokio::time::Instant;
use trunkline_core::cloudevents::ContentMode;
use trunkline_core::{
    BatchResult, Error, ErrorKind, Event, PublishOptions, Publishing, Result, RetryClass, Topic,
    partition_of,
};

use crate::broker::Shared;
use crate::codec;
use crate::error::closed;
use crate::index::{Route, Stream, check_partition, register_topic};
use crate::link::backoff;
use crate::lock;
use crate::names::delay_of;
use crate::pipeline::{Answers, Job, unanswered};
use crate::scripts::Lua;

/// Events of a batch that go out at once: a transaction of so many holds the server up for a few
/// milliseconds.
const CHUNK: usize = 1_000;
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
        // The time that all publishes have is kept where they are sent, with one timer for many.
        let answered = match self.options.timeout {
            None => answer.await,
            Some(_) => match tokio::time::timeout_at(self.deadline, answer).await {
                Ok(answered) => answered,
                Err(_) => return Err(unanswered(&self.shared.config.address())),
            },
        };
        answered.map_err(|_gone| closed("publish").with_retry(RetryClass::Ambiguous))
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
        let audience = self.options.audience;
        match self.shared.config.mode {
            ContentMode::Binary => codec::write(&mut command, event, &data, audience, headers),
            ContentMode::Structured => {
                codec::write_structured(&mut command, event, audience, headers)?;
            }
        }
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
