//! The lines of an input, read with a bounded buffer.

use std::io::{self, BufRead, Read as _};

/// Reads lines of which none takes more memory than its limit, however long it is.
pub(crate) struct Lines<R> {
    reader: R,
    number: u64,
    longest: u64,
}

/// One line of an input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Its number, from 1.
    pub(crate) number: u64,
    /// Its text without the line end.
    pub(crate) text: Text,
}

/// What a line holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// The bytes, which may be anything.
    Whole(Vec<u8>),
    /// More bytes than the limit; they were skipped.
    TooLong,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `reader`, each at most `longest` bytes.
    pub(crate) fn new(reader: R, longest: u64) -> Self {
        Self { reader, number: 0, longest }
    }

    /// The next line; the last one needs no line end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line>> {
        let mut text = Vec::new();
        // Room for the longest line and its line end, `\r\n`.
        let mut start = self.reader.by_ref().take(self.longest.saturating_add(2));
        if start.read_until(b'\n', &mut text)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        if text.last() != Some(&b'\n') {
            self.reader.skip_until(b'\n')?;
        }
        for end in [b'\n', b'\r'] {
            if text.last() == Some(&end) {
                text.pop();
            }
        }
        let fits = text.len() as u64 <= self.longest;
        let text = if fits { Text::Whole(text) } else { Text::TooLong };
        Ok(Some(Line { number: self.number, text }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8], longest: u64) -> Vec<Text> {
        // A small buffer, so that lines span several reads.
        let mut lines = Lines::new(io::BufReader::with_capacity(3, input), longest);
        let mut all = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            all.push(line.text);
            assert_eq!(line.number, all.len() as u64);
        }
        all
    }

    fn whole(text: &str) -> Text {
        Text::Whole(text.as_bytes().to_vec())
    }

    #[test]
    fn lines_end_with_or_without_a_carriage_return_and_the_last_needs_no_end() {
        let all = lines(b"one\r\n\ntwo\nthree", 100);
        assert_eq!(all, [whole("one"), whole(""), whole("two"), whole("three")]);
        assert_eq!(lines(b"", 100), []);
    }

    #[test]
    fn a_line_at_the_limit_is_whole_and_a_longer_one_is_skipped() {
        let input = b"12345\r\n123456\n1234567890123\n123\n1234567";
        let all = lines(input, 5);
        let skipped: Vec<_> = all.iter().map(|text| *text == Text::TooLong).collect();
        assert_eq!(skipped, [false, true, true, false, true]);
        assert_eq!(all[3], whole("123"));
    }
}
