//! The verbs that talk to a broker, as far as they need no server.

use tempfile::TempDir;

use crate::support::{Ran, file, run, trunkline};

/// Runs the program with the broker as the environment says.
fn run_on(broker: &str, url: Option<&str>, arguments: &[&str]) -> Ran {
    let mut command = trunkline();
    command.args(arguments).env("TRUNKLINE__BROKER__TYPE", broker);
    if let Some(url) = url {
        command.env("TRUNKLINE__BROKER__URL", url);
    }
    command.output().expect("the program starts").into()
}

#[test]
fn a_broker_in_memory_cannot_be_reached_from_another_program_and_that_is_said() {
    let folder = TempDir::new().unwrap();
    let hybrid = b"[broker]\ntype = \"hybrid\"\n[broker.remote]\ntype = \"memory\"\n";
    let hybrid = file(&folder, "hybrid.toml", hybrid);
    for arguments in [
        &["publish", "orders.placed", "--data", "1"][..],
        &["subscribe", "orders.#", "--count", "1"],
    ] {
        for more in [&[][..], &["--config", hybrid.to_str().unwrap()]] {
            let ran = run(&[arguments, more].concat());
            ran.ends_with(2);
            assert!(ran.stderr.contains("the broker is in memory"), "{}", ran.stderr);
            assert!(ran.stderr.contains("broker.remote.type"), "{}", ran.stderr);
            assert_eq!(ran.stdout, "");
        }
    }
}

#[test]
fn the_verbs_that_look_work_on_a_broker_in_memory() {
    let health = run(&["health", "--json"]).ends_with(0).report();
    assert_eq!((&health["broker"], &health["status"]), (&"memory".into(), &"up".into()));
    assert!(run(&["health"]).ends_with(0).stdout.starts_with("memory: up\n"));
    let lag = run(&["lag", "--json"]).ends_with(0).report();
    assert_eq!(lag["groups"], serde_json::json!([]));
    assert!(run(&["lag"]).ends_with(0).stdout.starts_with("GROUP"));
    let metrics = run(&["metrics"]);
    assert!(metrics.ends_with(0).stdout.contains("trunkline_up{broker=\"memory\"} 1\n"));
    let metrics = run(&["metrics", "--json"]).ends_with(0).report();
    assert_eq!((&metrics["published"], &metrics["reconnects"]), (&0.into(), &0.into()));
}

#[test]
fn a_wrong_command_line_is_refused_before_anything_is_done() {
    for (arguments, text) in [
        (&["publish"][..], "<TOPIC>"),
        (&["publish", "a..b"], "joined by dots"),
        (&["publish", "a", "--ndjson", "x"], "cannot be used with"),
        (&["publish", "a", "--priority", "urgent"], "`critical`"),
        (&["publish", "a", "--data", "text"], "--data is no JSON"),
        (&["publish", "a", "--data", "@no/such.json"], "no/such.json"),
        (&["publish", "--ndjson", "no/such.ndjson"], "no/such.ndjson"),
        (&["subscribe"], "<PATTERN>"),
        (&["subscribe", "a.#.b"], "pattern"),
        (&["subscribe", "a", "--from", "yesterday"], "`latest`"),
        (&["subscribe", "a", "--count", "0"], "0"),
        (&["subscribe", "a", "--timeout", "-1"], "-1"),
        (&["health", "--config", "no/such.toml"], "no/such.toml"),
    ] {
        let ran = run(arguments);
        assert!(ran.ends_with(2).stderr.contains(text), "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{arguments:?}");
    }
}

#[test]
fn a_wrong_url_is_refused_without_its_password() {
    for (broker, url) in [
        ("redis", "amqp://user:hunter2@127.0.0.1:1"),
        ("redis", "redis://user:hunter2@127.0.0.1:1/notanumber"),
        ("kafka", "kafka://user:hunter2@127.0.0.1:1"),
        ("rabbitmq", "amqp://user:hunter2@[127.0.0.1"),
    ] {
        for verb in [&["health"][..], &["publish", "a"], &["subscribe", "a"], &["demo"]] {
            let ran = run_on(broker, Some(url), verb);
            ran.ends_with(2);
            let said = format!("{}{}", ran.stdout, ran.stderr);
            assert!(!said.contains("hunter2"), "{broker} {verb:?}: {said}");
        }
    }
}

#[test]
fn a_server_that_does_not_answer_is_an_error_without_its_password() {
    for (broker, url) in [
        ("redis", "redis://user:hunter2@127.0.0.1:1/0"),
        ("kafka", "kafka://127.0.0.1:1"),
        ("rabbitmq", "amqp://user:hunter2@127.0.0.1:1/%2f"),
    ] {
        for verb in [&["health", "--json"][..], &["lag"], &["publish", "a"], &["subscribe", "a"]] {
            let mut command = trunkline();
            command.args(verb).env("TRUNKLINE__BROKER__TYPE", broker);
            command.env("TRUNKLINE__BROKER__URL", url);
            command.env("TRUNKLINE__BROKER__CONNECT_TIMEOUT_MS", "300");
            let ran: Ran = command.output().unwrap().into();
            ran.ends_with(1);
            let said = format!("{}{}", ran.stdout, ran.stderr);
            assert!(said.contains("127.0.0.1:1"), "{broker} {verb:?} names no address: {said}");
            assert!(!said.contains("hunter2"), "{broker} {verb:?}: {said}");
            if verb[0] == "health" {
                assert_eq!(ran.report()["status"], "down", "{said}");
            }
        }
    }
}
