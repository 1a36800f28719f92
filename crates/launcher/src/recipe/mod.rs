//! How each server is started by hand: its files, its command line and how it ends.

pub(crate) mod kafka;
mod postgres;
pub(crate) mod rabbitmq;
mod redis;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::kind::Kind;
use crate::ports::Ports;

/// A command line that is ready to run.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// Where it runs.
    pub(crate) folder: PathBuf,
    /// Another user and group, for a server that refuses to be root.
    pub(crate) user: Option<(u32, u32)>,
    /// The command of a process that the server needs beside it.
    pub(crate) helper: Option<String>,
    /// The signal that asks for a clean end.
    pub(crate) stop: &'static str,
}

/// What a recipe is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) ports: &'a Ports,
    /// The caller's own settings, which win.
    pub(crate) settings: &'a [(String, String)],
}

/// Writes what the server reads, makes its data folder if there is none, and says how to run it.
pub(crate) fn prepare(kind: Kind, place: Place<'_>) -> Result<Recipe> {
    match kind {
        Kind::Redis => redis::prepare(place),
        Kind::Kafka => kafka::prepare(place),
        Kind::RabbitMq => rabbitmq::prepare(place),
        Kind::Postgres => postgres::prepare(place),
    }
}

impl Recipe {
    fn new(program: impl Into<PathBuf>, folder: &Path) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            folder: folder.to_owned(),
            user: None,
            helper: None,
            stop: "TERM",
        }
    }
}

/// Lines of a configuration file: ours, then the caller's, which win in each of these servers.
fn lines<K: AsRef<str>, V: AsRef<str>>(
    ours: &[(K, V)],
    theirs: &[(String, String)],
    between: &str,
) -> String {
    let mut text = String::new();
    let ours = ours.iter().map(|(key, value)| (key.as_ref(), value.as_ref()));
    let theirs = theirs.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    for (key, value) in ours.chain(theirs) {
        // Writing to a String cannot fail.
        writeln!(text, "{key}{between}{value}").ok();
    }
    text
}
