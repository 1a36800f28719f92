//! Why a property does not hold.

use std::error::Error as _;
use std::fmt;

/// What a property answers.
pub type Check = Result<(), Failure>;

/// Why a property does not hold, in a sentence.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure(String);

impl Failure {
    /// A failure that says `message`.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
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
        Self(text)
    }
}

impl From<trunkline_launcher::LaunchError> for Failure {
    fn from(error: trunkline_launcher::LaunchError) -> Self {
        Self(format!("the server: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
