//! Where an event stands on the server, and where a new subscription begins.

use smol_str::SmolStr;
use trunkline_core::{BrokerPosition, Result, StartAt};

use crate::broker::NAME;
use crate::codec::EntryId;

/// The position of an entry: `1763737200000-3/orders`.
pub(crate) fn position_of(id: EntryId, stream: &str) -> BrokerPosition {
    BrokerPosition::new(NAME, format_args!("{id}/{stream}"))
}

/// The ids after which a subscription reads that begins at no edge of its streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Begin {
    /// In every stream but `own`.
    pub(crate) after: EntryId,
    /// In the stream of a position.
    own: Option<(SmolStr, EntryId)>,
}

impl Begin {
    /// None for a start at an edge.
    pub(crate) fn of(start: &StartAt) -> Result<Option<Self>> {
        Ok(match start {
            StartAt::Time(time) => Some(Self { after: before_time(*time), own: None }),
            StartAt::Position(position) => Some(position.read(NAME, Self::parse)?),
            _ => None,
        })
    }

    fn parse(place: &str) -> Option<Self> {
        let (id, stream) = place.split_once('/').filter(|(_, stream)| !stream.is_empty())?;
        let id = EntryId::parse(id.as_bytes())?;
        // Ids of one millisecond in other streams may be smaller and those of later entries.
        let after = before(EntryId { ms: id.ms, seq: 0 });
        Some(Self { after, own: Some((SmolStr::new(stream), before(id))) })
    }

    pub(crate) fn in_stream(&self, stream: &str) -> EntryId {
        let own = self.own.as_ref().filter(|(name, _)| name == stream);
        own.map_or(self.after, |(_, id)| *id)
    }
}

/// How the start of a group is written down: one id, or also one stream with an id of its own.
pub(crate) fn start_text(start: &StartAt) -> Result<String> {
    Ok(match (start, Begin::of(start)?) {
        (_, Some(Begin { after, own: Some((stream, id)) })) => format!("{after} {id} {stream}"),
        (_, Some(Begin { after, own: None })) => after.to_string(),
        (StartAt::Latest, None) => "$".to_owned(),
        _ => "0".to_owned(),
    })
}

/// The id after which a group reads a stream, by the text of its start.
pub(crate) fn start_in<'a>(text: &'a str, stream: &str) -> &'a str {
    let Some((after, own)) = text.split_once(' ') else { return text };
    match own.split_once(' ') {
        Some((id, name)) if name == stream => id,
        _ => after,
    }
}

/// The last id before an id.
fn before(id: EntryId) -> EntryId {
    match (id.ms, id.seq) {
        (0, 0) => id,
        (ms, 0) => EntryId { ms: ms - 1, seq: u64::MAX },
        (ms, seq) => EntryId { ms, seq: seq - 1 },
    }
}

/// The last id that an entry of before `time` can have.
fn before_time(time: jiff::Timestamp) -> EntryId {
    let ms = u64::try_from(time.as_millisecond()).unwrap_or(0);
    // What the milliseconds cut off belongs to before.
    let is_exact = time.subsec_nanosecond() % 1_000_000 == 0;
    if is_exact { before(EntryId { ms, seq: 0 }) } else { EntryId { ms, seq: u64::MAX } }
}

#[cfg(test)]
mod tests {
    use trunkline_core::ErrorKind;

    use super::*;

    fn id(ms: u64, seq: u64) -> EntryId {
        EntryId { ms, seq }
    }

    #[test]
    fn a_position_begins_with_its_entry_and_elsewhere_with_its_millisecond() {
        let start = StartAt::Position(position_of(id(70, 3), "dev-orders..2"));
        let begin = Begin::of(&start).unwrap().unwrap();
        assert_eq!(begin.in_stream("dev-orders..2"), id(70, 2));
        assert_eq!(begin.in_stream("dev-orders"), id(69, u64::MAX));
        let text = start_text(&start).unwrap();
        assert_eq!(start_in(&text, "dev-orders..2"), "70-2");
        assert_eq!(start_in(&text, "dev-orders"), format!("69-{}", u64::MAX));
    }

    #[test]
    fn other_starts_are_the_same_for_every_stream() {
        let time = jiff::Timestamp::from_millisecond(70).unwrap();
        let starts = [
            (StartAt::Beginning, "0".to_owned()),
            (StartAt::Latest, "$".to_owned()),
            (StartAt::Time(time), format!("69-{}", u64::MAX)),
        ];
        for (start, wanted) in starts {
            assert_eq!(start_in(&start_text(&start).unwrap(), "orders"), wanted);
        }
    }

    #[test]
    fn what_is_no_place_is_invalid() {
        for text in ["70-3", "70-3/", "70/orders", "x-3/orders", "70--3/orders"] {
            let start = StartAt::Position(BrokerPosition::new(NAME, text));
            assert_eq!(start_text(&start).unwrap_err().kind(), ErrorKind::Invalid, "{text}");
        }
    }
}
