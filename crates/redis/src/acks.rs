//! Acknowledgements: gathered, and sent many at a time.

use std::collections::BTreeMap;

use redis::{Cmd, Pipeline};
use trunkline_core::Result;

use crate::book::Book;
use crate::codec::write_id;
use crate::consume::Partition;
use crate::entry::{Acks, PartitionId, Place};
use crate::member::{IDS, Member};
use crate::mutant::Mutant;
use crate::settle::state_field;

impl Member {
    /// Whether it is time to acknowledge: what is gathered while one command is under way goes with the
    /// next.
    pub(crate) fn has_enough_acks(&self) -> bool {
        let least = if self.shared.config.breaks(Mutant::NoFlush) { 64 } else { 1 };
        self.desk.update(|book| book.ack_count() >= least)
    }

    /// What is to be acknowledged now.
    pub(crate) fn take_enough_acks(&self) -> Acks {
        let mut acks = self.desk.update(Book::take_acks);
        if self.shared.config.breaks(Mutant::NoFlush)
            && let Some(last) = acks.places.pop()
        {
            // Whatever the number of events, there is always something that is thrown away.
            self.desk
                .update(|book| book.return_acks(Acks { places: vec![last], noted: Vec::new() }));
        }
        acks
    }

    /// Adds the commands that acknowledge; returns how many.
    pub(crate) fn add_acks(&self, pipe: &mut Pipeline, acks: &Acks) -> usize {
        let before = pipe.len();
        let mut by_partition: BTreeMap<PartitionId, Vec<Place>> = BTreeMap::new();
        for place in &acks.places {
            by_partition.entry(place.partition).or_default().push(*place);
        }
        for (id, places) in by_partition {
            let Some(owned) = self.owned.get(&id) else { continue };
            self.acknowledge(pipe, &owned.partition, &places, &acks.noted);
        }
        pipe.len() - before
    }

    fn acknowledge(
        &self,
        pipe: &mut Pipeline,
        partition: &Partition,
        places: &[Place],
        noted: &[Place],
    ) {
        let companions = &partition.companions;
        let (retried, own): (Vec<Place>, Vec<Place>) =
            places.iter().copied().partition(|place| place.is_retry);
        for (stream, places) in [(partition.stream.as_str(), own), (&companions.retry, retried)] {
            for chunk in places.chunks(IDS) {
                pipe.add_command(of_ids("XACK", stream, Some(self.group.as_str()), chunk));
                // The stream of retries is this group's alone.
                if chunk[0].is_retry {
                    pipe.add_command(of_ids("XDEL", stream, None, chunk));
                }
            }
        }
        let mut noted = noted.iter().filter(|place| places.contains(place)).peekable();
        if noted.peek().is_some() {
            pipe.cmd("HDEL").arg(&companions.state);
            for place in noted {
                pipe.arg(state_field(*place));
            }
        }
    }

    pub(crate) async fn flush_acks(&mut self) -> Result<()> {
        let acks = self.desk.update(Book::take_acks);
        self.transact(acks, &[], 0).await
    }
}

fn of_ids(name: &str, stream: &str, group: Option<&str>, places: &[Place]) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(stream).arg(group);
    places.iter().for_each(|place| write_id(&mut command, place.id));
    command
}
