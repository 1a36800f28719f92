//! How each property ended and how long it took: what the table of properties × backends is made of.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

use crate::failure::Check;

/// The outcomes of one run, by the full name of the property.
#[derive(Debug, Default)]
pub(crate) struct Record(Mutex<BTreeMap<String, Outcome>>);

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase", tag = "outcome")]
enum Outcome {
    Pass { ms: u64 },
    Fail { ms: u64 },
    Skip { lacks: String },
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
        let outcome =
            if checked.is_ok() { Outcome::Pass { ms } } else { Outcome::Fail { ms } };
        self.outcomes().insert(name.to_owned(), outcome);
        checked
    }

    /// Writes a file for each backend, `conformance/<backend>.json` in the folder of build results.
    pub(crate) fn save(&self) -> std::io::Result<()> {
        let folder = folder()?;
        std::fs::create_dir_all(&folder)?;
        let outcomes = self.outcomes();
        let mut backends: BTreeMap<&str, BTreeMap<&str, &Outcome>> = BTreeMap::new();
        // What mutants do says nothing about a backend.
        for (name, outcome) in outcomes.iter().filter(|(name, _)| !name.contains("/mutants/")) {
            let backend = name.split('/').next().unwrap_or(name);
            backends.entry(backend).or_default().insert(name, outcome);
        }
        for (backend, outcomes) in backends {
            let text = serde_json::to_string_pretty(&outcomes)?;
            std::fs::write(folder.join(format!("{backend}.json")), text + "\n")?;
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
        let text = serde_json::to_string(&*record.outcomes()).unwrap();
        let skip = r#"{"paper/a/broker/x":{"outcome":"skip","lacks":"delay"}"#;
        assert!(text.starts_with(skip), "{text}");
        assert!(text.contains(r#""paper/a/broker/y":{"outcome":"fail","ms":"#), "{text}");
    }
}
