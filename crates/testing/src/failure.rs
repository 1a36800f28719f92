//! Why a property does not hold.

use std::error::Error as _;
use std::fmt;

/// What a property answers.
pub type Check = Result<(), Failure>;

/// Why a property does not hold, in a sentence.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    text: String,
    /// Whether there was nothing that could be put to the test.
    is_unmade: bool,
}

impl Failure {
    /// A failure that says `message`.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { text: message.into(), is_unmade: false }
    }

    /// The broker or its server could not be made: that says nothing about a promise.
    pub(crate) fn unmade(cause: impl Into<Self>) -> Self {
        Self { is_unmade: true, ..cause.into() }
    }

    pub(crate) const fn is_unmade(&self) -> bool {
        self.is_unmade
    }

    /// The same with words before it.
    pub(crate) fn after(self, words: impl fmt::Display) -> Self {
        Self { text: format!("{words}{}", self.text), ..self }
    }
}

impl From<trunkline_core::Error> for Failure {
    /// The error with all its causes: nobody sees them later.
    fn from(error: trunkline_core::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(level) = cause {
            text = format!("{text}: {level}");
            cause = level.source();
        }
        Self::new(text)
    }
}

impl From<trunkline_launcher::LaunchError> for Failure {
    fn from(error: trunkline_launcher::LaunchError) -> Self {
        Self::new(format!("the server: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// Returns a [`Failure`] unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($message:tt)+) => {
        if !$holds {
            return Err($crate::Failure::new(format!($($message)+)));
        }
    };
}

/// Returns a [`Failure`] that shows both sides unless they are equal.
macro_rules! ensure_eq {
    ($found:expr, $wanted:expr, $($message:tt)+) => {
        match (&$found, &$wanted) {
            (found, wanted) if *found != *wanted => {
                let what = format!($($message)+);
                let message = format!("{what}: found {found:?} where {wanted:?} is right");
                return Err($crate::Failure::new(message));
            }
            _ => {}
        }
    };
}

pub(crate) use {ensure, ensure_eq};
