//! Why a server could not be started or steered.

use std::fmt;
use std::io;

/// What every fallible function here answers.
pub type Result<T, E = LaunchError> = std::result::Result<T, E>;

/// Why a server could not be started or steered, and what to do next.
///
/// Nobody can react to the kinds of it in a program, so there are none: the text is for the person who
/// reads the failed test.
pub struct LaunchError {
    text: String,
    source: Option<io::Error>,
}

impl LaunchError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), source: None }
    }

    /// For `map_err`: what was attempted when the system refused.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        |source| Self { text: what.into(), source: Some(source) }
    }
}

impl fmt::Display for LaunchError {
    /// With the cause: the text is all that a failed test shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for LaunchError {}
