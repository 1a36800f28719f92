//! Writes the effective configuration as TOML.

use std::fmt::Display;
use std::time::Duration;

use super::read::Choice;
use super::tree::key_text;

/// Settings on their way to text, defaults and secrets included or hidden by who writes them.
pub(super) struct Page {
    lines: Vec<String>,
}

impl Page {
    pub(super) fn new() -> Self {
        Self { lines: Vec::new() }
    }

    pub(super) fn header(&mut self, header: &str) {
        if !self.lines.is_empty() {
            self.lines.push(String::new());
        }
        self.lines.push(header.to_owned());
    }

    pub(super) fn set(&mut self, key: &str, value: impl Into<toml::Value>) {
        self.lines.push(format!("{} = {}", key_text(key), value.into()));
    }

    pub(super) fn set_if(&mut self, key: &str, value: Option<String>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }

    /// The value, or a remark that says what holds without one.
    pub(super) fn set_or_note(&mut self, key: &str, value: Option<String>, note: &str) {
        match value {
            Some(value) => self.set(key, value),
            None => self.lines.push(format!("# {key}: {note}")),
        }
    }

    /// A number, which TOML writes as everybody does.
    pub(super) fn number(&mut self, key: &str, number: impl Display) {
        self.lines.push(format!("{key} = {number}"));
    }

    pub(super) fn number_or_note(&mut self, key: &str, number: Option<impl Display>, note: &str) {
        match number {
            Some(number) => self.number(key, number),
            None => self.lines.push(format!("# {key}: {note}")),
        }
    }

    pub(super) fn millis(&mut self, key: &str, time: Duration) {
        self.number(key, time.as_millis());
    }

    pub(super) fn millis_or_note(&mut self, key: &str, time: Option<Duration>, note: &str) {
        self.number_or_note(key, time.map(|time| time.as_millis()), note);
    }

    pub(super) fn list(&mut self, key: &str, values: &[impl ToString]) {
        let values = values.iter().map(|value| toml::Value::from(value.to_string()));
        self.set(key, values.collect::<Vec<_>>());
    }

    /// The word that the grammar has for a value.
    pub(super) fn choice<T: Copy + PartialEq>(
        &mut self,
        key: &str,
        value: T,
        choices: &[Choice<T>],
    ) {
        let word = choices.iter().find(|(_, is)| *is == Some(value)).map(|(word, _)| *word);
        self.set_or_note(key, word.map(str::to_owned), "has no word");
    }

    /// The settings of `inline` as a table on one line.
    pub(super) fn table(&mut self, key: &str, inline: &Self) {
        self.lines.push(format!("{key} = {{ {} }}", inline.lines.join(", ")));
    }

    pub(super) fn into_text(self) -> String {
        self.lines.join("\n") + "\n"
    }
}
