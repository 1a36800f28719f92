//! `trunkline demo` over real servers.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use trunkline_launcher::{Kind, Server};

use super::scene::{finish, line, own, shared};
use crate::support::{Ran, assert_all_settled, data, file, number, trunkline};

/// The program with a configuration file for the server.
fn demo(folder: &TempDir, server: &Server, more: &str) -> Command {
    let (kind, url) = (server.kind().name(), server.url());
    let text = format!("[broker]\ntype = \"{kind}\"\nurl = \"{url}\"\n{more}");
    with(folder, &text)
}

fn with(folder: &TempDir, text: &str) -> Command {
    let config = file(folder, "demo.toml", text.as_bytes());
    let mut command = trunkline();
    command.args(["demo", "--json", "--config"]).arg(config);
    command
}

/// Asserts that the groups of a run are gone.
fn assert_groups_gone(server: &Server, report: &Value) {
    let mut lag = trunkline();
    lag.args(["lag", "--json"]).env("TRUNKLINE__BROKER__TYPE", server.kind().name());
    let lag = finish(lag.env("TRUNKLINE__BROKER__URL", server.url()));
    let groups = lag.ends_with(0).report();
    let handled = report["handled"].as_object().unwrap();
    for group in groups["groups"].as_array().unwrap() {
        let name = group["name"].as_str().unwrap();
        assert!(!handled.contains_key(name), "{name} is left behind");
    }
}

pub(super) fn the_scenario_and_real_webhooks_come_through_whole(kind: Kind) {
    let server = shared(kind);
    let folder = TempDir::new().unwrap();
    let ran = finish(&mut demo(&folder, server, "[store]\ntype = \"memory\"\n"));
    let report = ran.ends_with(0).report();
    assert_all_settled(&report, 310);
    assert_eq!(report["broker"], server.kind().name());
    assert_eq!((number(&report, "routed_local"), number(&report, "routed_remote")), (0, 310));
    assert_eq!((number(&report, "stored"), number(&report, "replayed")), (310, 310));
    assert_groups_gone(server, &report);

    let input = data("github-webhooks.ndjson");
    let ran = finish(demo(&folder, server, "").arg("--input").arg(input));
    let report = ran.ends_with(0).report();
    assert_all_settled(&report, 60);
    assert_groups_gone(server, &report);
}

pub(super) fn a_hybrid_uses_both_of_its_sides(kind: Kind) {
    let server = shared(kind);
    let folder = TempDir::new().unwrap();
    let (kind, url) = (server.kind().name(), server.url());
    let text = format!(
        "[broker]\ntype = \"hybrid\"\n[broker.remote]\ntype = \"{kind}\"\nurl = \"{url}\"\n\
         [routing]\nlocal_types = [\"StockReserved\"]\nlocal_from_priority = \"high\"\n\
         [[routing.rule]]\ntopic = \"payments\"\nroute = \"both\"\n"
    );
    let ran = finish(&mut with(&folder, &text));
    let report = ran.ends_with(0).report();
    assert_all_settled(&report, 310);
    let routed = ["routed_local", "routed_remote", "routed_both"].map(|name| number(&report, name));
    assert_eq!(routed, [60, 150, 100]);
    assert_groups_gone(server, &report);
}

pub(super) fn two_kills_of_the_server_lose_nothing_and_keep_the_order(kind: Kind) {
    let server = own(kind);
    let folder = TempDir::new().unwrap();
    let mut command = demo(&folder, &server, "[store]\ntype = \"memory\"\n");
    command.args(["--input", "-"]).stdin(Stdio::piped());
    let mut running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = running.stdin.take().unwrap();
    let running = thread::spawn(move || running.wait_with_output());
    let (flows, is_over) = (Barrier::new(2), AtomicBool::new(false));
    // Events come until both kills are over, however long the server takes to serve again.
    let sent = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let event = |n: u64| line("kills.a", &format!("k{n}"), &format!("key-{}", n % 20));
            // More than a pipe holds: when all are written, the demo is well under way.
            let mut sent: u64 = 1_500;
            let first: String = (0..sent).map(event).collect();
            let written = input.write_all(first.as_bytes());
            flows.wait();
            written.expect("the demo reads its input");
            while !is_over.load(Ordering::Relaxed) {
                input.write_all(event(sent).as_bytes()).expect("the demo reads its input");
                sent += 1;
                thread::sleep(Duration::from_millis(20));
            }
            sent
        });
        flows.wait();
        for _kill in 0..2 {
            thread::sleep(Duration::from_secs(5));
            server.kill().unwrap();
            server.restart().unwrap();
        }
        thread::sleep(Duration::from_secs(2));
        is_over.store(true, Ordering::Relaxed);
        sending.join().unwrap()
    });
    drop(input);
    let ran: Ran = running.join().unwrap().unwrap().into();
    let report = ran.report();
    for (name, expected) in
        [("published", sent), ("lost", 0), ("out_of_order", 0), ("dead_lettered", 0)]
    {
        assert_eq!(number(&report, name), expected, "{name} in {report}: {}", ran.stderr);
    }
    let handled = report["handled"].as_object().unwrap();
    assert!(handled.values().all(|count| *count == sent), "{report}");
    // A copy is what an unknown outcome costs, and the exit status says so.
    ran.ends_with(i32::from(number(&report, "duplicates") > 0));
    println!("{kind:?}: {report}");
}
