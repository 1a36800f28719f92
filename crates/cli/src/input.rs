//! Where the events of a run come from: a file, standard input, or the program itself.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _};
use std::path::Path;
use std::thread;

use tokio::sync::mpsc;
use trunkline::{Event, cloudevents};

use crate::lines::{Lines, Text};
use crate::terminal::{Chain, harmless};

/// Events that are read ahead of the publisher: enough that reading and publishing overlap, and few
/// because each may be as large as an event may be.
const READ_AHEAD: usize = 16;

/// Where the events of a run come from.
pub(crate) struct Source {
    /// What people call it, such as `events.ndjson`.
    pub(crate) name: String,
    /// How many events there are, where that is known before they are read.
    pub(crate) total: Option<u64>,
    events: Events,
}

enum Events {
    Made(Vec<Event>),
    Lines(Box<dyn BufRead + Send>),
}

/// What the source has next.
pub(crate) enum Item {
    /// An event and the number of its line.
    Event {
        /// The line, from 1.
        line: u64,
        /// The event.
        event: Event,
    },
    /// A line that is no event.
    Invalid {
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The source cannot be read further.
    Broken(io::Error),
}

impl Source {
    /// Events that the program has made itself.
    pub(crate) fn made(name: impl Into<String>, events: Vec<Event>) -> Self {
        let total = Some(events.len() as u64);
        Self { name: name.into(), total, events: Events::Made(events) }
    }

    /// Opens the file, or standard input for `-`.
    ///
    /// # Errors
    /// When the file cannot be read; the text names it.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        if path == Path::new("-") {
            let reader = Box::new(BufReader::new(io::stdin()));
            let name = "standard input".to_owned();
            return Ok(Self { name, total: None, events: Events::Lines(reader) });
        }
        let name = harmless(&path.to_string_lossy());
        let refuse = |error| format!("cannot read the input {name}: {error}");
        let file = File::open(path).map_err(refuse)?;
        let metadata = file.metadata().map_err(refuse)?;
        if metadata.is_dir() {
            return Err(refuse(io::ErrorKind::IsADirectory.into()));
        }
        // Only a progress bar has a use for the number; a pipe can be read only once.
        let countable = metadata.is_file() && io::stderr().is_terminal();
        let total = countable.then(|| count_lines(path)).transpose().map_err(refuse)?;
        Ok(Self { name, total, events: Events::Lines(Box::new(BufReader::new(file))) })
    }

    /// Whether the program has made the events itself.
    pub(crate) fn is_made(&self) -> bool {
        matches!(self.events, Events::Made(_))
    }

    /// Reads on a thread of its own: a read from a terminal or a pipe cannot be called off, and must
    /// not hold up the end of the program.
    pub(crate) fn start(self, max_event_bytes: usize) -> io::Result<mpsc::Receiver<Item>> {
        let (items, receiver) = mpsc::channel(READ_AHEAD);
        let reading = move || match self.events {
            Events::Made(events) => send_events(events, &items),
            Events::Lines(reader) => read_lines(reader, max_event_bytes, &items),
        };
        thread::Builder::new().name("input".to_owned()).spawn(reading)?;
        Ok(receiver)
    }
}

/// The number of lines, the last with or without an end.
fn count_lines(path: &Path) -> io::Result<u64> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut lines = 0;
    while reader.skip_until(b'\n')? > 0 {
        lines += 1;
    }
    Ok(lines)
}

/// Sends until there is no more, or until nobody takes more.
fn send_events(events: Vec<Event>, items: &mpsc::Sender<Item>) {
    for (event, line) in events.into_iter().zip(1..) {
        if items.blocking_send(Item::Event { line, event }).is_err() {
            return;
        }
    }
}

fn read_lines(reader: impl BufRead, max_event_bytes: usize, items: &mpsc::Sender<Item>) {
    let mut lines = Lines::new(reader, longest_line(max_event_bytes));
    loop {
        let item = match lines.next() {
            Ok(None) => return,
            Ok(Some(line)) => match read_event(line.number, line.text, max_event_bytes) {
                Some(item) => item,
                None => continue,
            },
            Err(error) => Item::Broken(error),
        };
        let broken = matches!(item, Item::Broken(_));
        if items.blocking_send(item).is_err() || broken {
            return;
        }
    }
}

/// The longest line that can hold an event: JSON may write a byte of text in six, `\u0000`, and the
/// attributes need room too.
fn longest_line(max_event_bytes: usize) -> u64 {
    const ATTRIBUTES: u64 = 1 << 20;
    (max_event_bytes as u64).saturating_mul(6).saturating_add(ATTRIBUTES)
}

/// The event of a line; a blank line has none.
fn read_event(line: u64, text: Text, max_event_bytes: usize) -> Option<Item> {
    let text = match text {
        Text::Whole(text) => text,
        Text::TooLong => {
            let longest = longest_line(max_event_bytes);
            let reason = format!(
                "the line has more than {longest} bytes, and an event's data at most \
                 {max_event_bytes} (bus.max_event_bytes): store the data elsewhere and publish a \
                 reference"
            );
            return Some(Item::Invalid { line, reason });
        }
    };
    let text = without_byte_order_mark(line, &text).trim_ascii();
    if text.is_empty() {
        return None;
    }
    Some(match cloudevents::from_json(text, None) {
        Ok(event) => Item::Event { line, event },
        Err(error) => {
            // The parser counts lines too, and always finds itself on the first.
            let reason = Chain(&error).to_string().replace(" at line 1 column ", " at column ");
            Item::Invalid { line, reason }
        }
    })
}

/// Some editors begin a file with a mark that is no part of its text.
fn without_byte_order_mark(line: u64, text: &[u8]) -> &[u8] {
    match text.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) if line == 1 => rest,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &[u8]) -> String {
        match read_event(7, Text::Whole(text.to_vec()), 100) {
            Some(Item::Invalid { line: 7, reason }) => reason,
            _ => panic!("{:?} is no invalid line 7", String::from_utf8_lossy(text)),
        }
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said_without_a_second_line_number() {
        assert!(reason(b"{\"id\":}").contains("at column 7"), "{}", reason(b"{\"id\":}"));
        assert!(reason(b"\xff").contains("UTF-8"), "{}", reason(b"\xff"));
        let reason = reason(br#"{"specversion":"1.0","id":"1","type":"t"}"#);
        assert!(reason.contains("`source`, `topic`"), "{reason}");
    }

    #[test]
    fn a_blank_line_is_nothing_and_a_byte_order_mark_no_part_of_the_first() {
        assert!(read_event(1, Text::Whole(b" \t".to_vec()), 100).is_none());
        let line = b"\xef\xbb\xbf{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\"topic\":\"a\"}";
        let read = read_event(1, Text::Whole(line.to_vec()), 100);
        assert!(matches!(read, Some(Item::Event { line: 1, .. })));
        let read = read_event(2, Text::Whole(line.to_vec()), 100);
        assert!(matches!(read, Some(Item::Invalid { .. })));
    }
}
