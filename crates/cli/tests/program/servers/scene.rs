//! A server, and the program pointed at it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use trunkline_launcher::{Kind, Server};

use crate::support::{Ran, trunkline};

/// A server that the tests of this process share; each keeps to topics and groups of its own.
pub(super) fn shared(kind: Kind) -> &'static Server {
    static SERVERS: [OnceLock<Server>; 3] = [const { OnceLock::new() }; 3];
    static STARTING: Mutex<()> = Mutex::new(());
    let place = match kind {
        Kind::Redis => 0,
        Kind::Kafka => 1,
        _ => 2,
    };
    // One at a time: a machine that starts three at once starts none of them soon.
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    SERVERS[place].get_or_init(|| own(kind))
}

/// A server that only this test has, to be killed.
pub(super) fn own(kind: Kind) -> Server {
    Server::start(kind).unwrap_or_else(|error| panic!("{error}"))
}

/// The program, pointed at the server, with the groups that `topics` are to have.
pub(super) fn at(server: &Server, topics: &str, groups: &[&str]) -> Command {
    let mut command = trunkline();
    command.env("TRUNKLINE__BROKER__TYPE", server.kind().name());
    command.env("TRUNKLINE__BROKER__URL", server.url());
    command.env("TRUNKLINE__CHANNELS__TEST__TOPICS", format!("[\"{topics}\"]"));
    let groups: Vec<_> = groups.iter().map(|group| format!("\"{group}\"")).collect();
    command.env("TRUNKLINE__CHANNELS__TEST__CONSUMERS", format!("[{}]", groups.join(",")));
    // Handing a partition over must not take a test's patience.
    match server.kind() {
        Kind::Kafka => command.env("TRUNKLINE__BROKER__SESSION_TIMEOUT_MS", "6000"),
        Kind::Redis => command.env("TRUNKLINE__BROKER__LEASE_TTL_MS", "3000"),
        _ => &mut command,
    };
    command
}

pub(super) fn finish(command: &mut Command) -> Ran {
    command.output().expect("the program starts").into()
}

/// The objects that were printed, one a line.
pub(super) fn objects(text: &str) -> Vec<Value> {
    let object = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    text.lines().map(object).collect()
}

/// The ids of events that were printed.
pub(super) fn ids(text: &str) -> Vec<String> {
    objects(text).iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

/// An event as a line of input.
pub(super) fn line(topic: &str, id: &str, key: &str) -> String {
    format!(
        "{{\"specversion\":\"1.0\",\"id\":\"{id}\",\"source\":\"/test\",\"type\":\"Tested\",\
         \"topic\":\"{topic}\",\"partitionkey\":\"{key}\",\"data\":{{\"id\":\"{id}\"}}}}\n"
    )
}

/// A program that runs, killed where the test does not wait for its end.
pub(super) struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

/// How long a line may take: longer than a server takes to hand a partition over, however busy the
/// machine is.
const PATIENCE: Duration = Duration::from_secs(240);

impl Running {
    pub(super) fn start(command: &mut Command) -> Self {
        // More than any test prints.
        Self::reading(command, 100_000)
    }

    /// As [`Running::start`], for one whose output backs up as long as the test does not read it.
    pub(super) fn start_unread(command: &mut Command) -> Self {
        Self::reading(command, 1)
    }

    /// Reads so many lines ahead.
    fn reading(command: &mut Command, ahead: usize) -> Self {
        command.stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut out = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
        let (sender, lines) = mpsc::sync_channel(ahead);
        thread::spawn(move || {
            let mut line = String::new();
            while out.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                if sender.send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// Waits for the next line of standard output.
    pub(super) fn line(&self) -> String {
        self.line_within(PATIENCE).expect("the program writes its next line in time")
    }

    /// The next line, unless none comes in that time.
    pub(super) fn line_within(&self, patience: Duration) -> Option<String> {
        self.lines.recv_timeout(patience).ok().filter(|line| line.ends_with('\n'))
    }

    /// Sends a signal, such as `TERM`.
    pub(super) fn signal(&self, signal: &str) {
        let mut kill = Command::new("kill");
        kill.args([&format!("-{signal}"), &self.child.id().to_string()]);
        assert!(kill.status().expect("kill is there").success());
    }

    /// The rest of standard output, and the exit status; none after a signal.
    pub(super) fn end(mut self) -> (String, Option<i32>) {
        let mut rest = String::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            rest.push_str(&line);
        }
        // Its output has ended, so it has too, or is about to.
        (rest, self.child.wait().expect("the program can be waited for").code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
