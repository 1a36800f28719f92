//! A process that writes, acknowledges and is killed.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitCode, Stdio};

use trunkline_core::{EventStore, ExpectedVersion, Result};
use trunkline_sql::{SqliteConfig, SqliteStore};
use trunkline_testing::{Check, Failure};

/// Names the database to this binary when it runs as the process to be killed.
const VARIABLE: &str = "TRUNKLINE_TEST_CRASH_WRITER";

/// Enough that the kill meets a commit under way.
const ACKNOWLEDGED: usize = 200;

/// Runs as the writer when this process was started to be one.
pub(crate) fn run_as_writer() -> Option<ExitCode> {
    let url = std::env::var(VARIABLE).ok()?;
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let error = runtime.block_on(write_for_ever(&url)).expect_err("it never ends well");
    eprintln!("the writer stopped: {error}");
    Some(ExitCode::FAILURE)
}

/// Prints the id of every event after its append has returned.
async fn write_for_ever(url: &str) -> Result<std::convert::Infallible> {
    let store = SqliteStore::open(url, SqliteConfig::default()).await?;
    let mut output = std::io::stdout();
    loop {
        let batch = [super::event()?, super::event()?];
        store.append("s", ExpectedVersion::Any, &batch).await?;
        for event in &batch {
            writeln!(output, "{}", event.id()).expect("whoever kills us reads this");
        }
        output.flush().expect("whoever kills us reads this");
    }
}

pub(crate) async fn survives_kill_9() -> Check {
    let folder = super::folder();
    let url = super::url(&folder);
    let mut acknowledged = Vec::new();
    // A second writer finds what the first one left, its half-written log included.
    for _ in 0..3 {
        let database = url.clone();
        let killed = tokio::task::spawn_blocking(move || acknowledge_and_kill(&database)).await;
        acknowledged.extend(killed.map_err(|cause| Failure::new(cause.to_string()))?);
        let store = SqliteStore::open(&url, SqliteConfig::default()).await?;
        let log = super::log(&store).await?;
        let stored: Vec<_> = log.iter().map(|recorded| recorded.event.id().to_string()).collect();
        let lost = acknowledged.iter().filter(|id| !stored.contains(id)).count();
        super::holds(lost == 0, format!("{lost} acknowledged events are lost"))?;
        let versions: Vec<_> = log.iter().map(|recorded| recorded.version).collect();
        let contiguous: Vec<_> = (1..).take(versions.len()).collect();
        super::holds(versions == contiguous, "the versions have a gap")?;
        super::holds(versions.len() % 2 == 0, "half of a batch is stored")?;
        store.close().await;
    }
    Ok(())
}

/// Starts a writer, reads what it acknowledges, and kills it in the middle of its work.
fn acknowledge_and_kill(url: &str) -> Vec<String> {
    let mut writer = Writer::start(url);
    let output = writer.0.stdout.take().expect("the output is piped");
    let mut lines = BufReader::new(output).lines();
    let mut acknowledged: Vec<String> = Vec::new();
    while acknowledged.len() < ACKNOWLEDGED {
        let line = lines.next().expect("the writer goes on until it is killed");
        acknowledged.push(line.expect("an id is text"));
    }
    drop(writer);
    // What was still in the pipe was acknowledged too; a line that was cut was not.
    acknowledged.extend(lines.map_while(std::result::Result::ok).filter(|line| line.len() == 36));
    acknowledged
}

/// Killed when dropped, also by a test that fails.
struct Writer(Child);

impl Writer {
    fn start(url: &str) -> Self {
        let binary = std::env::current_exe().expect("a process knows its binary");
        let mut command = Command::new(binary);
        command.env(VARIABLE, url).stdin(Stdio::null()).stdout(Stdio::piped());
        Self(command.spawn().expect("the writer starts"))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.kill().expect("the writer runs until it is killed");
        self.0.wait().expect("a killed process ends");
    }
}
