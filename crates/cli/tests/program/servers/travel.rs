//! From `publish` to `subscribe`.

use std::process::Stdio;

use tempfile::TempDir;
use trunkline_launcher::Kind;

use super::scene::{Running, at, finish, ids, line, objects, shared};
use crate::support::file;

/// Seconds that no start and no hand-over takes, however busy the machine is.
const LONG: &str = "240";

pub(super) fn what_is_published_is_what_is_subscribed(kind: Kind) {
    let server = shared(kind);
    let program = || at(server, "travel.#", &["travel"]);
    let publish = [
        &["publish", "travel.placed", "--type", "TravelBooked", "--key", "ann"][..],
        &["--priority", "high", "--data", "{\"cents\":1250,\"name\":\"Zoë\"}"],
    ];
    let published = finish(program().args(publish.concat()));
    let id = published.ends_with(0).stdout.trim().to_owned();
    let subscribe = ["subscribe", "travel.#", "--group", "travel", "--json", "--count", "1"];
    let subscribed = finish(program().args(subscribe).args(["--timeout", LONG]));
    let events = objects(&subscribed.ends_with(0).stdout);
    assert_eq!(events.len(), 1, "{events:?}");
    let event = &events[0];
    let fields = ["id", "topic", "type", "partitionkey", "priority"].map(|name| &event[name]);
    assert_eq!(fields, [&id, "travel.placed", "TravelBooked", "ann", "high"], "{event}");
    assert_eq!(event["data"], serde_json::json!({ "cents": 1250, "name": "Zoë" }));

    let second = finish(program().args(["publish", "travel.shipped", "--json", "--data", "7"]));
    let second = second.ends_with(0).report();
    assert_eq!(second["topic"], "travel.shipped");
    let people = ["subscribe", "travel.#", "--group", "travel", "--count", "1", "--timeout", LONG];
    let seen = finish(program().args(people));
    let text = &seen.ends_with(0).stdout;
    assert_eq!(text.lines().count(), 1, "{text}");
    let id = second["id"].as_str().unwrap();
    assert!(text.contains(id) && text.contains("travel.shipped  Message"), "{text}");
}

pub(super) fn subscribe_pipes_into_publish(kind: Kind) {
    const EVENTS: usize = 200;
    let server = shared(kind);
    let folder = TempDir::new().unwrap();
    let lines: String = (0..EVENTS)
        .map(|n| line("pipe.a", &format!("pipe-{n:03}"), &format!("key-{}", n % 5)))
        .collect();
    let input = file(&folder, "input.ndjson", lines.as_bytes());
    let here = || at(server, "pipe.#", &["source"]);
    let there = || {
        let mut command = at(server, "pipe.#", &["target"]);
        command.env("TRUNKLINE__BROKER__PREFIX", "copy-");
        command
    };
    let ran = finish(here().args(["publish", "--json", "--ndjson"]).arg(&input));
    assert_eq!(ran.ends_with(0).report()["published"], EVENTS, "{}", ran.stderr);

    let count = EVENTS.to_string();
    let mut source = here();
    source.args(["subscribe", "pipe.#", "--group", "source", "--json", "--count", &count]);
    let mut source = source.stdout(Stdio::piped()).spawn().unwrap();
    let pipe = source.stdout.take().unwrap();
    let copied = finish(there().args(["publish", "--json", "--ndjson", "-"]).stdin(pipe));
    assert!(source.wait().unwrap().success());
    assert_eq!(copied.ends_with(0).report()["published"], EVENTS, "{}", copied.stderr);

    let mut target = there();
    target.args(["subscribe", "pipe.#", "--group", "target", "--json", "--count", &count]);
    let seen = finish(target.args(["--timeout", LONG]));
    let seen = ids(&seen.ends_with(0).stdout);
    for key in 0..5 {
        let of_key = |id: &&String| id[5..].parse::<usize>().unwrap() % 5 == key;
        let got: Vec<_> = seen.iter().filter(of_key).cloned().collect();
        let sent: Vec<_> =
            (0..EVENTS).filter(|n| n % 5 == key).map(|n| format!("pipe-{n:03}")).collect();
        assert_eq!(got, sent, "key {key} in order, each once");
    }
}

pub(super) fn bad_lines_are_named_and_the_rest_flows(kind: Kind) {
    let server = shared(kind);
    let folder = TempDir::new().unwrap();
    let good = |id| line("bad.a", id, "k");
    let text = format!("{}no event\n{}{}", good("b1"), good("b1"), good("b2"));
    let input = file(&folder, "input.ndjson", text.as_bytes());
    let program = || at(server, "bad.#", &["bad"]);
    let ran = finish(program().args(["publish", "--json", "--ndjson"]).arg(&input));
    let report = ran.ends_with(3).report();
    assert_eq!((&report["published"], &report["rejected"]), (&2.into(), &2.into()));
    let told: Vec<_> = ran.stderr.lines().filter(|line| line.starts_with("rejected")).collect();
    assert!(told[0].contains("line 2 of ") && told[1].contains("line 3 of "), "{told:?}");
    let subscribe = ["subscribe", "bad.#", "--group", "bad", "--json", "--count", "2"];
    let seen = finish(program().args(subscribe).args(["--timeout", LONG]));
    assert_eq!(ids(&seen.ends_with(0).stdout), ["b1", "b2"]);
}

pub(super) fn a_subscriber_without_a_group_prints_what_comes_from_now_on(kind: Kind) {
    let server = shared(kind);
    // A group of its own, so that an event is never without a taker.
    let program = || at(server, "live.#", &["live"]);
    let publish = |topic: &str| finish(program().args(["publish", topic, "--data", "1"]));
    publish("live.before").ends_with(0);
    let mut log = program();
    log.args(["subscribe", "live.#", "--json", "--count", "1", "--timeout", LONG]);
    let running = Running::start(&mut log);
    // Whether it listens already is seen only by what it prints: events come until one is printed.
    let mut sent = Vec::new();
    let (first, status) = std::thread::scope(|scope| {
        let waiting = scope.spawn(move || (running.line(), running.end().1));
        while !waiting.is_finished() {
            let published = publish("live.after");
            sent.push(published.ends_with(0).stdout.trim().to_owned());
        }
        waiting.join().unwrap()
    });
    assert_eq!(status, Some(0));
    let event = &objects(&first)[0];
    assert_eq!(event["topic"], "live.after", "what was before is not printed");
    assert!(sent.iter().any(|id| event["id"] == *id), "{event} is none of {sent:?}");
}
