//! Typed readers over the tree: they know the key's path and place, and note what is wrong.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::nearest::nearest;
use super::problem::{Location, Problems};
use super::tree::{Entry, Node, Table, Value, key_text};
use super::url::{Url, redacted};

/// A table that is being read: it remembers which keys were asked for, and the rest is unknown.
pub(super) struct Section<'t> {
    path: String,
    at: Location,
    table: &'t Table,
    known: Vec<&'static str>,
    foreign: Vec<&'static str>,
    problems: &'t Problems,
}

/// One value that is being read.
#[derive(Clone)]
pub(super) struct Item<'t> {
    pub(super) path: String,
    pub(super) key: &'t str,
    key_at: &'t Location,
    node: &'t Node,
    problems: &'t Problems,
}

/// A word of the grammar and what it stands for; `None` for what this version does not do.
pub(super) type Choice<T> = (&'static str, Option<T>);

impl<'t> Section<'t> {
    pub(super) fn root(table: &'t Table, at: Location, problems: &'t Problems) -> Self {
        Self { path: String::new(), at, table, known: Vec::new(), foreign: Vec::new(), problems }
    }

    /// The value of `key`, which thereby is a known one.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Item<'t>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table.get(key).map(|entry| self.item(entry))
    }

    /// Every entry of a table whose keys are names that people choose.
    pub(super) fn entries(&self) -> impl Iterator<Item = Item<'t>> {
        self.table.entries.iter().map(|entry| self.item(entry))
    }

    fn item(&self, entry: &'t Entry) -> Item<'t> {
        Item {
            path: self.path_of(&entry.key),
            key: &entry.key,
            key_at: &entry.key_at,
            node: &entry.node,
            problems: self.problems,
        }
    }

    fn path_of(&self, key: &str) -> String {
        let key = key_text(key);
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn section(&mut self, key: &'static str) -> Option<Section<'t>> {
        self.get(key)?.section()
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<&'t str> {
        self.get(key)?.text()
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        self.get(key)?.boolean()
    }

    /// A whole number of at least `least`.
    pub(super) fn number<T: Number>(&mut self, key: &'static str, least: u32) -> Option<T> {
        self.get(key)?.number(i128::from(least)..=T::MOST)
    }

    /// A time in whole milliseconds, at least one.
    pub(super) fn millis(&mut self, key: &'static str) -> Option<Duration> {
        // A day is longer than any sensible wait, and short of every timer's overflow.
        const DAY: i128 = 24 * 60 * 60 * 1000;
        self.get(key)?.number(1..=DAY).map(Duration::from_millis)
    }

    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        what: &str,
        choices: &[Choice<T>],
    ) -> Option<T> {
        self.get(key)?.choice(what, choices)
    }

    /// A value with a grammar of its own, such as a pattern.
    pub(super) fn parse<T: FromStr<Err: fmt::Display>>(&mut self, key: &'static str) -> Option<T> {
        self.get(key)?.parse()
    }

    /// A list of names that follow no rule of ours, such as event types.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let items = self.get(key)?.items()?;
        Some(items.iter().filter_map(Item::text).map(str::to_owned).collect())
    }

    /// Notes that what is given under one of `keys` belongs elsewhere.
    pub(super) fn foreign(&mut self, keys: &[&'static str], why: &str) {
        for entry in &self.table.entries {
            if keys.contains(&entry.key.as_str()) {
                self.item(entry).wrong(why);
            }
        }
        self.foreign.extend(keys);
    }

    /// Notes what is wrong with a key in the light of others: at its value, or at the section when
    /// the value is a default.
    pub(super) fn wrong(&self, key: &str, message: &str) {
        match self.table.get(key) {
            Some(entry) => self.item(entry).wrong(message),
            None => self.missing(key, message),
        }
    }

    /// Notes that a needed key is absent, at the place of the section.
    pub(super) fn missing(&self, key: &str, message: &str) {
        self.problems.add(self.path_of(key), &self.at, message);
    }

    /// Notes every key that nobody asked for.
    pub(super) fn finish(self) {
        let taken = |key: &str| self.known.contains(&key) || self.foreign.contains(&key);
        for item in self.entries().filter(|item| !taken(item.key)) {
            item.unknown(&self.known);
        }
    }
}

/// The numbers that a configuration holds.
pub(super) trait Number: TryFrom<i128> {
    const MOST: i128;
}

impl Number for u16 {
    const MOST: i128 = Self::MAX as i128;
}

impl Number for u32 {
    const MOST: i128 = Self::MAX as i128;
}

impl Number for usize {
    // What TOML guarantees to carry, and what a position fits on every platform of 64 bits.
    const MOST: i128 = if Self::BITS < 64 { Self::MAX as i128 } else { i64::MAX as i128 };
}

impl Number for u64 {
    const MOST: i128 = i64::MAX as i128;
}

impl<'t> Item<'t> {
    /// Notes what is wrong with the value.
    pub(super) fn wrong(&self, message: impl Into<String>) {
        self.problems.add(self.path.clone(), &self.node.at, message);
    }

    /// Notes that the key is no known one, and which one it may have meant.
    pub(super) fn unknown(&self, known: &[&'static str]) {
        let guess = nearest(self.key, known.iter().copied());
        let guess = guess.map(|key| format!("did you mean `{key}`? ")).unwrap_or_default();
        let message = format!("unknown key; {guess}known keys: {}", words(known));
        self.problems.add(self.path.clone(), self.key_at, message);
    }

    fn expected(&self, what: &str) {
        let found = self.node.value.shape();
        let hint = match (&self.node.at, &self.node.value) {
            (Location::Variable { .. }, Value::Text(_)) => {
                "; a variable holds a TOML value, and what is none is a string"
            }
            (Location::Variable { .. }, _) if what == "a string" => {
                "; quote the value inside the variable to make it a string"
            }
            _ => "",
        };
        self.wrong(format!("expected {what}, found {found}{hint}"));
    }

    pub(super) fn section(&self) -> Option<Section<'t>> {
        let Value::Table(table) = &self.node.value else {
            self.expected("a table");
            return None;
        };
        Some(Section {
            path: self.path.clone(),
            at: self.key_at.clone(),
            table,
            known: Vec::new(),
            foreign: Vec::new(),
            problems: self.problems,
        })
    }

    /// The elements of a list, each with its number in the path.
    pub(super) fn items(&self) -> Option<Vec<Item<'t>>> {
        let Value::List(nodes) = &self.node.value else {
            self.expected("an array");
            return None;
        };
        let item = |(index, node): (usize, &'t Node)| Item {
            path: format!("{}[{index}]", self.path),
            key: self.key,
            key_at: &node.at,
            node,
            problems: self.problems,
        };
        Some(nodes.iter().enumerate().map(item).collect())
    }

    /// Text that says something.
    pub(super) fn text(&self) -> Option<&'t str> {
        let Value::Text(text) = &self.node.value else {
            self.expected("a string");
            return None;
        };
        if text.is_empty() || text.chars().any(char::is_control) {
            self.wrong("is empty or holds a control character");
            return None;
        }
        Some(text)
    }

    /// Whether the value came from the environment.
    pub(super) fn is_variable(&self) -> bool {
        matches!(self.node.at, Location::Variable { .. })
    }

    /// Whether the value is this very text.
    pub(super) fn is_text(&self, word: &str) -> bool {
        matches!(&self.node.value, Value::Text(text) if text == word)
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        let Value::Boolean(boolean) = &self.node.value else {
            self.expected("a boolean");
            return None;
        };
        Some(*boolean)
    }

    pub(super) fn number<T: TryFrom<i128>>(&self, range: RangeInclusive<i128>) -> Option<T> {
        let Value::Integer(number) = &self.node.value else {
            self.expected("an integer");
            return None;
        };
        if number < range.start() {
            self.wrong(format!("must be at least {}", range.start()));
            return None;
        }
        let fitting = T::try_from(*number).ok().filter(|_| range.contains(number));
        if fitting.is_none() {
            self.wrong(format!("must be at most {}", range.end()));
        }
        fitting
    }

    /// The value in the shape that it was written in.
    pub(super) fn value(&self) -> &'t Value {
        &self.node.value
    }

    pub(super) fn parse<T: FromStr<Err: fmt::Display>>(&self) -> Option<T> {
        // The redacted text, because the error quotes it. Only a text with `:` or `?` is changed by
        // redaction, and no name, pattern or word of ours may hold either.
        let parsed = redacted(self.text()?).parse();
        parsed.map_err(|error: T::Err| self.wrong(error.to_string())).ok()
    }

    /// The key itself, where people choose it, as a value with a grammar of its own.
    pub(super) fn parse_key<T: FromStr<Err: fmt::Display>>(&self) -> Option<T> {
        self.key.parse().map_err(|error: T::Err| self.wrong(error.to_string())).ok()
    }

    pub(super) fn url(&self, schemes: &[&'static str]) -> Option<Url> {
        let url = Url::new(self.text()?).map_err(|error| self.wrong(error.to_string())).ok()?;
        if schemes.contains(&url.scheme()) {
            return Some(url);
        }
        let found = url.scheme();
        self.wrong(format!("the URL begins with `{found}:`, expected {}", words(schemes)));
        None
    }

    /// One word of a few; `what` says of what kind.
    pub(super) fn choice<T: Copy>(&self, what: &str, choices: &[Choice<T>]) -> Option<T> {
        let text = self.text()?;
        let found = choices.iter().find(|(word, _)| *word == text);
        if let Some((_, Some(value))) = found {
            return Some(*value);
        }
        let available = choices.iter().filter(|(_, is)| is.is_some());
        let available = available.map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        self.wrong(match found {
            Some(_) => {
                format!("{what} `{text}` is not available in this version; available: {available}")
            }
            None => format!("expected one of {available}; found `{}`", redacted(text)),
        });
        None
    }
}

/// Words as a sentence lists them.
fn words(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}
