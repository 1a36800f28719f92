//! Building a bus.

use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;
use trunkline_core::{Broker, DEFAULT_SOURCE, Error, ErrorKind, EventStore, GroupSpec, Result};

use crate::bus::EventBus;
use crate::channel::Channel;
use crate::middleware::PublishMiddleware;

/// The parts of a bus that is being built.
#[must_use = "a bus starts with `start`"]
pub struct EventBusBuilder {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) store: Option<Arc<dyn EventStore>>,
    pub(crate) middleware: Vec<Box<dyn PublishMiddleware>>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) source: SmolStr,
    pub(crate) max_event_bytes: usize,
    pub(crate) publish_timeout: Option<Duration>,
}

impl EventBusBuilder {
    /// The longest data of an event by default: 4 MiB, the limit of the whole system.
    pub const DEFAULT_MAX_EVENT_BYTES: usize = 4 << 20;

    pub(crate) fn new(broker: Arc<dyn Broker>) -> Self {
        Self {
            broker,
            store: None,
            middleware: Vec::new(),
            channels: Vec::new(),
            source: SmolStr::new_static(DEFAULT_SOURCE),
            max_event_bytes: Self::DEFAULT_MAX_EVENT_BYTES,
            publish_timeout: None,
        }
    }

    /// Keeps every published event in `store`, before it is routed.
    pub fn store(mut self, store: impl EventStore) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// The source of events that name none, such as `/orders-service`.
    pub fn source(mut self, source: impl Into<SmolStr>) -> Self {
        self.source = source.into();
        self
    }

    /// Adds middleware to the publish pipeline; the first added sees an event first.
    pub fn middleware(mut self, middleware: impl PublishMiddleware) -> Self {
        self.middleware.push(Box::new(middleware));
        self
    }

    /// Adds a channel; the first that covers a consumer's topics applies to it.
    pub fn channel(mut self, channel: Channel) -> Self {
        self.channels.push(channel);
        self
    }

    /// Sets the longest data of an event, in bytes; the broker has a limit of its own beside it.
    ///
    /// Without a store and on the way to a handler in this process nothing is encoded, and so nothing
    /// is measured but data that came as bytes.
    pub fn max_event_bytes(mut self, bytes: usize) -> Self {
        self.max_event_bytes = bytes;
        self
    }

    /// Sets how long a publish waits for room in a full buffer.
    pub fn publish_timeout(mut self, timeout: Duration) -> Self {
        self.publish_timeout = Some(timeout);
        self
    }

    /// Starts the bus: the broker's capabilities are checked and the channels' groups are made.
    ///
    /// # Errors
    /// `Unsupported` when a channel needs what the broker lacks, naming both; `Invalid` for a source
    /// that is no attribute; `Disconnected`.
    ///
    /// # Cancel safety
    /// A dropped call may have made some of the groups.
    pub async fn start(self) -> Result<EventBus> {
        if self.source.is_empty() || self.source.chars().any(char::is_control) {
            let message = "the source of a bus is text such as `/orders-service`";
            return Err(Error::new(ErrorKind::Invalid, "start", message));
        }
        for channel in &self.channels {
            self.open(channel).await?;
        }
        Ok(EventBus::start(self))
    }

    async fn open(&self, channel: &Channel) -> Result<()> {
        let capabilities = self.broker.capabilities();
        let asker = || format!("channel `{}`", channel.name);
        let lanes = capabilities.priority_lanes || !channel.lanes;
        capabilities.require(lanes, "priority_lanes", asker())?;
        let drops = channel.on_full == trunkline_core::OnFull::DropOldest;
        capabilities.require(capabilities.drop_oldest || !drops, "drop_oldest", asker())?;
        // `on_full` is for the bound on unanswered publishes too.
        let fails =
            channel.on_full == trunkline_core::OnFull::Error && channel.unconfirmed.is_none();
        let bounds = channel.buffer.is_some() || fails;
        capabilities.require(capabilities.buffer || !bounds, "buffer", asker())?;
        if channel.consumers.is_empty() {
            return Ok(());
        }
        let Some(admin) = self.broker.admin() else {
            let message = format!(
                "channel `{}` names consumers, and the {} broker cannot make groups",
                channel.name, capabilities.name
            );
            return Err(Error::new(ErrorKind::Unsupported, "start", message));
        };
        for group in &channel.consumers {
            let mut spec = GroupSpec::new(group.clone(), channel.topics.iter().cloned());
            spec.buffer = channel.buffer;
            if capabilities.buffer {
                spec.on_full = channel.on_full;
            }
            spec.order = channel.order;
            spec.lanes = channel.lanes;
            admin.declare_group(spec).await?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for EventBusBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventBusBuilder")
            .field("broker", &self.broker)
            .field("store", &self.store)
            .field("channels", &self.channels)
            .finish_non_exhaustive()
    }
}
