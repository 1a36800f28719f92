//! What is written where: data to standard output, the rest to standard error.

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal, Write};

use crate::exit::Exit;

/// The longest text from outside that is repeated in a message, in characters.
const LONGEST_QUOTE: usize = 400;

/// Whether a stream is to be coloured: it is a terminal, and nobody asked for no colours.
pub(crate) fn coloured(stream: &impl IsTerminal) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    stream.is_terminal() && !refused && !dumb
}

/// Paints text, where the stream takes colours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint(bool);

impl Paint {
    /// Paints only if `coloured`.
    pub(crate) fn new(coloured: bool) -> Self {
        Self(coloured)
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Writes a line to standard error.
pub(crate) fn complain(line: &str) {
    // When nobody reads standard error there is no other place to say so.
    drop(writeln!(io::stderr(), "{line}"));
}

/// Writes data to standard output, and gives `exit` unless that fails.
///
/// A reader that has seen enough and went away, such as `head`, is no failure.
pub(crate) fn write_out(out: &mut impl Write, data: &[u8], exit: Exit) -> Exit {
    match out.write_all(data).and_then(|()| out.flush()) {
        Ok(()) => exit,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit,
        Err(error) => {
            complain(&format!("error: cannot write to standard output: {error}"));
            Exit::Failed
        }
    }
}

/// An error with its causes, on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Text that may come from outside, cut to a readable length and without control characters, which a
/// terminal would obey.
pub(crate) fn harmless(text: &str) -> String {
    let mut shown = String::new();
    for (at, character) in text.chars().enumerate() {
        if at == LONGEST_QUOTE {
            shown.push('…');
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert!(harmless(&"x".repeat(10_000)).chars().count() <= LONGEST_QUOTE + 1);
    }

    #[test]
    fn paint_is_left_out_where_it_is_not_wanted() {
        assert_eq!(Paint::new(false).bad("no"), "no");
        assert_eq!(Paint::new(true).bold("yes"), "\u{1b}[1myes\u{1b}[0m");
    }
}
