//! A server, and the program pointed at it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

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
    child: Option<Child>,
    lines: BufReader<ChildStdout>,
}

impl Running {
    pub(super) fn start(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("the program starts");
        let lines = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
        Self { child: Some(child), lines }
    }

    /// Waits for the next line of standard output.
    pub(super) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("the program writes UTF-8");
        assert!(line.ends_with('\n'), "the program ended before its next line: {line:?}");
        line
    }

    /// Sends a signal, such as `TERM`.
    pub(super) fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("the program runs");
        let mut kill = Command::new("kill");
        kill.args([&format!("-{signal}"), &child.id().to_string()]);
        assert!(kill.status().expect("kill is there").success());
    }

    /// The rest of standard output, and the exit status; none after a signal.
    pub(super) fn end(mut self) -> (String, Option<i32>) {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).expect("the program writes UTF-8");
        let mut child = self.child.take().expect("the program runs");
        (rest, child.wait().expect("the program ends").code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
