//! Logs of our own records: stream queues that every process reads from the beginning.
//!
//! A server without plugins lists nothing, so that what has to be known of groups, dead letters and
//! attempts is written down. A reader cannot ask how long a stream is: it writes a record and reads up
//! to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use trunkline_core::{ErrorKind, EventId, Result};

use crate::broker::Shared;
use crate::codec::Message;
use crate::error::{closed, disconnected, driver};
use crate::job::{Failed, Outcome};
use crate::link::jittered;
use crate::lock;
use crate::publish::failure;
use crate::topology::{table, text};

/// Credit of a reader, and how many records it reads before it gives credit back.
const CREDIT: u16 = 500;
const PAUSE: Duration = Duration::from_millis(100);
const OPERATION: &str = "write a record";

/// What the records of a log add up to.
pub(crate) trait Fold: Send + 'static {
    fn fold(&mut self, record: &[u8]);
}

/// A log and what it adds up to, kept up to date while the broker is open.
pub(crate) struct Log<S> {
    name: ShortString,
    retention: FieldTable,
    shared: Weak<Shared>,
    state: Mutex<S>,
    waiting: Mutex<HashMap<String, oneshot::Sender<()>>>,
    /// Held while the log is being made: a stream that is half made ends the connections that use it.
    started: tokio::sync::Mutex<bool>,
}

impl<S: Fold> Log<S> {
    pub(crate) fn new(
        name: ShortString,
        shared: &Weak<Shared>,
        retention: FieldTable,
        state: S,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            retention,
            shared: Weak::clone(shared),
            state: Mutex::new(state),
            waiting: Mutex::default(),
            started: tokio::sync::Mutex::default(),
        })
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&S) -> T) -> T {
        look(&lock(&self.state))
    }

    /// Reads what others have written up to now.
    pub(crate) async fn sync(self: &Arc<Self>) -> Result<()> {
        self.append(Vec::new()).await
    }

    /// Reads what others have written up to now, where anything was ever written.
    ///
    /// A record that comes back says that there is no log; asking for it would be an error that ends
    /// the channel.
    pub(crate) async fn sync_if_there(self: &Arc<Self>) -> Result<()> {
        let shared = self.shared()?;
        let (id, message, was_read) = self.prepare(Vec::new());
        match self.send(&shared, message).await {
            Err(Failed::Unroutable) => {
                lock(&self.waiting).remove(&id);
                Ok(())
            }
            outcome => {
                self.start(&shared).await?;
                self.wait(&shared, &id, outcome, was_read).await
            }
        }
    }

    /// Makes sure that the log is being read, and has been read from its beginning.
    pub(crate) async fn follow(self: &Arc<Self>) -> Result<()> {
        let is_followed = *self.started.lock().await;
        if is_followed { Ok(()) } else { self.sync().await }
    }

    /// Writes a record and waits until it has been read.
    pub(crate) async fn append(self: &Arc<Self>, record: impl Into<Vec<u8>>) -> Result<()> {
        let shared = self.shared()?;
        self.start(&shared).await?;
        let (id, message, was_read) = self.prepare(record.into());
        let mut outcome = self.send(&shared, message.clone()).await;
        if outcome == Err(Failed::Unroutable) {
            self.declare(&shared).await?;
            outcome = self.send(&shared, message).await;
        }
        self.wait(&shared, &id, outcome, was_read).await
    }

    fn shared(&self) -> Result<Arc<Shared>> {
        self.shared.upgrade().ok_or_else(|| closed(OPERATION))
    }

    /// A record with a name of its own, and what tells that it was read.
    fn prepare(&self, record: Vec<u8>) -> (String, Message, oneshot::Receiver<()>) {
        let id = EventId::generate().to_string();
        let (read, was_read) = oneshot::channel();
        lock(&self.waiting).insert(id.clone(), read);
        let mut message = Message::record(record);
        message.properties = message.properties.with_message_id(ShortString::from(id.as_str()));
        (id, message, was_read)
    }

    async fn wait(
        &self,
        shared: &Shared,
        id: &str,
        outcome: Outcome,
        was_read: oneshot::Receiver<()>,
    ) -> Result<()> {
        let address = shared.config.address();
        let limit = shared.config.publish_timeout;
        let read = match outcome {
            Ok(()) => timeout(limit, was_read).await.is_ok_and(|read| read.is_ok()),
            Err(failed) => {
                lock(&self.waiting).remove(id);
                return Err(failure(OPERATION, failed, &address));
            }
        };
        if read {
            return Ok(());
        }
        lock(&self.waiting).remove(id);
        Err(disconnected(OPERATION, &address))
    }

    async fn send(&self, shared: &Shared, message: Message) -> Outcome {
        let limit = shared.config.publish_timeout;
        shared.records.send(ShortString::default(), self.name.clone(), message, limit).await
    }

    async fn declare(&self, shared: &Shared) -> Result<()> {
        let deadline = Instant::now() + shared.config.publish_timeout;
        loop {
            let channel = shared.control_channel("declare").await?;
            let mut arguments = self.retention.clone();
            arguments.insert("x-queue-type".into(), text("stream"));
            let declared = shared.topology.queue(&channel, self.name.clone(), arguments).await;
            shared.leave(channel).await;
            match declared {
                // A server that has just started serves before its streams do.
                Err(error)
                    if error.kind() == ErrorKind::Disconnected && Instant::now() < deadline =>
                {
                    tokio::time::sleep(jittered(PAUSE)).await;
                }
                declared => return declared,
            }
        }
    }

    /// Declares the log and begins to read it, once.
    async fn start(self: &Arc<Self>, shared: &Arc<Shared>) -> Result<()> {
        let mut started = self.started.lock().await;
        if !*started {
            self.declare(shared).await?;
            *started = true;
            shared.spawn(read(Arc::downgrade(self), Weak::clone(&self.shared)));
        }
        Ok(())
    }

    fn apply(&self, record: &[u8], id: Option<&ShortString>) {
        if !record.is_empty() {
            lock(&self.state).fold(record);
        }
        let waiting = id.and_then(|id| lock(&self.waiting).remove(id.as_str()));
        if waiting.is_some_and(|waiting| waiting.send(()).is_err()) {
            tracing::trace!("whoever wrote a record has given up waiting for it");
        }
    }
}

/// Reads the log, through reconnects, until the broker or the log is gone.
async fn read<S: Fold>(log: Weak<Log<S>>, shared: Weak<Shared>) {
    let mut next: Option<i64> = None;
    loop {
        let Some(opened) = open(&log, &shared, next).await else { return };
        let Ok((channel, mut consumer)) = opened else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let mut unacked = 0;
        while let Some(Ok(delivery)) = consumer.next().await {
            let Some(log) = log.upgrade() else { return };
            let headers = delivery.properties.headers().as_ref();
            let offset = headers.and_then(|headers| headers.inner().get("x-stream-offset"));
            if let Some(AMQPValue::LongLongInt(offset)) = offset {
                next = Some(offset + 1);
            }
            log.apply(&delivery.data, delivery.properties.message_id().as_ref());
            unacked += 1;
            if unacked >= CREDIT / 4 {
                unacked = 0;
                let all = BasicAckOptions { multiple: true };
                if channel.basic_ack(delivery.delivery_tag, all).await.is_err() {
                    break;
                }
            }
        }
    }
}

/// None when the broker or the log is gone.
async fn open<S: Fold>(
    log: &Weak<Log<S>>,
    shared: &Weak<Shared>,
    next: Option<i64>,
) -> Option<Result<(Channel, Consumer)>> {
    let (log, shared) = (log.upgrade()?, shared.upgrade()?);
    if shared.is_closed() {
        return None;
    }
    Some(open_at(&log, &shared, next).await)
}

async fn open_at<S: Fold>(
    log: &Arc<Log<S>>,
    shared: &Arc<Shared>,
    next: Option<i64>,
) -> Result<(Channel, Consumer)> {
    log.declare(shared).await?;
    let channel = shared.control_channel("read a log").await?;
    let offset = next.map_or_else(|| text("first"), AMQPValue::LongLongInt);
    let consumer = consume_stream(&channel, &log.name, offset).await?;
    Ok((channel, consumer))
}

async fn consume_stream(
    channel: &Channel,
    name: &ShortString,
    offset: AMQPValue,
) -> Result<Consumer> {
    let wrong = |cause| driver("read a log", cause);
    channel.basic_qos(CREDIT, BasicQosOptions::default()).await.map_err(wrong)?;
    let from = table([("x-stream-offset", offset)]);
    let options = BasicConsumeOptions::default();
    let name = name.clone();
    channel.basic_consume(name, ShortString::default(), options, from).await.map_err(wrong)
}

/// Reads a stream from its beginning until `is_done` or nothing has come for a while.
pub(crate) async fn read_stream(
    shared: &Arc<Shared>,
    name: &ShortString,
    mut is_done: impl FnMut(lapin::message::Delivery) -> bool,
) -> Result<()> {
    /// What was written has been confirmed long ago: it comes at once, or is no longer kept.
    const PATIENCE: Duration = Duration::from_secs(2);
    let channel = shared.control_channel("read a stream").await?;
    let read = async {
        let mut consumer = consume_stream(&channel, name, text("first")).await?;
        let mut unacked = 0;
        let mut last = Instant::now();
        while let Ok(Some(next)) = tokio::time::timeout_at(last + PATIENCE, consumer.next()).await {
            let delivery = next.map_err(|cause| driver("read a stream", cause))?;
            last = Instant::now();
            unacked += 1;
            if unacked >= CREDIT / 4 {
                unacked = 0;
                let all = BasicAckOptions { multiple: true };
                let acked = channel.basic_ack(delivery.delivery_tag, all).await;
                acked.map_err(|cause| driver("read a stream", cause))?;
            }
            if is_done(delivery) {
                break;
            }
        }
        Ok(())
    };
    let outcome = read.await;
    shared.leave(channel).await;
    outcome
}
