//! What mistakes are answered with.

use trunkline::config::Config;
use trunkline_core::ErrorKind;

use super::problems;

#[test]
fn an_unknown_key_is_named_with_its_place_its_neighbour_and_the_known_ones() {
    let text = "[channels.security]\ntopics = [\"security.#\"]\nretry = { atempts = 3 }\n";
    let expected = "app.toml:3:11: channels.security.retry.atempts: unknown key; did you mean \
                    `attempts`? known keys: `delay_ms`, `immediate`, `attempts`, `backoff`, \
                    `initial_delay_ms`, `max_delay_ms`, `jitter`";
    assert_eq!(problems(text), [expected]);
}

#[test]
fn an_unknown_section_is_named_without_a_guess_when_none_is_near() {
    let expected = "app.toml:1:2: telemetry: unknown key; known keys: `bus`, `broker`, `routing`, \
                    `store`, `channels`";
    assert_eq!(problems("[telemetry]\nx = 1\n"), [expected]);
}

#[test]
fn a_wrong_type_says_what_was_expected_and_what_was_found() {
    let text = "[bus]\nenabled = \"yes\"\nsource = 5\nmax_event_bytes = 1.5\n\
                close_timeout_ms = 2026-01-01\n[channels]\na = 1\nb = { topics = \"b\" }\n\
                c = { topics = [1] }\n";
    let expected = [
        "app.toml:2:11: bus.enabled: expected a boolean, found a string",
        "app.toml:3:10: bus.source: expected a string, found an integer",
        "app.toml:4:19: bus.max_event_bytes: expected an integer, found a float",
        "app.toml:5:20: bus.close_timeout_ms: expected an integer, found a date or time",
        "app.toml:7:5: channels.a: expected a table, found an integer",
        "app.toml:8:16: channels.b.topics: expected an array, found a string",
        "app.toml:9:17: channels.c.topics[0]: expected a string, found an integer",
    ];
    assert_eq!(problems(text), expected);
}

#[test]
fn a_number_out_of_range_says_the_range() {
    let text = "[bus]\nmax_event_bytes = 0\npublish_timeout_ms = -5\nclose_timeout_ms = 1e9\n\
                [channels.a]\ntopics = [\"a\"]\npartitions = 4294967296\nbuffer_size = 0\n";
    let expected = [
        "app.toml:2:19: bus.max_event_bytes: must be at least 1",
        "app.toml:3:22: bus.publish_timeout_ms: must be at least 1",
        "app.toml:4:20: bus.close_timeout_ms: expected an integer, found a float",
        "app.toml:7:14: channels.a.partitions: must be at most 4294967295",
        "app.toml:8:15: channels.a.buffer_size: must be at least 1",
    ];
    assert_eq!(problems(text), expected);
}

#[test]
fn invalid_names_patterns_and_urls_are_refused_with_their_rule() {
    let text = "[store]\ntype = \"sqlite\"\nurl = \"postgres://h/db\"\n[channels.a]\n\
                topics = [\"a..b\", \"a.#\"]\nconsumers = [\"a b\"]\n";
    let found = problems(text);
    let expected = [
        "app.toml:3:7: store.url: the URL begins with `postgres:`, expected `sqlite`",
        "app.toml:5:11: channels.a.topics[0]: pattern: a pattern is a topic in which",
        "app.toml:6:14: channels.a.consumers[0]: group: a group name is words of letters",
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, start) in found.iter().zip(expected) {
        assert!(found.starts_with(start), "{found}");
    }
}

#[test]
fn a_word_that_is_none_of_the_choices_lists_them() {
    let text = "[broker]\ntype = \"hybrid\"\n[broker.remote]\ntype = \"memroy\"\n[routing]\n\
                default = \"nowhere\"\nlocal_from_priority = \"urgent\"\n";
    let found = problems(text);
    assert_eq!(
        found[0],
        "app.toml:4:8: broker.remote.type: expected one of memory, redis, kafka, rabbitmq; found \
         `memroy`"
    );
    assert!(found[2].contains("priority: a priority is one of `low` `normal`"), "{found:?}");
    assert_eq!(
        found[1],
        "app.toml:6:11: routing.default: expected one of local, remote, both; found `nowhere`"
    );
}

#[test]
fn a_rule_needs_a_route_and_a_condition_and_attributes_that_can_be() {
    let text = r##"broker = { type = "hybrid", remote = { type = "memory" } }
[[routing.rule]]
route = "local"
[[routing.rule]]
topic = "a"
[[routing.rule]]
topics = "a.#"
Project = "x"
ratio = 1.5
size = 3000000000
route = "local"
"##;
    let expected = [
        "app.toml:2:1: routing.rule[0]: the rule fits every event: add a condition, or use \
         `routing.default`",
        "app.toml:4:1: routing.rule[1].route: a rule needs its route: `local`, `remote` or `both`",
        "app.toml:7:1: routing.rule[2].topics: unknown key; did you mean `topic`? known keys: \
         `type`, `topic`, `priority`, `tenant`, `route`",
        "app.toml:8:1: routing.rule[2].Project: unknown key; known keys: `type`, `topic`, \
         `priority`, `tenant`, `route`",
        "app.toml:9:9: routing.rule[2].ratio: expected a string, found a float",
        "app.toml:10:8: routing.rule[2].size: must be at most 2147483647",
    ];
    assert_eq!(problems(text), expected);
}

#[test]
fn what_contradicts_itself_is_refused() {
    let text = r##"[broker]
type = "hybrid"
remote.type = "memory"
[routing]
local_types = ["A", "B"]
remote_types = ["B"]
[channels.a]
consumers = ["g", "g"]
topics = []
on_full = "drop-oldest"
retry = { initial_delay_ms = 9000 }
[channels.b]
"##;
    let expected = [
        "app.toml:6:16: routing.remote_types: `B` stands in `local_types` too, which wins: keep one",
        "app.toml:8:19: channels.a.consumers[1]: the group `g` stands here twice",
        "app.toml:9:10: channels.a.topics: a channel needs at least one topic pattern",
        "app.toml:10:11: channels.a.on_full: `drop-oldest` loses events: write `lossy = true` \
         beside it to allow that",
        "app.toml:11:1: channels.a.retry.max_delay_ms: the longest wait is shorter than the first: \
         raise it, or lower `initial_delay_ms`",
        "app.toml:12:11: channels.b.topics: a channel needs its topics, such as \
         `topics = [\"orders.#\"]`",
    ];
    assert_eq!(problems(text), expected);
}

#[test]
fn a_syntax_error_is_placed_and_every_one_is_found() {
    let found = problems("[bus]\nenabled = true\nenabled = false\nsource = \n");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("app.toml:3:1: duplicate key"), "{found:?}");
    assert!(found[1].starts_with("app.toml:4:10: "), "{found:?}");
}

#[test]
fn a_file_that_is_missing_or_not_text_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.toml");
    let error = Config::load(Some(&missing)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let start = format!("read configuration: {}: cannot read the file: ", missing.display());
    assert!(error.to_string().starts_with(&start), "{error}");

    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, b"[bus]\nsource = \"\xff\"\n").unwrap();
    let error = Config::from_file(&binary).unwrap_err().to_string();
    assert!(error.ends_with("binary.toml:2:11: the file is not UTF-8 here"), "{error}");
}

#[test]
fn a_file_is_read_and_its_problems_name_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.toml");
    std::fs::write(&file, "[bus]\nsource = \"/shop\"\n").unwrap();
    assert_eq!(Config::from_file(&file).unwrap().bus.source.as_deref(), Some("/shop"));
    assert_eq!(Config::load(Some(&file)).unwrap().bus.source.as_deref(), Some("/shop"));

    std::fs::write(&file, "[bus]\nenabled = 1\n").unwrap();
    let found = Config::check(Some(&file)).unwrap_err();
    assert_eq!(found[0].location.to_string(), format!("{}:2:11", file.display()));
}

#[test]
fn the_error_names_every_problem_on_a_line_of_its_own() {
    let error = Config::from_str("[bus]\na = 1\nenabled = 1\n", "app.toml").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!(lines[0], "read configuration: 2 problems");
    assert!(lines[1].starts_with("  app.toml:2:1: bus.a: unknown key; "), "{text}");
    assert_eq!(lines[2], "  app.toml:3:11: bus.enabled: expected a boolean, found an integer");
}
