//! Judges a test run and shows it: what ran, on which backend, and why that is not enough.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::Ending;
use crate::output::{Counts, Outcome, Suite, backend};
use crate::workspace::Failure;

/// The backends that must have run cases of their conformance suite; a new backend is added here.
pub(crate) const EXPECTED_BACKENDS: &[&str] =
    &["memory", "hybrid", "sqlite", "redis", "kafka", "rabbitmq"];

/// A finished test run.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// The two tables.
    pub(crate) tables: String,
    /// The line `N passed, N failed`.
    pub(crate) totals: String,
    /// One sentence for every reason to fail.
    pub(crate) problems: Vec<String>,
}

impl Verdict {
    /// The problems as one error, if there are any, and the totals.
    pub(crate) fn ending(self) -> Ending {
        let result = if self.problems.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(format!("the tests do not pass:\n  {}", self.problems.join("\n  "))))
        };
        Ending { result, last_line: Some(self.totals) }
    }
}

/// The cases of one backend over all suites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct BackendCounts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// Judges `suites`; `run_problems` is what went wrong around them.
pub(crate) fn judge(suites: &[Suite], run_problems: Vec<String>, expected: &[&str]) -> Verdict {
    let backends = by_backend(suites, expected);
    let mut problems = run_problems;
    if suites.is_empty() {
        problems.push("no suite ran: the messages above say why nothing was built".into());
    }
    let mut failed_tests = 0;
    let mut passed_tests = 0;
    let mut failed_suites = Vec::new();
    for suite in suites {
        let counts = suite.counts.unwrap_or_default();
        passed_tests += counts.passed;
        failed_tests += counts.failed;
        problems.extend(silent_loss(suite, counts));
        if counts.failed > 0 {
            failed_suites.push(format!(
                "{} of {} failed: its messages above say where",
                tests(counts.failed),
                suite.name
            ));
        }
    }
    // Where nothing ran at all, this would only repeat it once per backend.
    let silent = backends.iter().filter(|(name, counts)| {
        !suites.is_empty() && expected.contains(name) && counts.passed + counts.failed == 0
    });
    problems.extend(silent.map(|(name, _)| {
        format!(
            "backend `{name}` ran no case: its conformance suite must register cases with names \
             that begin with `{name}/`"
        )
    }));
    // A run that must not pass must not end in `0 failed` either, because that line is what other programs read.
    let totals = format!("{passed_tests} passed, {} failed", failed_tests + problems.len());
    failed_suites.extend(problems);
    Verdict {
        tables: format!("{}\n{}", suite_table(suites), backend_table(&backends)),
        totals,
        problems: failed_suites,
    }
}

/// The ways in which a suite can look green without having run.
fn silent_loss(suite: &Suite, counts: Counts) -> Option<String> {
    if suite.counts.is_none() {
        return Some(format!(
            "{} ended without a result: it crashed or was killed, see its last lines above",
            suite.name
        ));
    }
    (counts.ignored > 0).then(|| {
        format!("{} of {} ignored: make them run or delete them", tests(counts.ignored), suite.name)
    })
}

fn tests(count: usize) -> String {
    format!("{count} {}", if count == 1 { "test" } else { "tests" })
}

fn by_backend<'a>(suites: &'a [Suite], expected: &[&'a str]) -> BTreeMap<&'a str, BackendCounts> {
    let mut backends: BTreeMap<&str, BackendCounts> =
        expected.iter().map(|name| (*name, BackendCounts::default())).collect();
    for suite in suites {
        let ran = suite.cases.iter().filter(|(name, _)| !suite.skipped.contains(*name));
        for (name, outcome) in ran {
            let counts = backends.entry(backend(name).unwrap_or(name)).or_default();
            match outcome {
                Outcome::Passed => counts.passed += 1,
                Outcome::Failed => counts.failed += 1,
                // An ignored case has not run, and its suite's result says so already.
                Outcome::Ignored => {}
            }
        }
        for name in &suite.skipped {
            let counts = backends.entry(backend(name).unwrap_or(name)).or_default();
            if suite.cases.get(name) == Some(&Outcome::Failed) {
                counts.failed += 1;
            } else {
                counts.skipped += 1;
            }
        }
    }
    backends
}

fn suite_table(suites: &[Suite]) -> String {
    let rows: Vec<_> = suites
        .iter()
        .map(|suite| {
            let cells = match suite.counts {
                Some(counts) => {
                    [counts.passed, counts.failed, counts.ignored].map(|n| n.to_string())
                }
                None => ["?", "?", "?"].map(str::to_owned),
            };
            (suite.name.as_str(), cells)
        })
        .collect();
    table("suite", ["passed", "failed", "ignored"], &rows)
}

fn backend_table(backends: &BTreeMap<&str, BackendCounts>) -> String {
    let rows: Vec<_> = backends
        .iter()
        .map(|(name, counts)| {
            let cells = [counts.passed, counts.failed, counts.skipped].map(|n| n.to_string());
            (*name, cells)
        })
        .collect();
    table("cases per backend", ["passed", "failed", "skipped"], &rows)
}

fn table(title: &str, columns: [&str; 3], rows: &[(&str, [String; 3])]) -> String {
    let widest = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let width = widest.max(title.len());
    let mut text = String::new();
    let mut push = |name: &str, cells: [&str; 3]| {
        let [first, second, third] = cells;
        writeln!(text, "{name:<width$}  {first:>7}  {second:>7}  {third:>7}")
    };
    let written = push(title, columns).and_then(|()| {
        rows.iter().try_for_each(|(name, cells)| push(name, cells.each_ref().map(String::as_str)))
    });
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::TestOutput;

    fn judged(output: &str, expected: &[&str]) -> Verdict {
        let mut parser = TestOutput::default();
        parser.feed(output.as_bytes());
        judge(&parser.finish(), Vec::new(), expected)
    }

    fn conformance(lines: &str, result: &str) -> String {
        format!(
            "     Running tests/conformance.rs (target/debug/deps/conformance-1)\n{lines}\
             test result: ok. {result}; 0 measured; 0 filtered out; finished in 0.1s\n"
        )
    }

    #[test]
    fn passes_when_every_expected_backend_ran() {
        let output = conformance(
            "test memory/value/a ... ok\ntest hybrid/a ... ok\n",
            "2 passed; 0 failed; 0 ignored",
        );
        let verdict = judged(&output, &["memory", "hybrid"]);
        assert_eq!(verdict.totals, "2 passed, 0 failed");
        assert!(verdict.ending().result.is_ok());
    }

    #[test]
    fn fails_when_nothing_ran() {
        let verdict = judged("error: could not compile `trunkline-core`\n", &[]);
        assert_eq!(verdict.totals, "0 passed, 1 failed");
        assert!(verdict.problems[0].starts_with("no suite ran"));
    }

    #[test]
    fn fails_when_an_expected_backend_ran_no_case() {
        let output = conformance("test memory/value/a ... ok\n", "1 passed; 0 failed; 0 ignored");
        let verdict = judged(&output, &["memory", "sqlite"]);
        assert_eq!(verdict.totals, "1 passed, 1 failed");
        assert!(verdict.problems[0].starts_with("backend `sqlite` ran no case"));
    }

    #[test]
    fn a_backend_whose_every_case_is_excused_ran_no_case() {
        let output = conformance(
            "skip sqlite/value/a: live\ntest sqlite/value/a ... ok\n",
            "1 passed; 0 failed; 0 ignored",
        );
        let verdict = judged(&output, &["sqlite"]);
        assert!(verdict.problems[0].starts_with("backend `sqlite` ran no case"));
    }

    #[test]
    fn fails_when_a_test_is_ignored() {
        let output = conformance("test memory/a ... ok\n", "1 passed; 0 failed; 2 ignored");
        let verdict = judged(&output, &["memory"]);
        assert_eq!(verdict.totals, "1 passed, 1 failed");
        assert!(verdict.problems[0].contains("2 tests of tests/conformance.rs ignored"));
    }

    #[test]
    fn fails_when_a_suite_ended_without_a_result() {
        let output = "     Running unittests src/lib.rs (target/debug/deps/a-1)\nrunning 4 tests\n";
        let verdict = judged(output, &[]);
        assert_eq!(verdict.totals, "0 passed, 1 failed");
        assert!(verdict.problems[0].contains("ended without a result"));
        assert!(verdict.tables.contains('?'));
    }

    #[test]
    fn fails_when_a_test_failed_and_counts_it_once() {
        let output = conformance("test memory/a ... FAILED\n", "4 passed; 3 failed; 0 ignored");
        let verdict = judged(&output, &["memory"]);
        assert_eq!(verdict.totals, "4 passed, 3 failed");
        assert!(verdict.problems[0].contains("3 tests of tests/conformance.rs failed"));
        assert!(verdict.ending().result.is_err());
    }

    #[test]
    fn fails_when_the_run_itself_failed() {
        let verdict = judge(&[], vec!["cargo test ended with status 101".into()], &[]);
        assert_eq!(verdict.totals, "0 passed, 2 failed");
    }

    #[test]
    fn shows_cases_per_backend_with_the_excused_ones_apart() {
        let output = conformance(
            "skip memory/value/b: lag\ntest memory/value/a ... ok\ntest memory/value/b ... ok\n\
             test redis/value/a ... ok\n",
            "3 passed; 0 failed; 0 ignored",
        );
        let tables = judged(&output, &["memory"]).tables;
        let row = |name: &str| -> Vec<String> {
            let line = tables.lines().find(|line| line.starts_with(name));
            let cells = line.expect("the backend has a row").split_whitespace();
            cells.skip(1).map(str::to_owned).collect()
        };
        assert_eq!(row("memory"), ["1", "0", "1"]);
        assert_eq!(row("redis"), ["1", "0", "0"]);
    }
}
