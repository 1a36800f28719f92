//! The pipelines in which publishes go out: what concurrent callers hand in goes together.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::{Cmd, Pipeline, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use trunkline_core::{Error, ErrorKind};

use crate::error::{disconnected, from_driver, refused};
use crate::link::{Failed, Link, backoff, is_for_later};
use crate::publish::millis;

/// Commands in one pipeline: enough that a round trip costs each of them little.
const PIPELINE: usize = 512;
/// Pipelines under way: one is answered while the next is written.
const UNDER_WAY: usize = 2;
/// Batches that wait for a place in a pipeline.
pub(crate) const QUEUE: usize = 4_096;

/// Commands of one caller, and where their answers go.
pub(crate) struct Job {
    pub(crate) commands: Vec<Cmd>,
    /// Whether the commands happen together or not at all.
    pub(crate) is_atomic: bool,
    pub(crate) deadline: Instant,
    pub(crate) reply: oneshot::Sender<Answers>,
}

/// One result a command; only what failed costs anything.
pub(crate) type Answers = Vec<Option<Error>>;

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
    let (mut pipe, mut callers) = pipeline_of(jobs, wait);
    let mut attempt = 0;
    while !callers.is_empty() {
        match send(link, &pipe, &mut callers, address).await {
            None => return,
            // What waits for replicas has one answer more, which is none of an event.
            Some(Ok(values))
                if values
                    .iter()
                    .take(values.len() - usize::from(wait.is_some()))
                    .all(is_for_later) => {}
            Some(Ok(values)) => return distribute(callers, values, wait),
            Some(Err(failed)) if failed.sent => {
                let error = from_driver("publish", failed.error, true);
                return callers.iter_mut().for_each(|caller| caller.fail(&error));
            }
            Some(Err(_)) => {}
        }
        attempt += 1;
        let pause = backoff(attempt);
        // Whose time is over by then is told now, and not sent any more.
        expire(&mut callers, Instant::now() + pause, || disconnected("publish", address));
        (pipe, callers) = without_gone(pipe, callers, wait);
        tokio::time::sleep(pause).await;
    }
}

/// Sends a pipeline once, and lets nobody wait longer than asked for; `None` when nobody waits any more.
async fn send(
    link: &Link,
    pipe: &Pipeline,
    callers: &mut [Caller],
    address: &str,
) -> Option<Result<Vec<Value>, Failed>> {
    let mut sending = std::pin::pin!(link.send(pipe));
    loop {
        let waiting = callers.iter().filter(|caller| caller.reply.is_some());
        let deadline = waiting.map(|caller| caller.deadline).min()?;
        if let Ok(answer) = tokio::time::timeout_at(deadline, &mut sending).await {
            return Some(answer);
        }
        expire(callers, Instant::now(), || unanswered(address));
    }
}

/// Whether the server has the event is not known.
pub(crate) fn unanswered(address: &str) -> Error {
    let message = "the Redis server did not answer in time: whether it has the event is not known";
    Error::new(ErrorKind::TimedOut, "publish", message).with("address", address)
}

/// Who waits for the answers of so many commands.
struct Caller {
    count: usize,
    is_atomic: bool,
    deadline: Instant,
    /// Absent once it is answered.
    reply: Option<oneshot::Sender<Answers>>,
}

impl Caller {
    fn answer(&mut self, answers: Answers) {
        if let Some(reply) = self.reply.take() {
            // A caller that is gone does not want it.
            drop(reply.send(answers));
        }
    }

    fn fail(&mut self, error: &Error) {
        self.answer((0..self.count).map(|_| Some(error.duplicate())).collect());
    }

    /// How many commands of the pipeline are its own.
    fn commands(&self) -> usize {
        self.count + if self.is_atomic { 2 } else { 0 }
    }
}

/// Fails whoever waits until `now` at most.
fn expire(callers: &mut [Caller], now: Instant, error: impl FnOnce() -> Error) {
    let mut expired = callers.iter_mut().filter(|caller| caller.deadline <= now).peekable();
    if expired.peek().is_some() {
        let error = error();
        expired.for_each(|caller| caller.fail(&error));
    }
}

fn pipeline_of(jobs: Vec<Job>, wait: Option<(u32, Duration)>) -> (Pipeline, Vec<Caller>) {
    let count = jobs.iter().map(|job| job.commands.len() + 2).sum();
    let mut pipe = Pipeline::with_capacity(count);
    let mut callers = Vec::with_capacity(jobs.len());
    for Job { commands, is_atomic, deadline, reply } in jobs {
        // Who has left while this was in the queue has been told that it failed.
        if reply.is_closed() {
            continue;
        }
        callers.push(Caller { count: commands.len(), is_atomic, deadline, reply: Some(reply) });
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
    add_wait(&mut pipe, wait);
    (pipe, callers)
}

fn add_wait(pipe: &mut Pipeline, wait: Option<(u32, Duration)>) {
    if let Some((replicas, timeout)) = wait {
        pipe.cmd("WAIT").arg(replicas).arg(millis(timeout).max(1));
    }
}

/// The same pipeline without what nobody waits for any more.
fn without_gone(
    pipe: Pipeline,
    callers: Vec<Caller>,
    wait: Option<(u32, Duration)>,
) -> (Pipeline, Vec<Caller>) {
    if callers.iter().all(|caller| caller.reply.is_some()) {
        return (pipe, callers);
    }
    let mut commands = pipe.cmd_iter();
    let mut left = Pipeline::with_capacity(pipe.len());
    let mut waiting = Vec::with_capacity(callers.len());
    for caller in callers {
        let own = commands.by_ref().take(caller.commands());
        if caller.reply.is_some() {
            for command in own {
                left.add_command(command.clone());
            }
            waiting.push(caller);
        } else {
            own.for_each(drop);
        }
    }
    add_wait(&mut left, wait);
    (left, waiting)
}

fn distribute(callers: Vec<Caller>, mut values: Vec<Value>, wait: Option<(u32, Duration)>) {
    let too_few = wait.and_then(|(wanted, _)| match values.pop() {
        Some(Value::Int(reached)) if reached >= i64::from(wanted) => None,
        _ => Some(unreplicated(wanted)),
    });
    let mut values = values.into_iter();
    for mut caller in callers {
        let mut answers = if caller.is_atomic {
            atomic_answers(&mut values, caller.count)
        } else {
            values.by_ref().take(caller.count).map(answer_of).collect()
        };
        if let Some(error) = &too_few {
            let accepted = answers.iter_mut().filter(|answer| answer.is_none());
            accepted.for_each(|answer| *answer = Some(error.duplicate()));
        }
        caller.answer(answers);
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
