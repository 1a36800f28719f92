//! Running the program.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The program with nothing of this process's environment that it would read.
pub(crate) fn trunkline() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().to_uppercase().starts_with("TRUNKLINE_") {
            command.env_remove(name);
        }
    }
    command.env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

/// What a run of the program left behind.
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The object on the last line of standard output.
    pub(crate) fn report(&self) -> Value {
        let last = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| {
            panic!(
                "{error} in {last:?}; status {:?}, none is a signal; standard error: {}",
                self.status, self.stderr
            )
        })
    }

    /// Asserts the exit status, and shows what the program said where it is another.
    pub(crate) fn ends_with(&self, status: i32) -> &Self {
        assert_eq!(self.status, Some(status), "{}\n{}", self.stdout, self.stderr);
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("the program writes UTF-8");
        let status = output.status.code();
        Self { status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// Runs the program with these arguments.
pub(crate) fn run(arguments: &[&str]) -> Ran {
    trunkline().args(arguments).output().expect("the program starts").into()
}

/// Runs `demo --json` on a file of these bytes, with further arguments.
pub(crate) fn demo_on(input: &[u8], arguments: &[&str]) -> Ran {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "input.ndjson", input);
    let mut command = trunkline();
    command.args(["demo", "--json", "--input"]).arg(path).args(arguments);
    command.output().expect("the program starts").into()
}

/// Runs the program with `input` on its standard input.
pub(crate) fn run_on_stdin(arguments: &[&str], input: &[u8]) -> Ran {
    let mut command = trunkline();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    stdin.write_all(input).expect("the program reads its standard input");
    drop(stdin);
    child.wait_with_output().expect("the program ends").into()
}

/// Writes a file into the folder.
pub(crate) fn file(folder: &TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, content).expect("the folder can be written to");
    path
}

/// An event as a line of input.
pub(crate) fn line(id: &str, key: &str) -> String {
    format!(
        "{{\"specversion\":\"1.0\",\"id\":\"{id}\",\"source\":\"/test\",\"type\":\"Tested\",\
         \"topic\":\"tests\",\"partitionkey\":\"{key}\",\"data\":{{\"id\":\"{id}\"}}}}"
    )
}

/// A file that is part of the repository.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A number of the report.
#[track_caller]
pub(crate) fn number(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("`{name}` is no whole number in {report}"))
}

/// Asserts that `published` events came through everybody whole, once and in order.
#[track_caller]
pub(crate) fn assert_all_settled(report: &Value, published: u64) {
    assert_eq!(number(report, "published"), published, "{report}");
    for name in ["lost", "duplicates", "out_of_order", "dead_lettered"] {
        assert_eq!(number(report, name), 0, "{name} in {report}");
    }
    let handled = report["handled"].as_object().expect("`handled` is an object");
    assert_eq!(handled.len(), 3, "{report}");
    assert!(handled.values().all(|count| count.as_u64() == Some(published)), "{report}");
    let routes = ["routed_local", "routed_remote", "routed_both"];
    let routed: u64 = routes.iter().map(|name| number(report, name)).sum();
    assert_eq!(routed, published, "{report}");
}
