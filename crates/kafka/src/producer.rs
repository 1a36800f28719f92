//! The producer: idempotent, with a bound on what is unconfirmed, and one outcome for each record.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use trunkline_core::{Error, ErrorKind, Result};

use crate::client::{self, Clients, Link};
use crate::codec::Draft;
use crate::mutant::Mutations;
use crate::topics::blocking;
use crate::{error, lock};

/// How long a publisher waits before it looks again for room in librdkafka's queue, which is bounded
/// by bytes too; a confirmation ends the wait earlier.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Records under way together, and what became of each.
#[derive(Debug)]
pub(crate) struct Batch {
    progress: Mutex<Progress>,
    waker: AtomicWaker,
}

#[derive(Debug)]
struct Progress {
    pending: usize,
    /// The records that have no outcome yet.
    open: Vec<bool>,
    failures: Vec<(usize, KafkaError)>,
    /// Where the last confirmed record is.
    offset: i64,
}

impl Batch {
    pub(crate) fn of(len: usize) -> Arc<Self> {
        let progress =
            Progress { pending: 0, open: vec![false; len], failures: Vec::new(), offset: -1 };
        Arc::new(Self { progress: Mutex::new(progress), waker: AtomicWaker::new() })
    }

    fn begin(&self, index: usize) {
        let mut progress = lock(&self.progress);
        progress.open[index] = true;
        progress.pending += 1;
    }

    fn end(&self, index: usize, outcome: std::result::Result<i64, KafkaError>) {
        let mut progress = lock(&self.progress);
        progress.open[index] = false;
        progress.pending -= 1;
        match outcome {
            Ok(offset) => progress.offset = offset,
            Err(cause) => progress.failures.push((index, cause)),
        }
        let is_over = progress.pending == 0;
        drop(progress);
        if is_over {
            self.waker.wake();
        }
    }

    /// Waits until every record has an outcome, and gives the failures; what has none at the deadline
    /// has an unknown one.
    pub(crate) async fn outcome(&self, deadline: Instant) -> Vec<(usize, Error)> {
        let over = poll_fn(|cx| {
            self.waker.register(cx.waker());
            match lock(&self.progress).pending {
                0 => Poll::Ready(()),
                _ => Poll::Pending,
            }
        });
        let in_time = timeout_at(deadline, over).await.is_ok();
        let mut progress = lock(&self.progress);
        let failures = std::mem::take(&mut progress.failures);
        let mut failures: Vec<_> =
            failures.iter().map(|(index, cause)| (*index, error::unaccepted(cause))).collect();
        if !in_time {
            let open = progress.open.iter().enumerate().filter(|(_, open)| **open);
            failures.extend(open.map(|(index, _)| (index, error::unconfirmed())));
        }
        failures
    }

    pub(crate) fn last_offset(&self) -> i64 {
        lock(&self.progress).offset
    }
}

/// Which record of which batch a confirmation is about.
pub(crate) struct Ticket {
    batch: Arc<Batch>,
    index: usize,
}

#[derive(Debug)]
struct Context {
    link: Arc<Link>,
    room: Arc<Semaphore>,
    /// The producer cannot go on; the next publish makes another one.
    is_broken: AtomicBool,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        client::log(level, facility, text);
    }

    fn error(&self, cause: KafkaError, reason: &str) {
        self.link.note(&cause);
        if cause.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            tracing::error!(reason, "the Kafka producer is made anew");
            self.is_broken.store(true, Ordering::Release);
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        self.room.add_permits(1);
        let outcome = match result {
            Ok(message) => {
                if self.link.is_lost() {
                    self.link.heard();
                }
                Ok(message.offset())
            }
            Err((cause, _)) => Err(cause.clone()),
        };
        ticket.batch.end(ticket.index, outcome);
    }
}

type Native = ThreadedProducer<Context>;

/// The producer of a broker: idempotent, with a bound on what is unconfirmed.
pub(crate) struct Producer {
    clients: Clients,
    room: Arc<Semaphore>,
    native: RwLock<Arc<Native>>,
}

impl Producer {
    pub(crate) fn new(clients: Clients) -> Result<Self> {
        let room = Arc::new(Semaphore::new(clients.config.max_unconfirmed));
        let native = RwLock::new(Arc::new(create(&clients, &room)?));
        Ok(Self { clients, room, native })
    }

    fn native(&self) -> Result<Arc<Native>> {
        let native = Arc::clone(&self.native.read().unwrap_or_else(PoisonError::into_inner));
        if !native.context().is_broken.load(Ordering::Acquire) {
            return Ok(native);
        }
        drop(native);
        let mut current = self.native.write().unwrap_or_else(PoisonError::into_inner);
        if current.context().is_broken.load(Ordering::Acquire) {
            let broken =
                std::mem::replace(&mut *current, Arc::new(create(&self.clients, &self.room)?));
            // Its thread is joined by the last reference; that must not be a caller's runtime.
            std::thread::spawn(move || drop(broken));
        }
        Ok(Arc::clone(&current))
    }

    /// Enqueues one record behind the ones enqueued before; waits for room until the deadline.
    pub(crate) async fn enqueue(
        &self,
        batch: &Arc<Batch>,
        index: usize,
        topic: &str,
        draft: Draft,
        deadline: Instant,
    ) -> Result<()> {
        let limit = self.clients.config.max_unconfirmed;
        let permit = match self.room.try_acquire() {
            Ok(permit) => permit,
            Err(_) => match timeout_at(deadline, self.room.acquire()).await {
                Ok(Ok(permit)) => permit,
                Ok(Err(_)) => return Err(error::closed("publish")),
                Err(_) => return Err(error::full(limit)),
            },
        };
        let native = self.native()?;
        let Draft { key, headers, payload, partition, .. } = draft;
        let ticket = Box::new(Ticket { batch: Arc::clone(batch), index });
        let mut record = BaseRecord::with_opaque_to(topic, ticket).headers(headers);
        record.key = key.as_deref();
        record.payload = payload.as_deref();
        record.partition = partition;
        batch.begin(index);
        loop {
            match native.send(record) {
                Ok(()) => {
                    permit.forget();
                    return Ok(());
                }
                Err((cause, back)) if is_full(&cause) => {
                    if Instant::now() >= deadline {
                        batch.end(index, Ok(-1));
                        return Err(error::full(limit));
                    }
                    record = back;
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err((cause, _)) => {
                    batch.end(index, Ok(-1));
                    return Err(error::unaccepted(&cause));
                }
            }
        }
    }

    /// Writes one record and waits for its confirmation; gives its offset.
    pub(crate) async fn write(&self, topic: &str, draft: Draft) -> Result<i64> {
        let deadline = Instant::now() + self.clients.config.publish_timeout;
        let batch = Batch::of(1);
        self.enqueue(&batch, 0, topic, draft, deadline).await?;
        match batch.outcome(deadline).await.pop() {
            None => Ok(batch.last_offset()),
            Some((_, error)) => Err(error),
        }
    }

    /// Waits until everything is confirmed; what is not in time is given up, and its publishers are
    /// told that the broker is closed.
    pub(crate) async fn flush(&self, deadline: Duration) -> Result<()> {
        let native = self.native()?;
        if Mutations::of(&self.clients.config).no_flush {
            native.purge(PurgeConfig::default().queue().inflight());
            return Ok(());
        }
        blocking("close", move || {
            native.flush(deadline).map_err(|cause| {
                native.purge(PurgeConfig::default().queue().inflight());
                let message =
                    "not everything that was published is confirmed: give close more time";
                Error::new(ErrorKind::TimedOut, "close", message).because(cause)
            })
        })
        .await
    }

    pub(crate) fn in_flight(&self) -> i32 {
        self.native.read().unwrap_or_else(PoisonError::into_inner).in_flight_count()
    }
}

fn create(clients: &Clients, room: &Arc<Semaphore>) -> Result<Native> {
    let context = Context {
        link: Arc::clone(&clients.link),
        room: Arc::clone(room),
        is_broken: AtomicBool::new(false),
    };
    clients.producer().create_with_context(context).map_err(error::settings)
}

fn is_full(cause: &KafkaError) -> bool {
    cause.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}
