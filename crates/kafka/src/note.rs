//! What the metadata of a committed offset says beside the offset: text that a person can read.
//!
//! `done 1 3-5; attempts 0:2; out 4` are offsets after the committed one: those from 1 and from 3 to 5
//! are completed, the committed one itself has had two attempts, and four deliveries are out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

/// The longest text: the broker's `offset.metadata.max.bytes` is 4,096 by default, and a longer one
/// would fail the commit.
const MAX_BYTES: usize = 3_900;

/// What the next owner of a partition has to know beside the committed offset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Note {
    /// Completed offsets above the committed one, ascending and apart from each other.
    pub(crate) done: Vec<Range<i64>>,
    /// Attempts written to events that are not settled.
    pub(crate) attempts: BTreeMap<i64, u32>,
    /// How many deliveries were out.
    pub(crate) out: u64,
}

impl Note {
    /// The text for a commit of `mark`. What does not fit is left out, the last offsets first; those
    /// events may be delivered again after a crash, and none is skipped that should not be.
    pub(crate) fn to_text(&self, mark: i64) -> String {
        let mut text = String::new();
        if self.out > 0 {
            let _infallible = write!(text, "out {}; ", self.out);
        }
        let attempts = self.attempts.iter();
        let attempts = attempts.map(|(at, count)| format!(" {}:{count}", at - mark));
        push(&mut text, "attempts", attempts);
        let ranges = self.done.iter().map(|range| {
            let (first, last) = (range.start - mark, range.end - 1 - mark);
            if first == last { format!(" {first}") } else { format!(" {first}-{last}") }
        });
        push(&mut text, "done", ranges);
        text.truncate(text.trim_end_matches("; ").len());
        text
    }

    /// What either knows of the offsets from `mark` on.
    pub(crate) fn merge(mut self, other: Self, mark: i64) -> Self {
        self.done.extend(other.done);
        self.done.retain(|range| range.end > mark);
        self.done.sort_by_key(|range| range.start);
        let mut merged: Vec<Range<i64>> = Vec::with_capacity(self.done.len());
        for range in self.done {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        self.attempts.retain(|at, _| *at >= mark);
        for (at, count) in other.attempts {
            let known = self.attempts.entry(at).or_default();
            *known = count.max(*known);
        }
        Self { done: merged, ..self }
    }

    /// Reads the text of a commit of `mark`; what is not ours says nothing.
    pub(crate) fn read(mark: i64, text: &str) -> Self {
        let mut note = Self::default();
        for part in text.split("; ") {
            let mut words = part.split(' ');
            match words.next() {
                Some("done") => note.done = words.filter_map(|word| range(mark, word)).collect(),
                Some("attempts") => {
                    note.attempts = words.filter_map(|word| attempts(mark, word)).collect();
                }
                Some("out") => {
                    note.out = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
                }
                _ => {}
            }
        }
        note
    }
}

fn push(text: &mut String, name: &str, words: impl Iterator<Item = String>) {
    let empty = text.len();
    text.push_str(name);
    let start = text.len();
    for word in words {
        if text.len() + word.len() > MAX_BYTES {
            break;
        }
        text.push_str(&word);
    }
    if text.len() == start {
        text.truncate(empty);
    } else {
        text.push_str("; ");
    }
}

fn range(mark: i64, word: &str) -> Option<Range<i64>> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let (first, last) = (first.parse::<i64>().ok()?, last.parse::<i64>().ok()?);
    let range = mark.checked_add(first)?..mark.checked_add(last)?.checked_add(1)?;
    (first > 0 && !range.is_empty()).then_some(range)
}

fn attempts(mark: i64, word: &str) -> Option<(i64, u32)> {
    let (at, count) = word.split_once(':')?;
    Some((mark.checked_add(at.parse().ok()?)?, count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_reads_back_as_it_was_written() {
        let note = Note {
            done: vec![101..102, 103..106],
            attempts: BTreeMap::from([(100, 2), (102, 1)]),
            out: 4,
        };
        let text = note.to_text(100);
        assert_eq!(text, "out 4; attempts 0:2 2:1; done 1 3-5");
        assert_eq!(Note::read(100, &text), note);
        assert_eq!(Note::default().to_text(100), "");
    }

    #[test]
    fn notes_of_one_partition_are_put_together() {
        let one = Note { done: vec![2..4, 8..9], attempts: BTreeMap::from([(5, 1)]), out: 0 };
        let other = Note { done: vec![3..6, 12..13], attempts: BTreeMap::from([(5, 3)]), out: 2 };
        let both = one.clone().merge(other.clone(), 2);
        assert_eq!(both.done, [2..6, 8..9, 12..13]);
        assert_eq!(both.attempts, BTreeMap::from([(5, 3)]));
        // What lies wholly below the mark is settled, and not worth its bytes.
        assert_eq!(one.merge(other, 4).done, [3..6, 8..9, 12..13]);
    }

    #[test]
    fn what_others_wrote_says_nothing() {
        for text in ["", "host-17", "done x 1-; attempts :", "done 0 -3 5-2"] {
            assert_eq!(Note::read(100, text), Note::default(), "{text}");
        }
    }

    #[test]
    fn a_note_that_is_too_long_leaves_out_the_last() {
        let done: Vec<_> = (0..5_000).map(|at| 10 * at + 1..10 * at + 3).collect();
        let note = Note { done, attempts: BTreeMap::from([(0, 1)]), out: 0 };
        let text = note.to_text(0);
        assert!(text.len() <= MAX_BYTES + 2, "{}", text.len());
        let read = Note::read(0, &text);
        assert_eq!(read.attempts, note.attempts);
        assert!(read.done.len() > 300);
        assert_eq!(read.done, note.done[..read.done.len()]);
    }
}
