//! The attributes of an event: CloudEvents 1.0.2, its documented extensions, and ours.

mod value;
mod wire;

use jiff::Timestamp;
use smol_str::SmolStr;

use crate::error::{Error, ErrorKind, Result};
use crate::hash::murmur2;
use crate::id::{EventId, Identity};
use crate::topic::Topic;
use crate::trace::TraceParent;

pub use value::{AttributeValue, Kind, Priority};
pub(crate) use wire::AttributeReader;

/// What is known about an event without looking at its payload.
///
/// Everything that most events have is held in place; the rest shares one allocation that is made
/// when the first of it is set. Laid out as written: what every hop looks at comes first.
#[derive(Debug, Clone, PartialEq)]
#[repr(C)]
pub struct Attributes {
    lane: Option<u64>,
    topic: Topic,
    event_type: SmolStr,
    version: Option<u32>,
    priority: Priority,
    kind: Option<Kind>,
    rare: Option<Box<Rare>>,
    key: Option<SmolStr>,
    id: EventId,
    source: SmolStr,
    time: Option<Timestamp>,
    content_type: Option<SmolStr>,
    correlation: Option<EventId>,
    causation: Option<EventId>,
    trace: Option<TraceParent>,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Rare {
    subject: Option<SmolStr>,
    schema: Option<SmolStr>,
    tracestate: Option<SmolStr>,
    tenant: Option<SmolStr>,
    user: Option<SmolStr>,
    project: Option<SmolStr>,
    origin: Option<SmolStr>,
    expiry: Option<Timestamp>,
    free: Vec<(SmolStr, AttributeValue)>,
}

macro_rules! rare_text {
    ($($(#[$doc:meta])* $get:ident, $set:ident;)+) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $get(&self) -> Option<&str> {
            self.rare.as_ref()?.$get.as_deref()
        }

        #[doc = concat!("Sets or clears what [`Self::", stringify!($get), "`] returns.")]
        ///
        /// # Errors
        /// `Invalid` when the text is empty or holds a control character.
        pub fn $set(&mut self, value: Option<SmolStr>) -> Result<()> {
            if let Some(text) = &value {
                value::check_text(stringify!($get), text)?;
            }
            if value.is_some() || self.rare.is_some() {
                self.rare_mut().$get = value;
            }
            Ok(())
        }
    )+};
}

impl Attributes {
    /// Attributes with what every event must have; the time is now.
    ///
    /// # Errors
    /// `Invalid` when the source or the type is empty or holds a control character.
    pub fn new(
        id: EventId,
        source: impl Into<SmolStr>,
        event_type: impl Into<SmolStr>,
        topic: Topic,
    ) -> Result<Self> {
        let (source, event_type) = (source.into(), event_type.into());
        value::check_text("source", &source)?;
        value::check_text("type", &event_type)?;
        if id.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "event", "the attribute `id` is empty"));
        }
        let mut attributes = Self::unchecked(id, source, event_type, topic);
        attributes.time = Some(Timestamp::now());
        Ok(attributes)
    }

    pub(crate) fn unchecked(
        id: EventId,
        source: SmolStr,
        event_type: SmolStr,
        topic: Topic,
    ) -> Self {
        Self {
            id,
            source,
            event_type,
            topic,
            time: None,
            key: None,
            content_type: None,
            correlation: None,
            causation: None,
            trace: None,
            lane: None,
            version: None,
            priority: Priority::Normal,
            kind: None,
            rare: None,
        }
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// The `id` attribute.
    #[must_use]
    pub fn id(&self) -> &EventId {
        &self.id
    }

    /// The `source` attribute.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Replaces the source.
    ///
    /// # Errors
    /// `Invalid` when the text is empty or holds a control character.
    pub fn set_source(&mut self, source: SmolStr) -> Result<()> {
        value::check_text("source", &source)?;
        self.source = source;
        Ok(())
    }

    /// The `type` attribute.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// Where the event is published.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Moves the event to another topic.
    pub fn set_topic(&mut self, topic: Topic) {
        self.topic = topic;
        self.place_in_lane();
    }

    /// The `time` attribute.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        self.time
    }

    /// Sets or clears the time.
    pub fn set_time(&mut self, time: Option<Timestamp>) {
        self.time = time;
    }

    /// The ordering key, CloudEvents `partitionkey`.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Sets or clears the ordering key.
    ///
    /// # Errors
    /// `Invalid` when the key is empty or holds a control character.
    pub fn set_key(&mut self, key: Option<SmolStr>) -> Result<()> {
        if let Some(key) = &key {
            value::check_text("partitionkey", key)?;
        }
        self.key = key;
        self.place_in_lane();
        Ok(())
    }

    /// The lane of the event: events of one topic and key share it, keyless events have none.
    ///
    /// A number for use inside one process, from the murmur2 hashes of topic and key. Different keys
    /// may, rarely, share a lane; they are then kept in order too.
    #[must_use]
    pub fn lane(&self) -> Option<u64> {
        self.lane
    }

    /// The lane of the event where more urgent events may overtake: there order holds within a
    /// priority, and each priority has lanes of its own.
    #[must_use]
    pub fn lane_in_priority(&self) -> Option<u64> {
        let priority = self.priority as u64;
        self.lane.map(|lane| lane.wrapping_add(priority.wrapping_mul(0x1000_0001)))
    }

    fn place_in_lane(&mut self) {
        self.lane = self.key.as_ref().map(|key| {
            let topic = murmur2(self.topic.as_str().as_bytes());
            u64::from(topic) << 32 | u64::from(murmur2(key.as_bytes()))
        });
    }

    /// The `datacontenttype` attribute.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    pub(crate) fn set_content_type(&mut self, content_type: Option<SmolStr>) {
        self.content_type = content_type;
    }

    /// The `dataversion` attribute: the version of the payload's shape.
    #[must_use]
    pub fn version(&self) -> Option<u32> {
        self.version
    }

    /// Sets or clears the version of the payload's shape.
    pub fn set_version(&mut self, version: Option<u32>) {
        self.version = version;
    }

    /// The `priority` attribute, normal when absent.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// Sets the priority.
    pub fn set_priority(&mut self, priority: Priority) {
        self.priority = priority;
    }

    /// The `kind` attribute.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// Sets or clears the kind.
    pub fn set_kind(&mut self, kind: Option<Kind>) {
        self.kind = kind;
    }

    /// The `correlationid` attribute: what all events of one story share.
    #[must_use]
    pub fn correlation(&self) -> Option<&EventId> {
        self.correlation.as_ref()
    }

    /// Sets or clears the correlation id.
    pub fn set_correlation(&mut self, id: Option<EventId>) {
        self.correlation = id;
    }

    /// The `causationid` attribute: the id of the event whose handler published this one.
    #[must_use]
    pub fn causation(&self) -> Option<&EventId> {
        self.causation.as_ref()
    }

    /// Sets or clears the causation id.
    pub fn set_causation(&mut self, id: Option<EventId>) {
        self.causation = id;
    }

    /// The `traceparent` attribute: where the event's trace started.
    #[must_use]
    pub fn trace(&self) -> Option<TraceParent> {
        self.trace
    }

    /// Sets or clears the trace.
    pub fn set_trace(&mut self, trace: Option<TraceParent>) {
        self.trace = trace;
    }

    /// The `expirytime` attribute.
    #[must_use]
    pub fn expiry(&self) -> Option<Timestamp> {
        self.rare.as_ref()?.expiry
    }

    /// Sets or clears the time after which the event may be discarded.
    pub fn set_expiry(&mut self, expiry: Option<Timestamp>) {
        if expiry.is_some() || self.rare.is_some() {
            self.rare_mut().expiry = expiry;
        }
    }

    rare_text! {
        /// The `subject` attribute.
        subject, set_subject;
        /// The `dataschema` attribute.
        schema, set_schema;
        /// The `tracestate` attribute.
        tracestate, set_tracestate;
        /// The `tenantid` attribute.
        tenant, set_tenant;
        /// The `userid` attribute.
        user, set_user;
        /// The `projectid` attribute.
        project, set_project;
        /// The `originid` attribute: the bus start that published both ways.
        origin, set_origin;
    }

    /// What makes this event the same event: (tenant, source, id).
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            tenant: self.tenant().map_or_else(SmolStr::default, SmolStr::new),
            source: self.source.clone(),
            id: self.id.clone(),
        }
    }

    /// Makes these the attributes of an event caused by `cause`.
    ///
    /// The correlation id is the cause's, or the cause's id where it has none, and the trace is the
    /// cause's, one step on. What is already set stays, save a trace that this event's own id
    /// started. An event does not cause itself.
    pub fn caused_by(&mut self, cause: &Attributes) {
        if self.id == cause.id {
            return;
        }
        if self.causation.is_none() {
            self.causation = Some(cause.id.clone());
        }
        if self.correlation.is_none() {
            self.correlation = Some(cause.correlation.clone().unwrap_or_else(|| cause.id.clone()));
        }
        if let Some(trace) = cause.trace.filter(|_| self.starts_its_trace()) {
            self.trace = Some(trace.child(&self.id));
            if let Some(tracestate) = cause.tracestate() {
                self.rare_mut().tracestate = Some(SmolStr::new(tracestate));
            }
        }
    }

    /// Whether [`Attributes::caused_by`] would leave everything as it is.
    #[must_use]
    pub fn is_caused_by(&self, cause: &Attributes) -> bool {
        let linked = self.causation.is_some() && self.correlation.is_some();
        self.id == cause.id || (linked && (cause.trace.is_none() || !self.starts_its_trace()))
    }

    fn starts_its_trace(&self) -> bool {
        self.trace.is_none() || self.trace == TraceParent::start(&self.id)
    }
}
