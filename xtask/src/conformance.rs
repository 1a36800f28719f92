//! `cargo xtask conformance-table`: which property holds on which backend, and how long it takes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::workspace::{Failure, Workspace};

/// Where the suites leave how each property ended, one file for each backend.
const RECORDS: &str = "target/conformance";
const PAGE: &str = "docs/conformance.md";

/// The columns, from left to right; a backend that has no record has none.
const BACKENDS: [&str; 5] = ["memory", "hybrid", "redis", "kafka", "rabbitmq"];
const PARTS: [&str; 4] = ["broker", "bus", "faults", "in_process"];

/// How a property ended on one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Passed { ms: u64 },
    Failed,
    Skipped { lacks: String },
}

/// By part and property, then by backend.
type Table = BTreeMap<(usize, String), BTreeMap<usize, Outcome>>;

/// Writes the page from what the last runs of the suites left behind.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    let mut table = Table::new();
    for (column, backend) in BACKENDS.iter().enumerate() {
        let path = workspace.path(format!("{RECORDS}/{backend}.tsv"));
        match std::fs::read_to_string(&path) {
            Ok(text) => add(&mut table, column, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Failure::new(format!("cannot read {}: {error}", path.display())));
            }
        }
    }
    if table.is_empty() {
        let message = format!("no suite has run to its end yet: {RECORDS} is empty");
        return Err(Failure::new(message));
    }
    let page = workspace.path(PAGE);
    std::fs::write(&page, markdown(&table))
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", page.display())))?;
    println!("{PAGE} is written");
    Ok(())
}

/// Adds the record of one backend. A backend that is registered in several forms counts as the first of
/// them, unless one of the others fails.
fn add(table: &mut Table, column: usize, text: &str) {
    for line in text.lines() {
        let Some((part, property, outcome)) = read(line) else { continue };
        let cell = table.entry((part, property)).or_default().entry(column);
        let known = cell.or_insert_with(|| outcome.clone());
        if outcome == Outcome::Failed {
            *known = Outcome::Failed;
        }
    }
}

fn read(line: &str) -> Option<(usize, String, Outcome)> {
    let mut fields = line.split('\t');
    let mut words = fields.next()?.rsplit('/');
    let property = words.next()?.to_owned();
    let part = words.next()?;
    let part = PARTS.iter().position(|known| *known == part)?;
    let outcome = match (fields.next()?, fields.next()?) {
        ("pass", ms) => Outcome::Passed { ms: ms.parse().ok()? },
        ("skip", lacks) => Outcome::Skipped { lacks: lacks.to_owned() },
        _ => Outcome::Failed,
    };
    Some((part, property, outcome))
}

fn markdown(table: &Table) -> String {
    let mut columns: Vec<usize> = table.values().flat_map(BTreeMap::keys).copied().collect();
    columns.sort_unstable();
    columns.dedup();
    let mut page = String::from(
        "# Properties and backends\n\nWritten by `cargo xtask conformance-table` from the last complete \
         run of each backend's suite. A number is the milliseconds that the property took, beside \
         others on the same machine; a word is the capability whose absence excuses it.\n",
    );
    for (part, name) in PARTS.iter().enumerate() {
        let rows = || table.iter().filter(|((known, _), _)| *known == part);
        if rows().next().is_none() {
            continue;
        }
        let names = columns.iter().map(|column| BACKENDS[*column]);
        let head: String = names.map(|name| format!(" {name} |")).collect();
        let rule = " ---: |".repeat(columns.len());
        // Writing to a string cannot fail.
        writeln!(page, "\n## {name}\n\n| property |{head}\n| --- |{rule}").ok();
        for ((_, property), cells) in rows() {
            let cells: String = columns.iter().map(|column| cell(cells.get(column))).collect();
            writeln!(page, "| {} |{cells}", property.replace('_', " ")).ok();
        }
        let totals: String = columns.iter().map(|column| total(rows(), *column)).collect();
        writeln!(page, "| **passed / failed / excused** |{totals}").ok();
    }
    page
}

fn cell(outcome: Option<&Outcome>) -> String {
    match outcome {
        Some(Outcome::Passed { ms }) => format!(" {ms} |"),
        Some(Outcome::Failed) => " **FAIL** |".to_owned(),
        Some(Outcome::Skipped { lacks }) => format!(" _{}_ |", lacks.replace('_', " ")),
        None => " |".to_owned(),
    }
}

fn total<'a>(
    rows: impl Iterator<Item = (&'a (usize, String), &'a BTreeMap<usize, Outcome>)>,
    column: usize,
) -> String {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (_, cells) in rows {
        match cells.get(&column) {
            Some(Outcome::Passed { .. }) => passed += 1,
            Some(Outcome::Failed) => failed += 1,
            Some(Outcome::Skipped { .. }) => skipped += 1,
            None => {}
        }
    }
    format!(" {passed} / {failed} / {skipped} |")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_row_for_each_property_and_says_who_was_excused() {
        let mut table = Table::new();
        add(&mut table, 0, "memory/value/broker/a_b\tpass\t3\nmemory/boxed/broker/a_b\tpass\t9\n");
        add(&mut table, 2, "redis/broker/a_b\tskip\tin process\nredis/store/x\tpass\t1\n");
        let page = markdown(&table);
        assert!(page.contains("| property | memory | redis |"), "{page}");
        assert!(page.contains("| a b | 3 | _in process_ |"), "{page}");
        assert!(page.contains("| 1 / 0 / 0 | 0 / 0 / 1 |"), "{page}");
        assert!(!page.contains("## bus"), "{page}");
    }

    #[test]
    fn one_form_of_a_backend_that_fails_makes_it_a_failure() {
        let mut table = Table::new();
        add(&mut table, 0, "memory/boxed/bus/a\tpass\t3\nmemory/value/bus/a\tfail\t9\n");
        assert!(markdown(&table).contains("**FAIL**"));
    }
}
