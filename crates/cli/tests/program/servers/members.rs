//! Members of one group, as processes.

use std::collections::HashSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use trunkline_launcher::Kind;

use super::scene::{Running, at, ids, line, shared};
use crate::support::Ran;

const EVENTS: usize = 3_000;
/// How long what a killed member had may take to come to the other.
const BOUND: Duration = Duration::from_secs(90);

pub(super) fn nothing_is_lost_when_one_of_two_members_is_killed_under_load(kind: Kind) {
    let server = shared(kind);
    let lines: Vec<String> = (0..EVENTS)
        .map(|n| line("crowd.a", &format!("c{n}"), &format!("key-{}", n % 100)))
        .collect();
    let program = || at(server, "crowd.#", &["crowd"]);
    let member = |start: fn(&mut Command) -> Running| {
        let mut command = program();
        start(command.args(["subscribe", "crowd.#", "--group", "crowd", "--json"]))
    };
    // What the doomed one prints is read no further than the test has come: it stands with its hands full.
    let (doomed, heir) = (member(Running::start_unread), member(Running::start));
    let mut command = program();
    command.args(["publish", "--json", "--ndjson", "-"]).stdin(Stdio::piped());
    let mut publisher = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = publisher.stdin.take().unwrap();
    let publishing = thread::spawn(move || Ran::from(publisher.wait_with_output().unwrap()));
    input.write_all(lines[..EVENTS / 2].concat().as_bytes()).unwrap();
    let mut seen: HashSet<String> = HashSet::new();
    for _event in 0..50 {
        seen.extend(ids(&doomed.line()));
    }
    doomed.signal("KILL");
    assert!(!publishing.is_finished(), "half of the events come after the kill");
    input.write_all(lines[EVENTS / 2..].concat().as_bytes()).unwrap();
    drop(input);
    // Its last line may be cut short: such an event was never acknowledged.
    let (rest, _) = doomed.end();
    let whole = rest.rfind('\n').map_or("", |end| &rest[..=end]);
    seen.extend(ids(whole));
    let of_doomed = seen.len();
    assert!((50..EVENTS / 2).contains(&of_doomed), "it was killed amid its work: {of_doomed}");
    let published = publishing.join().unwrap();
    assert_eq!(published.ends_with(0).report()["published"], EVENTS, "{}", published.stderr);

    let began = Instant::now();
    while seen.len() < EVENTS {
        let Some(line) = heir.line_within(BOUND.saturating_sub(began.elapsed())) else { break };
        seen.extend(ids(&line));
    }
    let lost: Vec<_> =
        (0..EVENTS).map(|n| format!("c{n}")).filter(|id| !seen.contains(id)).collect();
    assert!(
        lost.is_empty(),
        "lost {} such as {:?}; {of_doomed} were of the killed",
        lost.len(),
        &lost[..lost.len().min(5)]
    );
}
