//! Partitions that go, and what their next owner is told.

use super::Desk;
use crate::note::Note;
use crate::part::{Commit, Part};
use crate::track::Track;

impl Desk {
    /// Stops handing out of these partitions.
    pub(crate) fn begin_revoke(&mut self, places: &[(u32, i32)]) -> Vec<u32> {
        let ids: Vec<u32> =
            places.iter().filter_map(|place| self.by_place.get(place).copied()).collect();
        for id in &ids {
            self.queue.forget(*id);
            if let Some(part) = self.parts.get_mut(id) {
                part.is_revoking = true;
            }
        }
        ids
    }

    /// How many deliveries of these partitions are out.
    pub(crate) fn out_of(&self, ids: &[u32]) -> u64 {
        ids.iter().filter_map(|id| self.parts.get(id)).map(|part| part.out).sum()
    }

    /// Lets these partitions go, and gives what is to be committed of them. What is still out of them
    /// is fenced from now on.
    pub(crate) fn end_revoke(&mut self, ids: &[u32]) -> Vec<Commit> {
        let commits = ids.iter().filter_map(|id| self.commit_of(*id)).collect();
        ids.iter().for_each(|id| self.remove(*id));
        commits
    }

    pub(super) fn remove(&mut self, id: u32) {
        let Some(part) = self.parts.remove(&id) else { return };
        self.queue.forget(id);
        let place = (part.source.id, part.partition);
        if self.by_place.get(&place) == Some(&id) {
            self.by_place.remove(&place);
        }
        if self.mutations.no_fence {
            self.gone.insert(id, (part.source.name.clone(), part.partition));
        } else {
            self.out.retain(|_, out| out.part != id);
        }
    }

    fn commit_of(&self, id: u32) -> Option<Commit> {
        let part = self.parts.get(&id)?;
        let mark = if self.mutations.commit_highest {
            part.track.highest() + 1
        } else {
            part.track.mark()
        };
        // Nothing was read yet of a partition whose beginning is not known.
        if mark < 0 {
            return None;
        }
        let note =
            if self.mutations.commit_highest { Note::default() } else { part.track.note(part.out) };
        let (name, partition) = (part.source.name.clone(), part.partition);
        Some(Commit { name, partition, mark, note: note.to_text(mark) })
    }

    /// Where every partition stands.
    pub(crate) fn all(&self) -> Vec<Commit> {
        self.parts.keys().filter_map(|id| self.commit_of(*id)).collect()
    }

    /// What has changed since the last time.
    pub(crate) fn changes(&mut self) -> Vec<Commit> {
        self.uncommitted = 0;
        let dirty = self.parts.iter_mut().filter(|(_, part)| part.is_dirty);
        let ids: Vec<u32> = dirty
            .map(|(id, part)| {
                part.is_dirty = false;
                *id
            })
            .collect();
        ids.into_iter().filter_map(|id| self.commit_of(id)).collect()
    }

    /// A commit has failed: it is made again with the next.
    pub(crate) fn mark_dirty(&mut self, name: &str, partition: i32) {
        let mut parts = self.parts.values_mut();
        let of = |part: &&mut Part| part.partition == partition && part.source.name == name;
        if let Some(part) = parts.find(of) {
            part.is_dirty = true;
        }
    }

    /// Remembers what could not be committed.
    pub(crate) fn keep_lost(&mut self, commits: Vec<Commit>) {
        for commit in commits {
            let note = Note::read(commit.mark, &commit.note);
            self.lost.insert((commit.name, commit.partition), (commit.mark, note));
        }
    }

    /// Where a partition begins whose group has committed `mark` and `note`.
    pub(crate) fn begin(&mut self, name: &str, partition: i32, mark: i64, note: Note) -> Track {
        match self.lost.remove(&(name.to_owned(), partition)) {
            Some((known, kept)) if known >= mark => Track::new(known, note.merge(kept, known)),
            Some((_, kept)) => Track::new(mark, note.merge(kept, mark)),
            None => Track::new(mark, note),
        }
    }
}
