//! The verbs that look.

use trunkline_launcher::Kind;

use super::scene::{at, finish, shared};
use crate::support::number;

pub(super) fn health_lag_and_metrics_say_what_the_broker_knows(kind: Kind) {
    let server = shared(kind);
    let program = || at(server, "look.#", &["look"]);
    for _event in 0..3 {
        finish(program().args(["publish", "look.a", "--data", "1"])).ends_with(0);
    }
    let ran = finish(program().args(["health", "--json"]));
    let health = ran.ends_with(0).report();
    assert_eq!(health["broker"], server.kind().name());
    assert_eq!(health["status"], "up", "{health}");
    assert_eq!(number(&health, "reconnects"), 0);

    let ran = finish(program().args(["lag", "--json"]));
    let report = ran.ends_with(0).report();
    let groups = report["groups"].as_array().unwrap();
    let group = groups.iter().find(|group| group["name"] == "look").expect("the group is there");
    assert_eq!((number(group, "lag"), number(group, "members")), (3, 0), "{group}");
    let table = finish(program().arg("lag")).ends_with(0).stdout.clone();
    assert!(table.lines().any(|row| row.starts_with("look ")), "{table}");

    let ran = finish(program().arg("metrics"));
    let text = &ran.ends_with(0).stdout;
    let broker = server.kind().name();
    for line in [
        &format!("trunkline_up{{broker=\"{broker}\"}} 1"),
        &format!("trunkline_reconnects_total{{broker=\"{broker}\"}} 0"),
        "trunkline_published_total 0",
        "trunkline_group_lag{group=\"look\"} 3",
        "trunkline_group_in_flight{group=\"look\"} 0",
        "trunkline_group_members{group=\"look\"} 0",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} in {text}");
    }
}
