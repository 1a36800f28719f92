//! Values as they were written, each with the place where it stands.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Location, Problems};

/// A value and where it came from.
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) at: Location,
}

/// The shapes that TOML has.
pub(super) enum Value {
    Text(String),
    Integer(i128),
    Float,
    Boolean(bool),
    Datetime,
    List(Vec<Node>),
    Table(Table),
}

impl Value {
    /// The shape in words, for a sentence about a wrong type.
    pub(super) fn shape(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float => "a float",
            Self::Boolean(_) => "a boolean",
            Self::Datetime => "a date or time",
            Self::List(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

/// Keys and values in the order in which they were written, which decides among channels.
#[derive(Default)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
}

/// One key of a table.
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_at: Location,
    pub(super) node: Node,
}

impl Table {
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

/// Parses a file; every syntax error becomes a problem.
pub(super) fn parse(text: &str, name: &str, problems: &Problems) -> Table {
    let file = File { name: name.into(), text, lines: line_starts(text) };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        // The error's own `Display` quotes the line, which may hold a password.
        let at = file.locate(error.span().unwrap_or(text.len()..text.len()));
        problems.add("", &at, error.message());
    }
    table(document.into_inner(), &|span| file.locate(span))
}

/// Parses the value of a variable: a TOML value, or else a bare word.
pub(super) fn parse_value(text: &str, at: &Location) -> Node {
    match DeValue::parse(text) {
        Ok(value) => node(value, &|_| at.clone()),
        // What TOML does not know is text: `TRUNKLINE__BROKER__URL=redis://host` needs no quotes.
        Err(_) => Node { value: Value::Text(text.to_owned()), at: at.clone() },
    }
}

fn node(value: Spanned<DeValue<'_>>, locate: &dyn Fn(Range<usize>) -> Location) -> Node {
    let at = locate(value.span());
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        // A number beyond 128 bits stays out of every key's range.
        DeValue::Integer(number) => Value::Integer(
            i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX),
        ),
        DeValue::Float(_) => Value::Float,
        DeValue::Boolean(boolean) => Value::Boolean(boolean),
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Array(items) => {
            Value::List(items.into_iter().map(|item| node(item, locate)).collect())
        }
        DeValue::Table(entries) => Value::Table(table(entries, locate)),
    };
    Node { value, at }
}

fn table(entries: DeTable<'_>, locate: &dyn Fn(Range<usize>) -> Location) -> Table {
    let mut entries: Vec<_> = entries.into_iter().collect();
    // The parser sorts by name; the place of the key brings the written order back.
    entries.sort_by_key(|(key, _)| key.span().start);
    let entry = |(key, value): (Spanned<_>, _)| Entry {
        key_at: locate(key.span()),
        key: String::from(key.into_inner()),
        node: node(value, locate),
    };
    Table { entries: entries.into_iter().map(entry).collect() }
}

struct File<'a> {
    name: Arc<str>,
    text: &'a str,
    lines: Vec<usize>,
}

impl File<'_> {
    fn locate(&self, span: Range<usize>) -> Location {
        let (line, column) = place(self.text, &self.lines, span.start);
        Location::Place { file: Arc::clone(&self.name), line, column }
    }
}

/// The byte offsets at which lines start.
fn line_starts(text: &str) -> Vec<usize> {
    let after_newline = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(after_newline).collect()
}

fn place(text: &str, lines: &[usize], offset: usize) -> (usize, usize) {
    let line = lines.partition_point(|start| *start <= offset);
    let start = lines[line - 1];
    let before = text.get(start..offset).unwrap_or_default();
    (line, before.chars().count() + 1)
}

/// The place, from 1, where the text stops being UTF-8 after `valid` bytes.
pub(super) fn place_after(valid: &str) -> (usize, usize) {
    place(valid, &line_starts(valid), valid.len())
}

/// A key as it may stand in a path: quoted where it is more than a bare word.
pub(super) fn key_text(key: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !key.is_empty() && key.bytes().all(bare) { key.to_owned() } else { format!("{key:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_order_and_place_whatever_way_they_are_written() {
        let text = "z.y = 1\na = 2\n[t.s]\nb = 3\n[[l]]\n[t]\nq = { z = 1, a = 2 }\n";
        let problems = Problems::default();
        let root = parse(text, "x.toml", &problems);
        assert!(problems.is_empty());
        let shown: Vec<_> =
            root.entries.iter().map(|e| format!("{} {}", e.key, e.key_at)).collect();
        assert_eq!(shown, ["z x.toml:1:1", "a x.toml:2:1", "l x.toml:5:3", "t x.toml:6:2"]);
    }

    #[test]
    fn a_column_counts_characters_and_not_bytes() {
        let problems = Problems::default();
        let root = parse("\"é\" = \"é\" # x\r\nb = 1\n", "x.toml", &problems);
        assert_eq!(root.entries[0].node.at.to_string(), "x.toml:1:7");
        assert_eq!(root.entries[1].node.at.to_string(), "x.toml:2:5");
    }

    #[test]
    fn a_variable_holds_a_toml_value_or_a_bare_word() {
        let at = Location::Variable { variable: "V".into() };
        for (text, shape) in [
            ("1_000", "an integer"),
            ("true", "a boolean"),
            ("1.5", "a float"),
            ("[\"a\"]", "an array"),
            ("{ a = 1 }", "a table"),
            ("\"1\"", "a string"),
            ("redis://h:1/2", "a string"),
            ("word", "a string"),
            ("", "a string"),
            ("[oops", "a string"),
        ] {
            assert_eq!(parse_value(text, &at).value.shape(), shape, "{text}");
        }
        assert!(matches!(parse_value("1_000", &at).value, Value::Integer(1000)));
    }
}
