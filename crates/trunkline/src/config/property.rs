//! Settings that are passed on as they are, because a driver or a server knows them and we do not.

use std::fmt;

use super::describe::Page;
use super::read::{Item, Section};
use super::tree::Value;
use super::url::{HIDDEN, is_secret};

/// The value of a setting that is passed on: what TOML and every broker know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PropertyValue {
    /// A string.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A truth value.
    Boolean(bool),
}

impl fmt::Display for PropertyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Integer(number) => number.fmt(f),
            Self::Boolean(boolean) => boolean.fmt(f),
        }
    }
}

/// A table of settings that are passed on, in file order.
///
/// `Debug` hides the values whose names speak of a secret, such as `sasl.password`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(Vec<(String, PropertyValue)>);

impl Properties {
    /// Sets a value, in the place of an earlier one of that name.
    pub fn set(&mut self, name: impl Into<String>, value: PropertyValue) {
        let name = name.into();
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => self.0.push((name, value)),
        }
    }

    /// Every name and value, secrets included.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &PropertyValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Names in a variable have `_` where the real ones have `separator`.
    pub(super) fn read(section: &mut Section<'_>, key: &'static str, separator: &str) -> Self {
        let mut properties = Self::default();
        let Some(table) = section.section(key) else { return properties };
        for item in table.entries() {
            properties.add(&item, None, separator);
        }
        properties
    }

    /// A table within the table is a name with a dot, as TOML reads `security.protocol = "ssl"`.
    fn add(&mut self, item: &Item<'_>, parent: Option<&str>, separator: &str) {
        let key = match item.is_variable() {
            true => item.key.replace('_', separator),
            false => item.key.to_owned(),
        };
        let name = match parent {
            Some(parent) => format!("{parent}.{key}"),
            None => key,
        };
        let value = match item.value() {
            Value::Table(_) => {
                let Some(table) = item.section() else { return };
                table.entries().for_each(|inner| self.add(&inner, Some(&name), separator));
                return;
            }
            Value::Boolean(boolean) => PropertyValue::Boolean(*boolean),
            Value::Integer(_) => match item.number(i64::MIN.into()..=i64::MAX.into()) {
                Some(number) => PropertyValue::Integer(number),
                None => return,
            },
            _ => match item.text() {
                Some(text) => PropertyValue::Text(text.to_owned()),
                None => return,
            },
        };
        self.set(name, value);
    }

    pub(super) fn describe(&self, key: &str, page: &mut Page) {
        let mut inline = Page::new();
        for (name, value) in self.iter() {
            match value {
                PropertyValue::Integer(number) => inline.set(name, *number),
                PropertyValue::Boolean(boolean) => inline.set(name, *boolean),
                PropertyValue::Text(_) if is_secret(name) => inline.set(name, HIDDEN),
                PropertyValue::Text(text) => inline.set(name, text.as_str()),
            }
        }
        page.table(key, &inline);
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = PropertyValue::Text(HIDDEN.to_owned());
        let shown =
            self.iter().map(|(name, value)| (name, if is_secret(name) { &hidden } else { value }));
        f.debug_map().entries(shown).finish()
    }
}
