//! Reading the store back: every stream of the run, and the whole from where the run began.

use std::collections::HashSet;
use std::sync::Arc;

use serde::de::IgnoredAny;
use trunkline::{Codec, Event, EventStore, Position, ReadAll, ReadStream, Recorded, Result};

use super::ledger::Ledger;
use super::record::{Record, State};
use super::scenario;
use crate::console::Console;
use crate::terminal::{Chain, harmless};

/// Events read at a time: few, because each may be as large as an event may be.
const PAGE: usize = 100;

/// Distinct events of the run that the store gave back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ReadBack {
    /// Found in their streams.
    pub(super) stored: u64,
    /// Replayed in global order from where the run began, and decoded.
    pub(super) replayed: u64,
}

/// What to read back, and what it is compared with.
pub(super) struct Reader<'a> {
    pub(super) store: &'a dyn EventStore,
    pub(super) ledger: &'a Ledger,
    pub(super) console: &'a Console,
    /// Whether the events are the scenario's typed ones.
    pub(super) typed: bool,
    /// The head of the store before the first publish.
    pub(super) began_at: Position,
}

impl Reader<'_> {
    /// Reads the streams, and then replays.
    ///
    /// # Errors
    /// What the store says.
    pub(super) async fn read(&self, streams: &HashSet<String>) -> Result<ReadBack> {
        let (mut stored, mut oldest) = (0, None);
        for stream in streams {
            stored += self.find_in(stream, &mut oldest).await?;
        }
        // A store that outlives runs may have events of an earlier run with the same input: they
        // were appended then and not again, so the replay has to begin before them.
        let from = match oldest {
            Some(oldest) if oldest <= self.began_at => Position::START,
            _ => self.began_at,
        };
        Ok(ReadBack { stored, replayed: self.replay(from).await? })
    }

    /// Counts the events of this run in a stream, and notes the first place of one.
    async fn find_in(&self, stream: &str, oldest: &mut Option<Position>) -> Result<u64> {
        let mut stored = 0;
        let mut read = ReadStream::forward_from(1).with_limit(PAGE);
        loop {
            let page = self.store.read_stream(stream, &read).await?;
            for recorded in page.iter().filter(|recorded| self.find(recorded).is_some()) {
                let earlier = oldest.map_or(recorded.position, |o| o.min(recorded.position));
                *oldest = Some(earlier);
                stored += u64::from(self.note(recorded, |state| &mut state.stored));
            }
            let Some(last) = page.last() else { return Ok(stored) };
            read.from = Some(last.version + 1);
        }
    }

    async fn replay(&self, from: Position) -> Result<u64> {
        let mut replayed = 0;
        let mut read = ReadAll::after(from).with_limit(PAGE);
        loop {
            let page = self.store.read_all(&read).await?;
            for recorded in page.events.iter().filter(|recorded| self.find(recorded).is_some()) {
                match self.decode(&recorded.event) {
                    Ok(()) => {
                        replayed += u64::from(self.note(recorded, |state| &mut state.replayed));
                    }
                    Err(error) => {
                        let identity = recorded.event.attributes().identity();
                        let text =
                            format!("not decoded: the stored event {identity}: {}", Chain(&error));
                        self.console.say(&harmless(&text));
                    }
                }
            }
            read.after = page.next;
            if page.caught_up {
                return Ok(replayed);
            }
        }
    }

    fn find(&self, recorded: &Recorded) -> Option<Arc<Record>> {
        self.ledger.published(&recorded.event.attributes().identity())
    }

    /// Sets a mark of an event of this run; whether that is news.
    fn note(&self, recorded: &Recorded, mark: impl FnOnce(&mut State) -> &mut bool) -> bool {
        let Some(record) = self.find(recorded) else { return false };
        !std::mem::replace(mark(&mut record.state()), true)
    }

    /// Decodes the data as its type, or else as what its content type says.
    fn decode(&self, event: &Event) -> Result<()> {
        let typed = scenario::decoding(event.attributes().event_type()).filter(|_| self.typed);
        if let Some(decode) = typed {
            return decode(event);
        }
        let data = event.data()?;
        let (codec, bytes) = (Codec::for_content_type(data.content_type.as_deref()), data.bytes);
        match bytes {
            // Raw bytes are what they are, and no data needs no decoding.
            Some(bytes) if codec != Codec::Raw => codec.decode::<IgnoredAny>(&bytes).map(drop),
            _ => Ok(()),
        }
    }
}
