//! The report of a run for people.

use indicatif::{HumanCount, HumanFloatCount};

use super::report::{Faults, Report};
use crate::terminal::{Paint, harmless};

/// Kinds of events that are listed one by one; a real input may have hundreds.
const KINDS: usize = 12;

/// The report as text.
pub(super) fn page(report: &Report, paint: Paint) -> String {
    let mut page = Page { paint, text: String::new() };
    page.heading(report);
    page.kinds(report);
    page.parties(report);
    page.numbers(report);
    page.verdict(report);
    page.text
}

struct Page {
    paint: Paint,
    text: String,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn fact(&mut self, name: &str, value: &str) {
        self.line(&format!("  {name:<10} {value}"));
    }

    fn heading(&mut self, report: &Report) {
        let details = &report.details;
        let title = format!("trunkline demo: {}", details.source);
        let title = self.paint.bold(&title);
        self.line(&title);
        let broker = match &details.sides {
            Some((local, remote)) => {
                format!("{} (local: {local}, remote: {remote})", report.broker)
            }
            None => report.broker.clone(),
        };
        self.fact("broker", &broker);
        let store = if details.temporary { " (a temporary file)" } else { "" };
        self.fact("store", &format!("{}{store}", report.store));
        self.line("");
    }

    fn kinds(&mut self, report: &Report) {
        let mut kinds: Vec<_> = report.details.kinds.iter().filter(|kind| kind.3 > 0).collect();
        if kinds.is_empty() {
            return;
        }
        let hidden = kinds.len().saturating_sub(KINDS);
        if hidden > 0 {
            // The sort is stable: kinds of one size stay in the order of the input.
            kinds.sort_by_key(|kind| std::cmp::Reverse(kind.3));
        }
        let mut rows = vec![["published", "topic", "route", "events"].map(str::to_owned).to_vec()];
        for (event_type, topic, route, events) in kinds.into_iter().take(KINDS) {
            rows.push(vec![harmless(event_type), topic.clone(), route.to_string(), count(*events)]);
        }
        self.table(&rows, 3);
        if hidden > 0 {
            self.line(&format!("  … and {hidden} more kinds of events"));
        }
        self.line("");
    }

    fn parties(&mut self, report: &Report) {
        let names = [
            "handled by",
            "as",
            "members",
            "events",
            "lost",
            "duplicates",
            "out of order",
            "dead letters",
        ];
        let mut rows = vec![names.map(str::to_owned).to_vec()];
        for (party, totals) in &report.details.parties {
            let kind = if party.group.is_some() { "group" } else { "broadcast" };
            let mut row = vec![party.name.clone(), kind.to_owned(), party.members.to_string()];
            row.extend([totals.handled, totals.lost].map(count));
            row.extend([totals.duplicates, totals.out_of_order, totals.dead_lettered].map(count));
            rows.push(row);
        }
        self.table(&rows, 2);
        self.line("");
    }

    fn numbers(&mut self, report: &Report) {
        let routed = &report.routed;
        let both = match routed.routed_both {
            0 => String::new(),
            both => format!(", {} both ways", count(both)),
        };
        let routes = format!(
            "{} local, {} remote{both}",
            count(routed.routed_local),
            count(routed.routed_remote)
        );
        self.fact("published", &format!("{} ({routes})", count(report.published)));
        if report.rejected > 0 {
            self.fact("rejected", &format!("{} (standard error says why)", count(report.rejected)));
        }
        let read = &report.read_back;
        if report.store != "none" {
            let text =
                format!("{} found again, {} replayed", count(read.stored), count(read.replayed));
            self.fact("stored", &text);
        }
        let speed = HumanFloatCount(report.events_per_s.round());
        self.fact("speed", &format!("{speed} events/s from first publish to last settlement"));
        let (p50, p99) = (time(report.p50_us), time(report.p99_us));
        self.fact("latency", &format!("p50 {p50}, p99 {p99} from publish to first handler"));
        self.line("");
    }

    fn verdict(&mut self, report: &Report) {
        let Faults { lost, duplicates, out_of_order } = report.faults;
        let paint = self.paint;
        let verdict = if report.faults != Faults::default() {
            let text = format!(
                "{} lost, {} duplicates, {} out of order",
                count(lost),
                count(duplicates),
                count(out_of_order)
            );
            format!("{} {text}", paint.bad("FAILED:"))
        } else if report.details.troubled {
            format!("{} the run went wrong: standard error says why", paint.bad("FAILED:"))
        } else if report.published == 0 {
            format!("{} there was no event to publish", paint.good("OK:"))
        } else {
            let text = "nothing lost, nothing doubled, nothing out of order";
            format!("{} {text}", paint.good("OK:"))
        };
        self.line(&verdict);
        if report.interrupted {
            self.line("The run was interrupted: this is what was done until then.");
        }
    }

    /// Columns from `right` on hold numbers.
    fn table(&mut self, rows: &[Vec<String>], right: usize) {
        let columns = rows.first().map_or(0, Vec::len);
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        for (number, row) in rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column >= right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            let line = format!("  {}", cells.collect::<Vec<_>>().join("  "));
            let line = line.trim_end();
            let line = if number == 0 { self.paint.bold(line) } else { line.to_owned() };
            self.line(&line);
        }
    }
}

fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// A time in the unit that people read it in.
fn time(micros: f64) -> String {
    match micros {
        micros if micros < 1_000.0 => format!("{micros:.0} µs"),
        micros if micros < 1_000_000.0 => format!("{:.1} ms", micros / 1_000.0),
        micros => format!("{:.1} s", micros / 1_000_000.0),
    }
}

#[cfg(test)]
mod tests {
    use trunkline::Route;

    use super::*;
    use crate::demo::consumers::Party;
    use crate::demo::ledger::Totals;

    fn report() -> Report {
        let mut report =
            Report { broker: "memory".to_owned(), store: "none".to_owned(), ..Report::default() };
        report.published = 1_234;
        report.details.kinds.push((
            "OrderPlaced".to_owned(),
            "orders".to_owned(),
            Route::Local,
            1_234,
        ));
        let party = Party { name: "demo-billing-1".to_owned(), members: 1, group: None };
        report.count([(party, Totals { handled: 1_234, ..Totals::default() })]);
        report
    }

    #[test]
    fn a_page_without_colours_is_plain_text_and_says_that_all_is_well() {
        let text = page(&report(), Paint::new(false));
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(text.contains("  OrderPlaced  orders  local   1,234\n"), "{text}");
        assert!(text.contains("OK: nothing lost"), "{text}");
        assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
    }

    #[test]
    fn a_fault_is_the_verdict_and_painted_where_colours_are_wanted() {
        let mut report = report();
        report.faults.lost = 2;
        let text = page(&report, Paint::new(true));
        assert!(text.contains("\u{1b}[1;31mFAILED:\u{1b}[0m 2 lost, 0 duplicates"), "{text}");
    }

    #[test]
    fn only_the_most_frequent_of_many_kinds_are_listed() {
        let mut report = report();
        report.details.kinds = (0_u64..20)
            .map(|number| (format!("Type{number}"), "t".to_owned(), Route::Remote, number + 1))
            .collect();
        let text = page(&report, Paint::new(false));
        assert!(text.contains("Type19") && !text.contains("Type3 "), "{text}");
        assert!(text.contains("and 8 more kinds"), "{text}");
    }
}
