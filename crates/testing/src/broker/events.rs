//! Events that are told apart by a number.

use std::ops::Range;

use smol_str::{SmolStr, format_smolstr};
use trunkline_core::{Data, Event, Topic};

use crate::failure::Failure;

/// An event whose data is `number`, perhaps with a key.
pub(crate) fn numbered(topic: &Topic, key: Option<&str>, number: u64) -> Result<Event, Failure> {
    let draft = Event::from_data("Numbered", topic.clone(), Data::json(number.to_string()));
    let draft = match key {
        Some(key) => draft.key(SmolStr::new(key)),
        None => draft,
    };
    Ok(draft.build()?)
}

/// The number of an event.
pub(crate) fn number(event: &Event) -> Result<u64, Failure> {
    let data = event.data()?;
    let text = std::str::from_utf8(data.as_slice()).ok();
    let number = text.and_then(|text| text.parse().ok());
    number.ok_or_else(|| Failure::new(format!("the data of {event:?} is no number")))
}

/// Events without a key.
pub(crate) fn keyless(topic: &Topic, numbers: Range<u64>) -> Result<Vec<Event>, Failure> {
    numbers.map(|at| numbered(topic, None, at)).collect()
}

/// Events of one key.
pub(crate) fn keyed(topic: &Topic, key: &str, numbers: Range<u64>) -> Result<Vec<Event>, Failure> {
    numbers.map(|at| numbered(topic, Some(key), at)).collect()
}

/// Events of `keys` keys in turn: number n has the key `key-<n modulo keys>`.
pub(crate) fn spread(topic: &Topic, keys: u64, numbers: Range<u64>) -> Result<Vec<Event>, Failure> {
    let of = |at: u64| numbered(topic, Some(&format_smolstr!("key-{}", at % keys)), at);
    numbers.map(of).collect()
}
