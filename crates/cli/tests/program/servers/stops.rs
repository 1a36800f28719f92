//! How `subscribe` ends.

use tempfile::TempDir;
use trunkline_launcher::Kind;

use super::scene::{Running, at, finish, ids, line, shared};
use crate::support::{file, number};

pub(super) fn a_time_limit_ends_with_status_4(kind: Kind) {
    let server = shared(kind);
    let program = || at(server, "limit.#", &["limit"]);
    finish(program().args(["publish", "limit.a", "--data", "1"])).ends_with(0);
    let subscribe = ["subscribe", "limit.#", "--group", "limit", "--json", "--count", "2"];
    // The limit holds for the start too: one that took all of it prints nothing, and takes nothing away.
    let printed = ["12", "60", "240"].into_iter().find_map(|limit| {
        let ran = finish(program().args(subscribe).args(["--timeout", limit]));
        let printed = ids(&ran.ends_with(4).stdout);
        (!printed.is_empty()).then_some(printed)
    });
    assert_eq!(printed.map(|ids| ids.len()), Some(1));
}

pub(super) fn sigterm_and_ctrl_c_are_clean_closes(kind: Kind) {
    let server = shared(kind);
    let folder = TempDir::new().unwrap();
    let program = || at(server, "stop.#", &["stop"]);
    for (signal, more, status) in [("TERM", &[][..], 0), ("INT", &["--count", "100"], 130)] {
        let events: String =
            (0..10).map(|n| line("stop.a", &format!("{signal}-{n}"), "k")).collect();
        let input = file(&folder, signal, events.as_bytes());
        finish(program().args(["publish", "--ndjson"]).arg(&input)).ends_with(0);
        let mut command = program();
        command.args(["subscribe", "stop.#", "--group", "stop", "--json"]).args(more);
        let running = Running::start(&mut command);
        let printed: String = (0..10).map(|_| running.line()).collect();
        let expected: Vec<_> = (0..10).map(|n| format!("{signal}-{n}")).collect();
        assert_eq!(ids(&printed), expected, "no earlier one again: all were acknowledged");
        running.signal(signal);
        let (rest, ended) = running.end();
        assert_eq!((rest.as_str(), ended), ("", Some(status)), "{signal}");
    }
    let lag = finish(program().args(["lag", "--json"]));
    let report = lag.ends_with(0).report();
    let groups = report["groups"].as_array().unwrap();
    let group = groups.iter().find(|group| group["name"] == "stop").expect("the group stays");
    assert_eq!((number(group, "lag"), number(group, "in_flight")), (0, 0), "{group}");
}
