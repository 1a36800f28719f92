//! The envelope: attributes and a payload that is encoded late, and at most once.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use smol_str::SmolStr;

use crate::attributes::Attributes;
use crate::builder::EventBuilder;
use crate::codec::{Codec, Data};
use crate::domain_event::DomainEvent;
use crate::error::Result;
use crate::forms::Forms;
use crate::id::EventId;
use crate::topic::Topic;

/// An event: CloudEvents attributes and a payload; immutable, and cheap to clone.
///
/// The whole event is one allocation. A published value travels inside it as itself: a handler of
/// the same type in this process gets that value back, and bytes are made only when a remote
/// broker, a store or a dead letter first needs them, at most once per codec, and are then shared by
/// every clone.
///
/// ```
/// use trunkline_core::{Data, Event, Topic};
///
/// let event = Event::from_data("OrderPlaced", Topic::from_static("orders"), Data::json(r#"{"id":7}"#))
///     .key("customer-1")
///     .build()?;
/// assert_eq!(event.attributes().key(), Some("customer-1"));
/// assert_eq!(event.data()?.as_slice(), br#"{"id":7}"#);
/// # Ok::<(), trunkline_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Event(Arc<Inner<dyn Payload>>);

/// Laid out as written, so that what every hop looks at stands in the first cache lines.
#[repr(C)]
struct Inner<P: ?Sized> {
    forms: OnceLock<Box<Forms>>,
    attributes: Attributes,
    payload: P,
}

/// What an event carries.
trait Payload: Send + Sync + 'static {
    /// The value as it was published in this process.
    fn value(&self) -> Option<&(dyn Any + Send + Sync)> {
        None
    }

    /// The codec in which the payload is written when nobody chooses another.
    fn codec(&self) -> Codec {
        Codec::Json
    }

    /// The data, when it exists without encoding.
    fn data(&self) -> Option<&Data> {
        None
    }

    /// The event whose forms this payload shares.
    fn original(&self) -> Option<&Event> {
        None
    }

    fn encode(&self, codec: Codec) -> Result<Bytes>;

    fn stream(&self) -> Option<SmolStr> {
        None
    }
}

struct TypedPayload<T>(T);

impl<T: DomainEvent> Payload for TypedPayload<T> {
    fn value(&self) -> Option<&(dyn Any + Send + Sync)> {
        Some(&self.0)
    }

    fn codec(&self) -> Codec {
        T::CODEC
    }

    fn encode(&self, codec: Codec) -> Result<Bytes> {
        self.0.encode(codec)
    }

    fn stream(&self) -> Option<SmolStr> {
        self.0.stream()
    }
}

impl Payload for Data {
    fn data(&self) -> Option<&Data> {
        Some(self)
    }

    fn encode(&self, _codec: Codec) -> Result<Bytes> {
        Ok(self.bytes.clone().unwrap_or_default())
    }
}

/// The payload of an event whose attributes were changed: another event's, with its forms.
struct Amended(Event);

impl Payload for Amended {
    fn value(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.0.0.payload.value()
    }

    fn codec(&self) -> Codec {
        self.0.0.payload.codec()
    }

    fn data(&self) -> Option<&Data> {
        self.0.0.payload.data()
    }

    fn original(&self) -> Option<&Event> {
        Some(&self.0)
    }

    fn encode(&self, codec: Codec) -> Result<Bytes> {
        self.0.0.payload.encode(codec)
    }

    fn stream(&self) -> Option<SmolStr> {
        self.0.0.payload.stream()
    }
}

impl Event {
    /// An event of `payload` with the attributes that its type states.
    ///
    /// # Errors
    /// `Invalid` when the payload's key is not a valid attribute.
    pub fn of<T: DomainEvent>(payload: T) -> Result<Self> {
        Self::builder(payload).build()
    }

    /// Starts an event of `payload` whose attributes are to be set.
    #[must_use]
    pub fn builder<T: DomainEvent>(payload: T) -> EventBuilder<T> {
        EventBuilder::of(payload)
    }

    /// Starts an event of bytes, as they come from elsewhere.
    #[must_use]
    pub fn from_data(
        event_type: impl Into<SmolStr>,
        topic: Topic,
        data: Data,
    ) -> EventBuilder<Data> {
        EventBuilder::of_data(event_type.into(), topic, data)
    }

    /// An event of attributes and data that a codec has read.
    #[must_use]
    pub fn from_parts(mut attributes: Attributes, data: Data) -> Self {
        attributes.set_content_type(data.content_type.clone());
        Self::seal(attributes, data)
    }

    pub(crate) fn of_typed<T: DomainEvent>(mut attributes: Attributes, payload: T) -> Self {
        attributes.set_content_type(Some(SmolStr::new_static(T::CODEC.content_type())));
        Self::seal(attributes, TypedPayload(payload))
    }

    fn seal<P: Payload>(attributes: Attributes, payload: P) -> Self {
        Self(Arc::new(Inner { forms: OnceLock::new(), attributes, payload }))
    }

    /// The attributes.
    #[must_use]
    pub fn attributes(&self) -> &Attributes {
        &self.0.attributes
    }

    /// The `id` attribute.
    #[must_use]
    pub fn id(&self) -> &EventId {
        self.0.attributes.id()
    }

    /// Where the event is published.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        self.0.attributes.topic()
    }

    /// The event with other attributes: the payload and its encoded forms are shared.
    ///
    /// # Errors
    /// What `change` returns.
    pub fn amend(&self, change: impl FnOnce(&mut Attributes) -> Result<()>) -> Result<Self> {
        let mut attributes = self.0.attributes.clone();
        change(&mut attributes)?;
        let original = self.0.payload.original().unwrap_or(self).clone();
        Ok(Self::seal(attributes, Amended(original)))
    }

    /// The data in the payload's own codec, encoded now if it is not yet.
    ///
    /// # Errors
    /// `Encode` when the payload's codec refuses the value.
    pub fn data(&self) -> Result<Data> {
        self.data_in(self.0.payload.codec())
    }

    /// The data in `codec`; data that came as bytes stays as it is.
    ///
    /// # Errors
    /// `Encode` when the codec refuses the value.
    pub fn data_in(&self, codec: Codec) -> Result<Data> {
        if let Some(data) = self.0.payload.data() {
            return Ok(data.clone());
        }
        let bytes = self.forms().encoded(codec, || self.0.payload.encode(codec))?;
        Ok(Data::of(codec, bytes))
    }

    /// The length of the data in bytes, when bytes exist already; encodes nothing.
    #[must_use]
    pub fn encoded_len(&self) -> Option<usize> {
        match self.0.payload.data() {
            Some(data) => Some(data.as_slice().len()),
            None => self.known_forms()?.encoded_len(self.0.payload.codec()),
        }
    }

    /// The payload as it was published in this process, without any decoding.
    #[must_use]
    pub fn value<T: DomainEvent>(&self) -> Option<&T> {
        self.0.payload.value()?.downcast_ref()
    }

    /// The payload as a `T`: the published value itself, or decoded from bytes, at most once.
    ///
    /// The `type` attribute is not looked at.
    ///
    /// # Errors
    /// `Decode` when the data is no `T`; `Encode` when a value of another type does not encode.
    pub fn typed<T: DomainEvent>(&self) -> Result<Typed<T>> {
        let decoded = match self.value::<T>() {
            Some(_) => None,
            None => Some(self.forms().decoded(|| self.decode::<T>())?),
        };
        Ok(Typed { event: self.clone(), decoded })
    }

    fn decode<T: DomainEvent>(&self) -> Result<T> {
        // Data that came as bytes is only looked at: to share it costs an allocation.
        let encoded;
        let data = match self.0.payload.data() {
            Some(data) => data,
            None => {
                encoded = self.data()?;
                &encoded
            }
        };
        let codec = Codec::for_content_type(data.content_type.as_deref());
        T::decode(data.bytes.as_ref().unwrap_or(&Bytes::new()), codec)
    }

    /// The event-store stream of the event: its type's own, else `<topic>/<key>`, else `<topic>`.
    #[must_use]
    pub fn stream(&self) -> SmolStr {
        let attributes = &self.0.attributes;
        self.0.payload.stream().unwrap_or_else(|| match attributes.key() {
            Some(key) => smol_str::format_smolstr!("{}/{key}", attributes.topic()),
            None => SmolStr::from(attributes.topic().clone()),
        })
    }

    /// Whether both are the same event in memory, not merely equal.
    #[must_use]
    pub fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn forms(&self) -> &Forms {
        match self.0.payload.original() {
            Some(original) => original.forms(),
            None => self.0.forms.get_or_init(Box::default),
        }
    }

    fn known_forms(&self) -> Option<&Forms> {
        match self.0.payload.original() {
            Some(original) => original.known_forms(),
            None => self.0.forms.get().map(|forms| &**forms),
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The payload may hold what must not be logged; the attributes say which event it is.
        f.debug_struct("Event").field("attributes", &self.0.attributes).finish_non_exhaustive()
    }
}

/// An event whose payload is a `T`; dereferences to the payload.
pub struct Typed<T> {
    event: Event,
    decoded: Option<Arc<T>>,
}

impl<T> Typed<T> {
    /// The whole event.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// The event's attributes.
    #[must_use]
    pub fn attributes(&self) -> &Attributes {
        self.event.attributes()
    }
}

impl<T> Clone for Typed<T> {
    fn clone(&self) -> Self {
        Self { event: self.event.clone(), decoded: self.decoded.clone() }
    }
}

impl<T: DomainEvent> Deref for Typed<T> {
    type Target = T;

    #[expect(clippy::expect_used, reason = "`Event::typed` decodes unless the value is in place")]
    fn deref(&self) -> &T {
        match &self.decoded {
            Some(decoded) => decoded,
            None => self.event.value().expect("the payload is a T: checked when this was made"),
        }
    }
}

impl<T: DomainEvent + fmt::Debug> fmt::Debug for Typed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Typed").field(&**self).finish()
    }
}
