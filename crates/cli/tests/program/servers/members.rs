//! Members of one group, as processes.

use std::collections::HashSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use trunkline_launcher::Kind;

use super::scene::{Running, at, ids, line, shared};
use crate::support::Ran;

/// Events that come at once before the kill, and as many after it.
const BURST: usize = 1_500;
/// How long what a killed member had may take to come to the other.
const BOUND: Duration = Duration::from_secs(240);

/// Writes `count` events more, with numbers from `sent` on.
fn send(input: &mut impl Write, sent: &mut usize, count: usize) {
    let line = |n: usize| line("crowd.a", &format!("c{n}"), &format!("key-{}", n % 100));
    let lines: String = (*sent..*sent + count).map(line).collect();
    input.write_all(lines.as_bytes()).expect("the publisher reads its input");
    *sent += count;
}

pub(super) fn nothing_is_lost_when_one_of_two_members_is_killed_under_load(kind: Kind) {
    let server = shared(kind);
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
    let (mut sent, mut seen) = (0, HashSet::new());
    // Events come until it has its share, however late it joins.
    let has_joined = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !has_joined.load(Ordering::Relaxed) {
                send(&mut input, &mut sent, 10);
                thread::sleep(Duration::from_millis(20));
            }
        });
        let first: Vec<_> = (0..50).map_while(|_| doomed.line_within(BOUND)).collect();
        has_joined.store(true, Ordering::Relaxed);
        assert_eq!(first.len(), 50, "it gets nothing");
        seen.extend(first.iter().flat_map(|line| ids(line)));
    });
    send(&mut input, &mut sent, BURST);
    doomed.signal("KILL");
    assert!(!publishing.is_finished(), "half of the events come after the kill");
    send(&mut input, &mut sent, BURST);
    drop(input);
    // Its last line may be cut short: such an event was never acknowledged.
    let (rest, _) = doomed.end();
    let whole = rest.rfind('\n').map_or("", |end| &rest[..=end]);
    seen.extend(ids(whole));
    let of_doomed = seen.len();
    assert!((50..sent - BURST).contains(&of_doomed), "it was killed amid its work: {of_doomed}");
    let published = publishing.join().unwrap();
    assert_eq!(published.ends_with(0).report()["published"], sent, "{}", published.stderr);

    let began = Instant::now();
    while seen.len() < sent {
        let Some(line) = heir.line_within(BOUND.saturating_sub(began.elapsed())) else { break };
        seen.extend(ids(&line));
    }
    let lost: Vec<_> = (0..sent).map(|n| format!("c{n}")).filter(|id| !seen.contains(id)).collect();
    assert!(
        lost.is_empty(),
        "lost {} such as {:?}; {of_doomed} were of the killed",
        lost.len(),
        &lost[..lost.len().min(5)]
    );
}
