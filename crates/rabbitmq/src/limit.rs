//! The server's own limit of deliveries, which must not end what our policy goes on with.
//!
//! From 4.0 on a quorum queue drops an event after 20 deliveries, unless it was declared with a limit
//! of -1. Before, there is no limit unless one is set; 3.10 takes a limit of -1, and then drops whatever
//! is given back once. The driver does not tell the server's version, so the server is asked by doing it.

use lapin::Channel;
use lapin::options::{BasicGetOptions, BasicNackOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use trunkline_core::{ErrorKind, EventId, Result};

use crate::broker::Shared;
use crate::codec::Message;
use crate::config::QueueType;
use crate::error::driver;
use crate::publish::failure;
use crate::topology::{DURABLE_QUEUE, table, text};

pub(crate) const LIMIT: &str = "x-delivery-limit";
const OPERATION: &str = "declare";
/// How long the queue is kept that the server was asked with, should the answer not come.
const ASKED_MS: i32 = 60_000;

/// Whether the server of a connection limits deliveries by itself.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    /// By the number of the connection: a server may come back as a later version.
    limited: tokio::sync::Mutex<Option<(u64, bool)>>,
}

impl Shared {
    /// The argument that takes the limit away, where the server has one by itself.
    pub(crate) async fn no_limit(&self) -> Result<FieldTable> {
        let is_quorum = self.config.queue_type == QueueType::Quorum;
        if is_quorum && self.is_limited().await? {
            Ok(table([(LIMIT, AMQPValue::LongLongInt(-1))]))
        } else {
            Ok(FieldTable::default())
        }
    }

    async fn is_limited(&self) -> Result<bool> {
        let epoch = self.control_link.now().map_or(0, |live| live.epoch);
        // Held while the server is asked, so that it is asked once.
        let mut known = self.limits.limited.lock().await;
        if let Some((_, limited)) = known.filter(|(then, _)| *then == epoch) {
            return Ok(limited);
        }
        let limited = self.ask_for_limit().await?;
        *known = Some((epoch, limited));
        Ok(limited)
    }

    async fn ask_for_limit(&self) -> Result<bool> {
        let channel = self.control_channel(OPERATION).await?;
        let queue = self.topology.names.limit(&EventId::generate().to_string());
        let asked = self.try_limit(&channel, queue).await;
        self.leave(channel).await;
        match asked {
            // It knows no negative limit, and so has none by itself.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            asked => asked,
        }
    }

    /// Gives the first of two messages back in a queue with a limit of -1, and looks whether it comes
    /// again, before the other or after it.
    async fn try_limit(&self, channel: &Channel, queue: ShortString) -> Result<bool> {
        let wrong = |cause| driver(OPERATION, cause);
        let arguments = table([
            ("x-queue-type", text("quorum")),
            (LIMIT, AMQPValue::LongLongInt(-1)),
            ("x-expires", AMQPValue::LongInt(ASKED_MS)),
        ]);
        let declared = channel.queue_declare(queue.clone(), DURABLE_QUEUE, arguments).await;
        declared.map_err(wrong)?;
        for _ in 0..2 {
            let message = Message::record(Vec::new());
            let limit = self.config.publish_timeout;
            let sent = self.records.send(ShortString::default(), queue.clone(), message, limit);
            sent.await.map_err(|failed| failure(OPERATION, failed, &self.config.address()))?;
        }
        let get = || channel.basic_get(queue.clone(), BasicGetOptions { no_ack: false });
        if let Some(first) = get().await.map_err(wrong)? {
            let back = BasicNackOptions { multiple: false, requeue: true };
            channel.basic_nack(first.delivery_tag, back).await.map_err(wrong)?;
        }
        let mut comes_again = false;
        while let Some(next) = get().await.map_err(wrong)? {
            comes_again |= next.redelivered;
        }
        channel.queue_delete(queue, QueueDeleteOptions::default()).await.map_err(wrong)?;
        Ok(comes_again)
    }
}
