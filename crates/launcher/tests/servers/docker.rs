//! The docker path, against a stand-in for the `docker` program that runs the machine's own Redis.
//!
//! Which program is found is a matter of the environment, so the steps run in a copy of this program.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use trunkline_launcher::{Kind, Server};

use crate::redis;

/// Set for the copy of this program that has the stand-in, to what it does at the end.
const COPY: &str = "LAUNCHER_TEST_COPY";
const READY: &str = "the copy is ready";

/// What the copy does.
fn steps(ending: &str) {
    let server = Server::start(Kind::Redis).unwrap();
    assert_eq!(redis::ask(server.port(), "SET key value"), "+OK");
    server.kill().unwrap();
    assert_eq!(server.pid(), None);
    server.restart().unwrap();
    assert_eq!(redis::ask(server.port(), "GET key"), "$5");
    server.pause().unwrap();
    server.resume().unwrap();
    assert_eq!(redis::ask(server.port(), "PING"), "+PONG");
    if ending == "wait" {
        println!("\n{READY}");
        loop {
            std::thread::park();
        }
    }
}

fn copy(test: &str, folder: &Path, ending: &str) -> Child {
    let docker = folder.join("docker");
    std::fs::write(&docker, include_str!("fake-docker.sh")).unwrap();
    std::fs::set_permissions(&docker, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test])
        .env("PATH", format!("{}:{path}", folder.display()))
        .env("FAKE_DOCKER", folder)
        .env(COPY, ending)
        // The engine that answers decides.
        .env_remove("TRUNKLINE_LAUNCHER")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The first words of each call.
fn calls(folder: &Path) -> Vec<String> {
    let calls = std::fs::read_to_string(folder.join("calls")).unwrap();
    let first = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    calls.lines().map(first).filter(|call| call != "inspect").collect()
}

#[test]
fn an_engine_that_answers_gets_the_server() {
    if let Ok(ending) = std::env::var(COPY) {
        return steps(&ending);
    }
    let folder = tempfile::tempdir().unwrap();
    let copy = copy("docker::an_engine_that_answers_gets_the_server", folder.path(), "drop");
    let output = copy.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(
        calls(folder.path()),
        ["info", "rm", "run", "kill", "wait", "stop", "start", "pause", "unpause", "rm"]
    );
    assert!(!folder.path().join("pid").exists(), "the server still runs");
}

#[test]
fn a_container_goes_with_the_process_that_started_it() {
    if let Ok(ending) = std::env::var(COPY) {
        return steps(&ending);
    }
    let folder = tempfile::tempdir().unwrap();
    let mut copy =
        copy("docker::a_container_goes_with_the_process_that_started_it", folder.path(), "wait");
    let mut lines = BufReader::new(copy.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == READY));
    copy.kill().unwrap();
    copy.wait().unwrap();
    let start = Instant::now();
    while folder.path().join("pid").exists() {
        assert!(start.elapsed() < Duration::from_secs(10), "the server still runs");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(calls(folder.path()).last().map(String::as_str), Some("rm"));
}
