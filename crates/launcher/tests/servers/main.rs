//! Each server is started, spoken to, killed, paused, restarted and left behind.
//!
//! Run with `--nocapture` to see how long each step takes.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test where it panics")]

mod docker;
mod redis;

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use trunkline_launcher::{Kind, Options, Server};

/// Set for the copy of this program that is killed.
const VICTIM: &str = "LAUNCHER_TEST_VICTIM";

fn timed<T>(what: &str, step: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let value = step();
    println!("{what}: {:.2} s", start.elapsed().as_secs_f64());
    value
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_open(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// Starts, kills and restarts one server; starting answers only once it was spoken to in its own protocol.
fn serves_again_after_a_kill(kind: Kind) -> Server {
    let server = timed(&format!("{kind} start"), || Server::start(kind).unwrap());
    let pid = server.pid().unwrap();
    assert!(server.url().contains(&format!("127.0.0.1:{}", server.port())));
    assert!(server.version().starts_with(|first: char| first.is_ascii_digit()));
    timed(&format!("{kind} kill"), || server.kill().unwrap());
    assert_eq!(server.pid(), None);
    assert!(!is_open(server.port()));
    timed(&format!("{kind} restart after SIGKILL"), || server.restart().unwrap());
    assert_ne!(server.pid().unwrap(), pid);
    server
}

/// The letter that the system has for what a process does; T is stopped.
fn state(pid: u32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    rest.split(' ').next().unwrap().to_owned()
}

/// Stops one server cleanly, although it was paused, and restarts it.
fn serves_again_after_a_stop(server: &Server) {
    let pid = server.pid().unwrap();
    server.pause().unwrap();
    eventually("the server is paused", || state(pid) == "T");
    server.resume().unwrap();
    eventually("the server goes on", || state(pid) != "T");
    server.pause().unwrap();
    timed(&format!("{} stop", server.kind()), || server.stop().unwrap());
    assert_eq!(server.pid(), None);
    timed(&format!("{} restart after stop", server.kind()), || server.restart().unwrap());
    assert!(server.pid().is_some());
}

#[test]
fn redis_keeps_its_data_through_kill_and_stop() {
    let server = serves_again_after_a_kill(Kind::Redis);
    assert_eq!(redis::ask(server.port(), "SET key value"), "+OK");
    server.kill().unwrap();
    server.restart().unwrap();
    assert_eq!(redis::ask(server.port(), "GET key"), "$5");
    serves_again_after_a_stop(&server);
    assert_eq!(redis::ask(server.port(), "GET key"), "$5");
}

#[test]
fn kafka_serves_again_after_kill_and_stop() {
    serves_again_after_a_stop(&serves_again_after_a_kill(Kind::Kafka));
}

#[test]
fn rabbitmq_serves_again_after_kill_and_stop() {
    serves_again_after_a_stop(&serves_again_after_a_kill(Kind::RabbitMq));
}

#[test]
fn postgres_serves_again_after_kill_and_stop() {
    serves_again_after_a_stop(&serves_again_after_a_kill(Kind::Postgres));
}

#[test]
fn a_paused_server_accepts_and_does_not_answer() {
    let server = Server::start(Kind::Redis).unwrap();
    server.pause().unwrap();
    let mut connection = redis::Connection::open(server.port());
    connection.send("PING");
    connection.nothing_comes();
    server.resume().unwrap();
    assert_eq!(connection.line(), "+PONG");
    server.pause().unwrap();
    server.kill().unwrap();
    assert_eq!(server.pid(), None);
    let error = server.pause().unwrap_err().to_string();
    assert!(error.contains("redis does not run"), "{error}");
}

#[test]
fn a_dropped_server_leaves_nothing_behind() {
    let server = Server::start(Kind::Redis).unwrap();
    let folder = redis::folder(server.port());
    assert!(Path::new(&folder).is_dir(), "{folder}");
    let port = server.port();
    drop(server);
    assert!(!is_open(port));
    assert!(!Path::new(&folder).exists(), "{folder}");
}

#[test]
fn a_setting_wins_over_the_launchers_own() {
    let options =
        Options::default().with_setting("appendonly", "no").with_setting("maxmemory", "10mb");
    let server = Server::start_with(Kind::Redis, options).unwrap();
    let mut connection = redis::Connection::open(server.port());
    connection.send("CONFIG GET maxmemory");
    let answer = std::array::from_fn::<_, 5, _>(|_| connection.line());
    assert_eq!(answer[4], "10485760");
    connection.send("CONFIG GET appendonly");
    let answer = std::array::from_fn::<_, 5, _>(|_| connection.line());
    assert_eq!(answer[4], "no");
}

#[test]
fn a_server_that_cannot_start_shows_the_end_of_its_log() {
    let options = Options::default().with_setting("no-such-setting", "1");
    let error = Server::start_with(Kind::Redis, options).unwrap_err().to_string();
    assert!(error.contains("redis did not start"), "{error}");
    assert!(error.contains("no-such-setting"), "{error}");
}

#[test]
fn a_kept_directory_is_used_on() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::default().with_directory(folder.path());
    let server = Server::start_with(Kind::Redis, options.clone()).unwrap();
    assert_eq!(redis::ask(server.port(), "SET key value"), "+OK");
    drop(server);
    let server = Server::start_with(Kind::Redis, options).unwrap();
    assert_eq!(redis::ask(server.port(), "GET key"), "$5");
}

#[test]
fn a_detached_server_outlives_its_value_and_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::default().with_directory(folder.path());
    assert!(Server::attach(Kind::Redis, &options).unwrap().is_none());
    let server = Server::start_with(Kind::Redis, options.clone().detached()).unwrap();
    let (pid, port) = (server.pid(), server.port());
    drop(server);

    let found = Server::attach(Kind::Redis, &options).unwrap().unwrap();
    assert_eq!((found.pid(), found.port()), (pid, port));
    assert_eq!(redis::ask(port, "SET key value"), "+OK");
    found.kill().unwrap();
    assert_eq!(Server::attach(Kind::Redis, &options).unwrap().unwrap().pid(), None);
    found.restart().unwrap();

    let found = Server::attach(Kind::Redis, &options).unwrap().unwrap();
    assert!(found.pid().is_some());
    assert_eq!(redis::ask(port, "GET key"), "$5");
    found.stop().unwrap();
    assert!(!is_open(port));
}

#[test]
fn kafka_advertises_the_proxy_to_those_who_come_through_it() {
    let server = Server::start(Kind::Kafka).unwrap();
    let proxied = server.proxied();
    assert_ne!(proxied.upstream.port(), server.port());
    assert!(proxied.url.ends_with(&format!(":{}", proxied.listen.port())));
    assert_eq!(advertised(server.port()), server.port());
    assert_eq!(advertised(proxied.upstream.port()), proxied.listen.port());
}

/// The port of the one broker in Kafka's answer to a metadata request.
fn advertised(port: u16) -> u16 {
    use std::io::{Read as _, Write as _};

    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(&[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0]).unwrap();
    // Length, number of the request, number of brokers, id, and the name "127.0.0.1" with its length.
    let mut head = [0; 4 + 4 + 4 + 4 + 2 + 9];
    stream.read_exact(&mut head).unwrap();
    assert!(head.ends_with(b"127.0.0.1"));
    let mut port = [0; 4];
    stream.read_exact(&mut port).unwrap();
    u16::try_from(u32::from_be_bytes(port)).unwrap()
}

#[test]
fn a_server_ends_with_the_process_that_started_it() {
    if let Ok(kind) = std::env::var(VICTIM) {
        let server = Server::start(kind.parse().unwrap()).unwrap();
        println!("\n{VICTIM} {}", server.port());
        loop {
            std::thread::park();
        }
    }
    for kind in [Kind::Redis, Kind::RabbitMq] {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "a_server_ends_with_the_process_that_started_it"])
            .env(VICTIM, kind.name())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            line.strip_prefix(VICTIM).map(|port| port.trim().parse::<u16>().unwrap())
        });
        let port = port.expect("the victim tells its port");
        assert!(is_open(port));
        victim.kill().unwrap();
        victim.wait().unwrap();
        eventually("the server is gone", || !is_open(port));
        eventually("its folder is gone", || !has_folder(kind, port));
    }
}

fn has_folder(kind: Kind, port: u16) -> bool {
    let name = format!("{kind}-{port}");
    let users = std::fs::read_dir(std::env::temp_dir()).unwrap();
    users.filter_map(Result::ok).any(|user| user.path().join(&name).exists())
}
