//! What a factory hands to a property.

use std::any::Any;
use std::fmt;

/// A fresh subject, such as a store, and what must live as long as it does.
pub struct Fixture<T> {
    pub(crate) subject: T,
    pub(crate) kept: Vec<Box<dyn Any + Send>>,
}

impl<T> Fixture<T> {
    /// A subject that needs nothing else.
    #[must_use]
    pub fn new(subject: T) -> Self {
        Self { subject, kept: Vec::new() }
    }

    /// Keeps `thing`, such as a temporary folder, until the subject is dropped.
    #[must_use]
    pub fn keep(mut self, thing: impl Any + Send) -> Self {
        self.kept.push(Box::new(thing));
        self
    }

    /// The same, about a subject made of this one.
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Fixture<U> {
        Fixture { subject: change(self.subject), kept: self.kept }
    }
}

impl<T: fmt::Debug> fmt::Debug for Fixture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("subject", &self.subject).finish_non_exhaustive()
    }
}
