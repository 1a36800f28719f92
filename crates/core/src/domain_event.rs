//! The trait of a user's payload type.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use smol_str::SmolStr;

use crate::attributes::{Kind, Priority};
use crate::codec::Codec;
use crate::error::Result;
use crate::topic::Topic;

/// A payload type and what every event of it has in common.
///
/// Derive it: `#[derive(Serialize, Deserialize, DomainEvent)]` with
/// `#[event(type = "OrderPlaced", topic = "orders.placed", key = order_id)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a domain event",
    label = "needs `#[derive(DomainEvent)]`",
    note = "derive `Serialize`, `Deserialize` and `DomainEvent` for `{Self}`"
)]
pub trait DomainEvent: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The CloudEvents `type`.
    const TYPE: &'static str;
    /// Where events of the type are published.
    const TOPIC: Topic;
    /// The version of the payload's shape, `dataversion` on the wire.
    const VERSION: u32 = 1;
    /// How urgent events of the type are.
    const PRIORITY: Priority = Priority::Normal;
    /// What events of the type are for.
    const KIND: Kind = Kind::Domain;
    /// The CloudEvents `source`, where it is not the bus's.
    const SOURCE: Option<&'static str> = None;
    /// How the payload becomes bytes.
    const CODEC: Codec = Codec::Json;

    /// The ordering key: events of one topic and key are handled in order.
    ///
    /// Up to 23 bytes are held in the event itself; a longer key is an allocation of its own.
    fn key(&self) -> Option<SmolStr> {
        None
    }

    /// The event-store stream of this event, where it is not `<topic>/<key>`.
    fn stream(&self) -> Option<SmolStr> {
        None
    }

    /// The payload as bytes.
    ///
    /// # Errors
    /// `Encode` when the codec refuses the value.
    fn encode(&self, codec: Codec) -> Result<Bytes> {
        codec.encode(self)
    }

    /// The payload from bytes.
    ///
    /// # Errors
    /// `Decode` when the bytes are not such a payload in this codec.
    fn decode(data: &Bytes, codec: Codec) -> Result<Self> {
        codec.decode(data)
    }
}
