//! `cargo xtask test`: every test of the workspace, counted.

use std::io::{PipeReader, Read, Write};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::Breadth;
use crate::output::{Suite, TestOutput};
use crate::report::{self, EXPECTED_BACKENDS, Verdict};
use crate::workspace::{Failure, Workspace};

/// Where the totals are left for a caller that prints more after us.
const SUMMARY_FILE: &str = "target/xtask-summary";

/// The variable that asks the suites for their whole fault matrix.
const ALL_VARIABLE: &str = "TRUNKLINE_TEST_ALL";

/// How long a pipe that nobody writes to may stay open after cargo has ended. What cargo and the suites wrote is in
/// the pipe by then, so only a process that a test left behind can hold it longer.
const LEAK_GRACE: Duration = Duration::from_secs(2);

/// Runs the tests, shows their output while they run and the tables afterwards.
///
/// The caller prints the totals, because they must be the last line of whatever the caller does.
pub(crate) fn run(workspace: &Workspace, breadth: Breadth) -> Result<Verdict, Failure> {
    let summary = workspace.path(SUMMARY_FILE);
    // A run that ends before its totals must not leave those of an older run behind.
    save(&summary, "0 passed, 1 failed")?;
    let (mut suites, problems) = stream(workspace, breadth)
        .unwrap_or_else(|error| (Vec::new(), vec![format!("cannot run `cargo test`: {error}")]));
    for suite in &mut suites {
        if let Some(path) = source_path(workspace, suite) {
            suite.name = path;
        }
    }
    let verdict = report::judge(&suites, problems, EXPECTED_BACKENDS);
    println!("\n{}", verdict.tables);
    save(&summary, &verdict.totals)?;
    Ok(verdict)
}

fn save(path: &Path, totals: &str) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(path, format!("{totals}\n")))
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
}

fn stream(workspace: &Workspace, breadth: Breadth) -> std::io::Result<(Vec<Suite>, Vec<String>)> {
    let (reader, writer) = std::io::pipe()?;
    trunkline_launcher::build_tools().map_err(std::io::Error::other)?;
    let mut command = workspace.cargo("test --workspace --all-features --no-fail-fast");
    // One pipe for both: cargo names the suite on standard error, the suite reports on standard output.
    command.stdout(writer.try_clone()?).stderr(writer);
    if breadth == Breadth::All {
        command.env(ALL_VARIABLE, "1");
    }
    let mut child = command.spawn()?;
    // The command holds our copies of the pipe's writing end; with them open the end would never come.
    drop(command);

    let mut parser = TestOutput::default();
    let mut problems = Vec::new();
    let mut terminal = std::io::stdout().lock();
    let mut take = |chunk: &[u8]| {
        parser.feed(chunk);
        terminal.write_all(chunk)?;
        terminal.flush()
    };
    if forward(&mut child, &chunks(reader), &mut take, LEAK_GRACE)? == Ending::Leaked {
        problems.push(
            "a process that a test started still holds the output open: the test must end what it starts"
                .to_owned(),
        );
    }
    let suites = parser.finish();
    problems.extend(unexplained(child.wait()?, &suites));
    Ok((suites, problems))
}

/// A failed status that no suite accounts for; the others are already told by their suite.
fn unexplained(status: ExitStatus, suites: &[Suite]) -> Option<String> {
    let explained = suites.iter().any(|suite| suite.counts.is_none_or(|counts| counts.failed > 0));
    let says_why = status.success() || explained || suites.is_empty();
    (!says_why).then(|| {
        format!("`cargo test` ended with {status} although no test failed: see its messages above")
    })
}

fn chunks(mut reader: PipeReader) -> Receiver<std::io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let chunk = match reader.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(buffer[..count].to_vec()),
                Err(error) => Err(error),
            };
            let is_last = chunk.is_err();
            if sender.send(chunk).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Closed,
    Leaked,
}

/// Hands every chunk on until the pipe closes, or until cargo has ended and the pipe was quiet for `grace`.
fn forward(
    child: &mut Child,
    chunks: &Receiver<std::io::Result<Vec<u8>>>,
    take: &mut impl FnMut(&[u8]) -> std::io::Result<()>,
    grace: Duration,
) -> std::io::Result<Ending> {
    let mut quiet_since: Option<Instant> = None;
    loop {
        match chunks.recv_timeout(grace.min(Duration::from_millis(100))) {
            Ok(chunk) => {
                take(&chunk?)?;
                quiet_since = None;
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(Ending::Closed),
            Err(RecvTimeoutError::Timeout) => {
                if child.try_wait()?.is_none() {
                    continue;
                }
                if quiet_since.get_or_insert_with(Instant::now).elapsed() > grace {
                    return Ok(Ending::Leaked);
                }
            }
        }
    }
}

/// The path of a suite's source from the root of the workspace.
///
/// Cargo prints it from the root of the package, where every backend has a `tests/conformance.rs`. The compiler's
/// dependency file next to the binary has the longer path; without that file the suite keeps cargo's name.
fn source_path(workspace: &Workspace, suite: &Suite) -> Option<String> {
    let binary = workspace.path(suite.binary.as_ref()?);
    let dependencies = std::fs::read_to_string(binary.with_extension("d")).ok()?;
    let short = suite.name.strip_prefix("unittests ").unwrap_or(&suite.name);
    let ending = format!("/{short}");
    dependencies
        .lines()
        .next()?
        .split_whitespace()
        .find(|path| path.ends_with(&ending))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn run_shell(script: &str, grace: Duration) -> (Ending, Vec<Suite>) {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut parser = TestOutput::default();
        let mut take = |chunk: &[u8]| {
            parser.feed(chunk);
            Ok(())
        };
        let ending = forward(&mut child, &chunks(reader), &mut take, grace).unwrap();
        child.wait().unwrap();
        (ending, parser.finish())
    }

    #[test]
    fn keeps_standard_error_and_standard_output_in_the_order_written() {
        let (ending, suites) = run_shell(
            "echo '     Running tests/a.rs (target/a)' >&2; echo 'test memory/a ... ok'; \
             echo '     Running tests/b.rs (target/b)' >&2; echo 'test sqlite/b ... ok'",
            LEAK_GRACE,
        );
        assert_eq!(ending, Ending::Closed);
        assert!(suites[0].cases.contains_key("memory/a"));
        assert!(suites[1].cases.contains_key("sqlite/b"));
    }

    #[test]
    fn tells_of_a_process_that_outlives_the_tests_instead_of_waiting_for_it() {
        let (ending, _) = run_shell("sleep 5 & exit 0", Duration::from_millis(20));
        assert_eq!(ending, Ending::Leaked);
    }

    #[test]
    fn a_failed_status_without_a_failed_test_is_a_problem() {
        let failed = Command::new("false").status().unwrap();
        let mut parser = TestOutput::default();
        parser.feed(b"   Doc-tests a\ntest result: ok. 1 passed; 0 failed; 0 ignored\n");
        let suites = parser.finish();
        assert!(unexplained(failed, &suites).is_some());
        let passed = Command::new("true").status().unwrap();
        assert!(unexplained(passed, &suites).is_none());
    }
}
