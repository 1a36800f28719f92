//! The chores of the trunkline workspace, run as `cargo xtask COMMAND`.
//!
//! Each command is one file; [`output`] and [`report`] decide together whether a test run was worth its green.

mod brokers;
mod ci;
mod conformance;
mod demo;
mod deny;
mod examples;
mod output;
mod report;
mod test;
mod workspace;

use std::process::ExitCode;

use workspace::{Failure, Workspace};

const HELP: &str = "\
The chores of the trunkline workspace.

Usage: cargo xtask COMMAND [OPTIONS]

Commands:
  test [--all]              Run every test and count the cases of each backend.
                            --all sets TRUNKLINE_TEST_ALL=1 for the tests: suites that draw a
                            sample of their fault matrix then run all of it.
  examples                  Run every example and compare what it prints with its
                            expected-output.txt, byte by byte.
  ci [--all] [--no-tests]   fmt, clippy, docs, deny, test, examples, demo. Every step runs, even
                            after one failed. --no-tests leaves `test` out, for a caller that has
                            just run it.
  brokers up|down|status|kill|restart [redis|kafka|rabbitmq|postgres]
                            Real servers on their usual ports, or all four of them without a name.
                            They go on when this ends; data and logs stay in target/brokers, or in
                            TRUNKLINE_BROKERS_DIR. down is a clean stop, kill a SIGKILL, and restart
                            starts again on the same data. up NAME --port N takes another port, or
                            with 0 a free one; status --json prints an array of {name, url, pid,
                            version}.
  conformance-table         Write docs/conformance.md from the last complete run of each backend's
                            suite: which property holds where, and how long it takes.
  help                      Print this.

`test` fails when a test failed, when one was ignored, when a suite ended without a result, when an
expected backend ran no case, and when nothing ran. Its last line is `N passed, N failed`, where each
of these reasons counts as a failure; the line is also written to target/xtask-summary.

Exit status: 0 when all is well, 1 when a check failed, 2 when the command line was not understood.

Examples:
  cargo xtask test
  cargo xtask test --all
  cargo xtask ci --no-tests
  cargo xtask brokers up redis
";

/// Whether the suites run a sample of their fault matrix or all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breadth {
    Sample,
    All,
}

#[derive(Debug, PartialEq, Eq)]
enum Task {
    Help,
    Test(Breadth),
    Examples,
    ConformanceTable,
    Ci(ci::Plan),
    Brokers(brokers::Order),
}

/// How a task ended.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) result: Result<(), Failure>,
    /// The totals of a test run, which other programs look for in the last line.
    pub(crate) last_line: Option<String>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let task = match parse(&arguments) {
        Ok(task) => task,
        Err(failure) => {
            eprintln!("error: {failure}");
            return ExitCode::from(2);
        }
    };
    let ending = Workspace::discover()
        .and_then(|workspace| run(&workspace, &task))
        .unwrap_or_else(|failure| Ending { result: Err(failure), last_line: None });
    if let Err(failure) = &ending.result {
        eprintln!("error: {failure}");
    }
    if let Some(line) = ending.last_line {
        println!("{line}");
    }
    match ending.result {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn parse(arguments: &[String]) -> Result<Task, Failure> {
    let Some((command, flags)) = arguments.split_first() else {
        return Ok(Task::Help);
    };
    let allowed: &[&str] = match command.as_str() {
        "test" => &["--all"],
        "ci" => &["--all", "--no-tests"],
        "examples" | "conformance-table" => &[],
        "brokers" if !flags.iter().any(|flag| flag == "--help" || flag == "-h") => {
            return brokers::parse(flags).map(Task::Brokers);
        }
        "brokers" => return Ok(Task::Help),
        "help" | "--help" | "-h" => return Ok(Task::Help),
        unknown => {
            return Err(Failure::new(format!(
                "there is no command `{unknown}`; `cargo xtask help` lists them"
            )));
        }
    };
    if flags.iter().any(|flag| flag == "--help" || flag == "-h") {
        return Ok(Task::Help);
    }
    if let Some(unknown) = flags.iter().find(|flag| !allowed.contains(&flag.as_str())) {
        return Err(Failure::new(format!(
            "`{command}` does not take `{unknown}`; `cargo xtask help` lists the options"
        )));
    }
    let given = |name: &str| flags.iter().any(|flag| flag == name);
    let breadth = if given("--all") { Breadth::All } else { Breadth::Sample };
    Ok(match command.as_str() {
        "test" => Task::Test(breadth),
        "ci" if given("--no-tests") => Task::Ci(ci::Plan::WithoutTests),
        "ci" => Task::Ci(ci::Plan::Everything(breadth)),
        "conformance-table" => Task::ConformanceTable,
        _ => Task::Examples,
    })
}

fn run(workspace: &Workspace, task: &Task) -> Result<Ending, Failure> {
    let result = match task {
        Task::Help => {
            print!("{HELP}");
            Ok(())
        }
        Task::Test(breadth) => return test::run(workspace, *breadth).map(report::Verdict::ending),
        Task::Examples => examples::run(workspace),
        Task::ConformanceTable => conformance::run(workspace),
        Task::Brokers(order) => brokers::run(workspace, order),
        Task::Ci(plan) => return Ok(ci::run(workspace, *plan)),
    };
    Ok(Ending { result, last_line: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Task, String> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&arguments).map_err(|failure| failure.to_string())
    }

    #[test]
    fn understands_every_command_and_option_of_the_help() {
        assert_eq!(parsed(""), Ok(Task::Help));
        assert_eq!(parsed("test"), Ok(Task::Test(Breadth::Sample)));
        assert_eq!(parsed("test --all"), Ok(Task::Test(Breadth::All)));
        assert_eq!(parsed("examples"), Ok(Task::Examples));
        assert_eq!(parsed("conformance-table"), Ok(Task::ConformanceTable));
        assert_eq!(parsed("ci --all"), Ok(Task::Ci(ci::Plan::Everything(Breadth::All))));
        assert_eq!(parsed("ci --no-tests"), Ok(Task::Ci(ci::Plan::WithoutTests)));
        assert_eq!(parsed("test --help"), Ok(Task::Help));
        assert!(matches!(parsed("brokers status --json"), Ok(Task::Brokers(_))));
        assert_eq!(parsed("brokers --help"), Ok(Task::Help));
    }

    #[test]
    fn refuses_an_option_that_the_command_would_ignore() {
        let error = parsed("test --no-tests").unwrap_err();
        assert!(error.contains("`test` does not take `--no-tests`"), "{error}");
    }

    #[test]
    fn refuses_a_command_that_does_not_exist() {
        let error = parsed("tests").unwrap_err();
        assert!(error.contains("no command `tests`"), "{error}");
    }
}
