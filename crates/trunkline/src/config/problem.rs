//! What is wrong with a configuration, and where.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use trunkline_core::{Error, ErrorKind};

/// Where a configured value stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Location {
    /// A place in a file.
    Place {
        /// The file as it was named.
        file: Arc<str>,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
    },
    /// A file as a whole.
    File {
        /// The file as it was named.
        file: Arc<str>,
    },
    /// An environment variable.
    Variable {
        /// Its name as the environment has it.
        variable: Arc<str>,
    },
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::File { file } => f.write_str(file),
            Self::Variable { variable } => f.write_str(variable),
        }
    }
}

/// One thing that is wrong with a configuration.
///
/// `Display` prints it on one line, as compilers do: `trunkline.toml:3:8: broker.type: …`. No part
/// of it holds the password of a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Problem {
    /// The path of the key, such as `channels.security.retry.attempts`; empty when no key is to blame.
    pub key: String,
    /// Where the key, or its value, stands.
    pub location: Location,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.location)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Collects problems, so that one run names all of them.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(super) fn add(
        &self,
        key: impl Into<String>,
        location: &Location,
        message: impl Into<String>,
    ) {
        let problem =
            Problem { key: key.into(), location: location.clone(), message: message.into() };
        self.0.borrow_mut().push(problem);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// The problems in the order of the file, and after them those of variables.
    pub(super) fn into_inner(self) -> Vec<Problem> {
        let mut problems = self.0.into_inner();
        problems.sort_by_key(|problem| match problem.location {
            Location::File { .. } => (0, 0),
            Location::Place { line, column, .. } => (line, column),
            Location::Variable { .. } => (usize::MAX, 0),
        });
        problems
    }
}

/// Makes the one error of kind `Config` that names every problem.
pub(super) fn to_error(problems: &[Problem]) -> Error {
    let message = match problems {
        [only] => only.to_string(),
        several => {
            let lines: Vec<_> = several.iter().map(|problem| format!("\n  {problem}")).collect();
            format!("{} problems{}", several.len(), lines.concat())
        }
    };
    Error::new(ErrorKind::Config, "read configuration", message)
}
