//! How each property ended and how long it took: what the table of properties × backends is made of.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::failure::Check;

/// The outcomes of one run, by the full name of the property.
#[derive(Debug, Default)]
pub(crate) struct Record(Mutex<BTreeMap<String, Outcome>>);

#[derive(Debug)]
enum Outcome {
    Pass { ms: u64 },
    Fail { ms: u64 },
    Skip { lacks: String },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass { ms } => write!(f, "pass\t{ms}"),
            Self::Fail { ms } => write!(f, "fail\t{ms}"),
            Self::Skip { lacks } => write!(f, "skip\t{lacks}"),
        }
    }
}

impl Record {
    fn outcomes(&self) -> MutexGuard<'_, BTreeMap<String, Outcome>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn excuse(&self, name: &str, capability: &str) {
        let skip = Outcome::Skip { lacks: capability.to_owned() };
        self.outcomes().insert(name.to_owned(), skip);
    }

    /// Runs a property and writes down how it went.
    pub(crate) fn time(&self, name: &str, check: impl FnOnce() -> Check) -> Check {
        let begun = Instant::now();
        let checked = check();
        let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let outcome = if checked.is_ok() { Outcome::Pass { ms } } else { Outcome::Fail { ms } };
        self.outcomes().insert(name.to_owned(), outcome);
        checked
    }

    /// Writes a file for each backend, `conformance/<backend>.tsv` in the folder of build results: a
    /// line for each property with its name, `pass`, `fail` or `skip`, and milliseconds or what excused
    /// it, with tabs between.
    pub(crate) fn save(&self) -> std::io::Result<()> {
        let folder = folder()?;
        std::fs::create_dir_all(&folder)?;
        let outcomes = self.outcomes();
        let mut backends: BTreeMap<&str, String> = BTreeMap::new();
        // What mutants do says nothing about a backend.
        for (name, outcome) in outcomes.iter().filter(|(name, _)| !name.contains("/mutants/")) {
            let backend = name.split('/').next().unwrap_or(name);
            let line = format!("{name}\t{outcome}\n");
            backends.entry(backend).or_default().push_str(&line);
        }
        for (backend, lines) in backends {
            std::fs::write(folder.join(format!("{backend}.tsv")), lines)?;
        }
        Ok(())
    }
}

/// A test binary lies in `<target>/<profile>/deps`.
fn folder() -> std::io::Result<PathBuf> {
    let binary = std::env::current_exe()?;
    let target = binary.ancestors().nth(3).ok_or(std::io::ErrorKind::NotFound)?;
    Ok(target.join("conformance"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    #[test]
    fn an_outcome_says_how_it_ended_and_how_long_it_took() {
        let record = Record::default();
        record.excuse("paper/a/broker/x", "delay");
        assert!(record.time("paper/a/broker/y", || Err(Failure::new("no"))).is_err());
        let outcomes: Vec<String> = record.outcomes().values().map(Outcome::to_string).collect();
        assert_eq!(outcomes[0], "skip\tdelay");
        assert!(outcomes[1].starts_with("fail\t"), "{outcomes:?}");
    }
}
