//! Members of one group, as processes.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use trunkline_launcher::Kind;

use super::scene::{Running, at, finish, ids, line, shared};
use crate::support::file;

const EVENTS: usize = 3_000;
/// How long what a killed member had may take to come to the other.
const BOUND: Duration = Duration::from_secs(90);

pub(super) fn nothing_is_lost_when_one_of_two_members_is_killed_under_load(kind: Kind) {
    let server = shared(kind);
    let folder = TempDir::new().unwrap();
    let lines: String = (0..EVENTS)
        .map(|n| line("crowd.a", &format!("c{n}"), &format!("key-{}", n % 100)))
        .collect();
    let input = file(&folder, "input.ndjson", lines.as_bytes());
    let program = || at(server, "crowd.#", &["crowd"]);
    let member = || {
        let mut command = program();
        command.args(["subscribe", "crowd.#", "--group", "crowd", "--json"]);
        Running::start(&mut command)
    };
    let (doomed, heir) = (member(), member());
    let publishing = {
        let mut command = program();
        command.args(["publish", "--json", "--ndjson"]).arg(&input);
        thread::spawn(move || finish(&mut command))
    };
    // Under load: it has printed some, and most are still to come.
    let mut seen: HashSet<String> = HashSet::new();
    for _event in 0..50 {
        seen.extend(ids(&doomed.line()));
    }
    doomed.signal("KILL");
    // Its last line may be cut short: such an event was never acknowledged.
    let (rest, _) = doomed.end();
    let whole = rest.rfind('\n').map_or("", |end| &rest[..=end]);
    seen.extend(ids(whole));
    let of_doomed = seen.len();
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
