//! Reads what `cargo test` prints while it prints it.
//!
//! The counts of a suite come from its own `test result` lines, never from the case lines: those may be torn apart by
//! what a test prints. Case lines only tell which backend ran. What this parser does not understand leaves a suite
//! without a result, which [`crate::report`] counts as a failure.

use std::collections::{BTreeMap, BTreeSet};

/// How one case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    Ignored,
}

/// Tests by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) ignored: usize,
}

/// One test binary, or the documentation tests of one crate.
#[derive(Debug)]
pub(crate) struct Suite {
    /// What cargo calls it: `unittests src/lib.rs`, `tests/conformance.rs`, `doc-tests trunkline_core`.
    pub(crate) name: String,
    /// The path of the test binary as cargo printed it; `None` for documentation tests.
    pub(crate) binary: Option<String>,
    /// The sum of its result lines; `None` until one was seen.
    pub(crate) counts: Option<Counts>,
    /// The cases that say by their name which backend they ran on.
    pub(crate) cases: BTreeMap<String, Outcome>,
    /// The cases that the suite excused because their backend lacks a capability.
    pub(crate) skipped: BTreeSet<String>,
}

impl Suite {
    fn new(name: String, binary: Option<String>) -> Self {
        Self { name, binary, counts: None, cases: BTreeMap::new(), skipped: BTreeSet::new() }
    }
}

/// The parser: bytes in, suites out.
#[derive(Debug, Default)]
pub(crate) struct TestOutput {
    suites: Vec<Suite>,
    partial_line: Vec<u8>,
    /// A case whose name was printed and whose outcome was not yet.
    pending: Option<String>,
    /// Between `failures:` and the result a suite repeats what its failed tests printed, which may look like anything.
    in_failures: bool,
}

impl TestOutput {
    /// Takes the next bytes, cut anywhere.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.partial_line);
                self.line(&String::from_utf8_lossy(&line));
            } else {
                self.partial_line.push(byte);
            }
        }
    }

    /// Takes the end of the output and hands out what ran, in the order in which it ran.
    pub(crate) fn finish(mut self) -> Vec<Suite> {
        let line = std::mem::take(&mut self.partial_line);
        self.line(&String::from_utf8_lossy(&line));
        self.suites
    }

    fn line(&mut self, raw: &str) {
        let line = without_colours(raw);
        if let Some(suite) = header(&line) {
            self.suites.push(suite);
            self.pending = None;
            self.in_failures = false;
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.in_failures = false;
            self.result(result);
        } else if line.trim_end() == "failures:" {
            self.in_failures = true;
        } else if !self.in_failures {
            self.progress(&line);
        }
    }

    fn result(&mut self, text: &str) {
        let (Some(suite), Some(counts)) = (self.suites.last_mut(), counts(text)) else {
            return;
        };
        // Documentation tests report twice when some of them could not be merged into one binary.
        let sum = suite.counts.get_or_insert_default();
        sum.passed += counts.passed;
        sum.failed += counts.failed;
        sum.ignored += counts.ignored;
    }

    fn progress(&mut self, line: &str) {
        if let Some((before, skip)) = split_skip(line) {
            self.case_line(before);
            if let Some(suite) = self.suites.last_mut() {
                suite.skipped.insert(skip.to_owned());
            }
        } else {
            self.case_line(line);
        }
    }

    fn case_line(&mut self, line: &str) {
        let named = line.strip_prefix("test ").and_then(|text| text.split_once(" ... "));
        let rest = match named {
            Some((name, rest)) => {
                self.pending = Some(name.trim_end().to_owned());
                rest
            }
            None => line,
        };
        // What a test prints itself can stand between its name and its outcome.
        let Some(outcome) = outcome(rest) else { return };
        let (Some(name), Some(suite)) = (self.pending.take(), self.suites.last_mut()) else {
            return;
        };
        if suite.binary.is_some() && backend(&name).is_some() {
            suite.cases.insert(name, outcome);
        }
    }
}

/// The backend that a case names: what stands before the first `/`.
pub(crate) fn backend(case: &str) -> Option<&str> {
    let (backend, _) = case.split_once('/')?;
    // Compile-fail tests print the files that they compile like cases, in bold on a terminal.
    let is_file = case.contains(".rs");
    let is_name =
        backend.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    (is_name && !is_file && !backend.is_empty()).then_some(backend)
}

fn header(line: &str) -> Option<Suite> {
    if let Some(name) = line.strip_prefix("   Doc-tests ") {
        return Some(Suite::new(format!("doc-tests {}", name.trim_end()), None));
    }
    let text = line.strip_prefix("     Running ")?.trim_end();
    let (name, binary) = text.strip_suffix(')')?.rsplit_once(" (")?;
    Some(Suite::new(name.to_owned(), Some(binary.to_owned())))
}

/// Reads `ok. 3 passed; 0 failed; 0 ignored; …`; a missing count makes the line no result.
fn counts(text: &str) -> Option<Counts> {
    let (_, numbers) = text.split_once(". ")?;
    let count = |label: &str| {
        numbers.split("; ").find_map(|part| {
            let (number, word) = part.trim().split_once(' ')?;
            (word == label).then(|| number.parse().ok()).flatten()
        })
    };
    Some(Counts { passed: count("passed")?, failed: count("failed")?, ignored: count("ignored")? })
}

/// Finds `skip NAME: capability`, also behind an outcome that another thread had begun to print.
fn split_skip(line: &str) -> Option<(&str, &str)> {
    let at = line.find("skip ")?;
    let before = &line[..at];
    let (name, capability) = line[at + "skip ".len()..].split_once(": ")?;
    let is_case = backend(name).is_some();
    let starts_here = before.is_empty() || before.ends_with(' ') || outcome_ends(before);
    (is_case && starts_here && !capability.trim().is_empty()).then_some((before, name))
}

fn outcome_ends(text: &str) -> bool {
    ["ok", "FAILED", "ignored"].iter().any(|word| text.ends_with(word))
}

fn outcome(text: &str) -> Option<Outcome> {
    let text = text.trim();
    let first = text.split([' ', ',', '(']).next()?;
    match first {
        "ok" if text == "ok" || text.starts_with("ok (") || text.starts_with("ok <") => {
            Some(Outcome::Passed)
        }
        "FAILED" => Some(Outcome::Failed),
        "ignored" => Some(Outcome::Ignored),
        _ => None,
    }
}

/// Drops terminal colour codes, which `CARGO_TERM_COLOR=always` puts even into a pipe.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find("\u{1b}[") {
        plain.push_str(&rest[..start]);
        let code = &rest[start + 2..];
        let end = code.find(|byte: char| byte.is_ascii_alphabetic());
        rest = end.map_or("", |end| &code[end + 1..]);
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
