//! `trunkline demo` on good input.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{
    assert_all_settled, data, demo_on, file, line, number, run, run_on_stdin, trunkline,
};

#[test]
fn the_built_in_scenario_comes_through_whole_and_takes_both_routes() {
    let ran = run(&["demo", "--json"]);
    let report = ran.ends_with(0).report();
    assert_all_settled(&report, 310);
    assert_eq!((number(&report, "stored"), number(&report, "replayed")), (310, 310));
    assert_eq!(
        (report["broker"].as_str(), report["store"].as_str()),
        (Some("hybrid"), Some("sqlite"))
    );
    // 50 reservations by their type and 10 alerts by their priority.
    assert_eq!((number(&report, "routed_local"), number(&report, "routed_remote")), (60, 250));
    assert_eq!(number(&report, "rejected"), 0);
    let of = |name: &str| report[name].as_f64().unwrap();
    assert!(of("events_per_s") > 0.0 && of("p50_us") > 0.0 && of("p50_us") <= of("p99_us"));
    assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
    assert_eq!(ran.stderr, "");
}

#[test]
fn real_webhooks_come_through_whole() {
    let input = data("github-webhooks.ndjson");
    let ran = run(&["demo", "--json", "--input", input.to_str().unwrap()]);
    let report = ran.ends_with(0).report();
    assert_all_settled(&report, 60);
    assert_eq!((number(&report, "stored"), number(&report, "replayed")), (60, 60));
}

#[test]
fn the_report_for_people_is_plain_text_where_standard_output_is_no_terminal() {
    let ran = run(&["demo"]);
    ran.ends_with(0);
    assert!(!ran.stdout.contains('\u{1b}'), "{:?}", ran.stdout);
    for text in
        ["OrderPlaced", "demo-billing-", "demo-shipping-", "demo-audit-", "OK: nothing lost"]
    {
        assert!(ran.stdout.contains(text), "{text} in {}", ran.stdout);
    }
    assert_eq!(ran.stderr, "");
}

#[test]
fn nothing_is_coloured_with_no_color() {
    let ran = trunkline().arg("demo").env("NO_COLOR", "1").output().unwrap();
    assert!(ran.status.success());
    assert!(!ran.stdout.contains(&0x1b) && !ran.stderr.contains(&0x1b));
}

#[test]
fn a_memory_broker_alone_without_a_store_is_enough() {
    let folder = TempDir::new().unwrap();
    let config = file(&folder, "memory.toml", b"[broker]\ntype = \"memory\"\n");
    let ran = run(&["demo", "--json", "--config", config.to_str().unwrap()]);
    let report = ran.ends_with(0).report();
    assert_all_settled(&report, 310);
    assert_eq!(
        (report["broker"].as_str(), report["store"].as_str()),
        (Some("memory"), Some("none"))
    );
    assert_eq!(number(&report, "routed_local"), 310);
    assert_eq!((number(&report, "stored"), number(&report, "replayed")), (0, 0));
}

#[test]
fn events_that_go_both_ways_reach_everybody_once() {
    let folder = TempDir::new().unwrap();
    let text = b"[broker]\ntype = \"hybrid\"\n[broker.remote]\ntype = \"memory\"\n\
        [routing]\ndefault = \"both\"\n[store]\ntype = \"memory\"\n";
    let config = file(&folder, "both.toml", text);
    let ran = run(&["demo", "--json", "--config", config.to_str().unwrap()]);
    let report = ran.ends_with(0).report();
    assert_all_settled(&report, 310);
    assert_eq!(number(&report, "routed_both"), 310);
    assert_eq!((number(&report, "stored"), number(&report, "replayed")), (310, 310));
}

#[test]
fn a_store_that_outlives_runs_gives_back_what_an_earlier_run_appended() {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}/events.db", folder.path().display());
    let text = format!("[store]\ntype = \"sqlite\"\nurl = \"{url}\"\n");
    let config = file(&folder, "kept.toml", text.as_bytes());
    let input = data("github-webhooks.ndjson");
    for _run in 0..2 {
        let mut command = trunkline();
        command.args(["demo", "--json", "--input"]).arg(&input).arg("--config").arg(&config);
        let ran: crate::support::Ran = command.output().unwrap().into();
        let report = ran.ends_with(0).report();
        assert_all_settled(&report, 60);
        assert_eq!((number(&report, "stored"), number(&report, "replayed")), (60, 60));
    }
}

#[test]
fn standard_input_is_an_input() {
    let input = format!("{}\n{}\n", line("1", "a"), line("2", "a"));
    let ran = run_on_stdin(&["demo", "--json", "--input", "-"], input.as_bytes());
    assert_all_settled(&ran.ends_with(0).report(), 2);
}

#[test]
fn no_input_at_all_is_fine_and_said() {
    assert_all_settled(&demo_on(b"", &[]).ends_with(0).report(), 0);
    let ran = run_on_stdin(&["demo", "--input", "-"], b"");
    assert!(ran.ends_with(0).stdout.contains("there was no event to publish"), "{}", ran.stdout);
}

#[test]
fn publishes_start_at_the_rate_that_is_asked_for() {
    let input: Vec<String> = (0..11).map(|id| line(&id.to_string(), "a")).collect();
    let began = Instant::now();
    let ran = demo_on(input.join("\n").as_bytes(), &["--rate", "20"]);
    // Ten intervals of 50 ms lie between the first start and the last.
    assert!(began.elapsed() >= Duration::from_millis(500), "{:?}", began.elapsed());
    let report = ran.ends_with(0).report();
    assert_all_settled(&report, 11);
    let rate = report["events_per_s"].as_f64().unwrap();
    assert!(rate <= 22.5, "{rate}");
}

#[test]
fn keys_keep_their_order_whatever_the_concurrency() {
    let input: Vec<String> =
        (0..300).map(|id| line(&id.to_string(), &format!("key-{}", id % 7))).collect();
    let folder = TempDir::new().unwrap();
    let config = file(&folder, "memory.toml", b"[broker]\ntype = \"memory\"\n");
    let config = config.to_str().unwrap();
    for concurrency in ["1", "64"] {
        let arguments = ["--concurrency", concurrency, "--config", config];
        let ran = demo_on(input.join("\n").as_bytes(), &arguments);
        assert_all_settled(&ran.ends_with(0).report(), 300);
    }
}

#[test]
fn the_groups_of_a_run_have_names_of_their_own() {
    let names = || {
        let report = demo_on(line("1", "a").as_bytes(), &[]).ends_with(0).report();
        let handled = report["handled"].as_object().unwrap();
        handled.keys().cloned().collect::<Vec<_>>()
    };
    let (first, second) = (names(), names());
    assert!(first.iter().all(|name| !second.contains(name)), "{first:?} {second:?}");
}

#[test]
fn the_temporary_store_is_gone_after_the_run() {
    let folder = TempDir::new().unwrap();
    let ran = trunkline().args(["demo", "--json"]).env("TMPDIR", folder.path()).output().unwrap();
    assert!(ran.status.success());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
