//! Event ids and the identity of an event.

use std::fmt;

use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, ToSmolStr};
use uuid::Uuid;

/// The `id` of an event: a UUIDv7 when trunkline makes it, any string when others do.
///
/// Text that is a UUID in its canonical lower-case form is kept as 16 bytes and prints as it came in.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "SmolStr", into = "SmolStr")]
pub struct EventId(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Uuid(Uuid),
    Text(SmolStr),
}

impl EventId {
    /// A new UUIDv7: ids made by one process increase.
    #[must_use]
    pub fn generate() -> Self {
        Self(Repr::Uuid(Uuid::now_v7()))
    }

    pub(crate) const fn empty() -> Self {
        Self(Repr::Text(SmolStr::new_static("")))
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(&self.0, Repr::Text(text) if text.is_empty())
    }

    /// The id as a UUID, when it is one.
    #[must_use]
    pub fn as_uuid(&self) -> Option<Uuid> {
        match &self.0 {
            Repr::Uuid(uuid) => Some(*uuid),
            Repr::Text(_) => None,
        }
    }
}

impl From<Uuid> for EventId {
    fn from(uuid: Uuid) -> Self {
        Self(Repr::Uuid(uuid))
    }
}

impl From<SmolStr> for EventId {
    fn from(text: SmolStr) -> Self {
        Self(canonical(&text).map_or(Repr::Text(text), Repr::Uuid))
    }
}

impl From<&str> for EventId {
    fn from(text: &str) -> Self {
        Self(canonical(text).map_or_else(|| Repr::Text(SmolStr::new(text)), Repr::Uuid))
    }
}

/// The UUID that prints as just this text.
fn canonical(text: &str) -> Option<Uuid> {
    let is_canonical = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    if is_canonical { Uuid::try_parse(text).ok() } else { None }
}

impl From<String> for EventId {
    fn from(text: String) -> Self {
        Self::from(SmolStr::from(text))
    }
}

impl From<EventId> for SmolStr {
    fn from(id: EventId) -> Self {
        match id.0 {
            Repr::Uuid(uuid) => uuid.to_smolstr(),
            Repr::Text(text) => text,
        }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Uuid(uuid) => fmt::Display::fmt(uuid, f),
            Repr::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What makes an event the same event: (tenant, source, id), where a missing tenant is empty.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Identity {
    /// The `tenantid` attribute, empty when absent.
    pub tenant: SmolStr,
    /// The `source` attribute.
    pub source: SmolStr,
    /// The `id` attribute.
    pub id: EventId,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.id, self.source)?;
        if self.tenant.is_empty() { Ok(()) } else { write!(f, " of tenant {}", self.tenant) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_exactly_as_it_came_in() {
        for text in [
            "8a316501-e7df-5a55-bdfa-64d1c8570655",
            "8A316501-E7DF-5A55-BDFA-64D1C8570655",
            "8a316501e7df5a55bdfa64d1c8570655",
            "{8a316501-e7df-5a55-bdfa-64d1c857065}",
            "order 17",
        ] {
            assert_eq!(EventId::from(text).to_string(), text);
        }
    }

    #[test]
    fn an_id_takes_no_more_room_than_its_text() {
        assert_eq!(size_of::<EventId>(), size_of::<SmolStr>());
    }
}
