//! Configurations, right and wrong, in `trunkline config check` and `trunkline demo`.

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Ran, assert_all_settled, file, number, run, trunkline};

const WRONG: &[u8] =
    b"[broker]\ntype = \"memory\"\n\n[bus]\nenabeld = true\nmax_event_bytes = \"big\"\n";

fn check(text: &[u8], arguments: &[&str]) -> Ran {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "app.toml", text);
    let mut command = trunkline();
    command.args(["config", "check", "--config"]).arg(path).args(arguments);
    command.output().unwrap().into()
}

#[test]
fn a_right_configuration_is_printed_whole_and_reads_back() {
    let ran = check(b"[channels.orders]\ntopics = [\"orders.#\"]\n", &[]);
    ran.ends_with(0);
    assert!(ran.stdout.lines().last().unwrap().starts_with("# OK: "), "{}", ran.stdout);
    assert!(ran.stdout.contains("max_event_bytes = 4194304"), "{}", ran.stdout);
    let again = check(ran.stdout.as_bytes(), &[]);
    let text =
        |ran: &Ran| ran.stdout.lines().filter(|l| !l.starts_with("# OK")).collect::<String>();
    assert_eq!(text(again.ends_with(0)), text(&ran));
}

#[test]
fn every_problem_names_its_key_file_line_and_column() {
    let ran = check(WRONG, &[]);
    ran.ends_with(2);
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("app.toml:5:1: bus.enabeld: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("did you mean `enabled`"), "{}", ran.stderr);
    assert!(ran.stderr.contains("app.toml:6:"), "{}", ran.stderr);
    assert!(ran.stderr.contains("has 2 problems"), "{}", ran.stderr);
}

#[test]
fn the_answer_is_one_json_object_where_that_is_asked_for() {
    let report = check(b"[store]\ntype = \"memory\"\n", &["--json"]).ends_with(0).report();
    assert_eq!(
        (&report["ok"], &report["config"]["store"]["type"]),
        (&true.into(), &"memory".into())
    );
    let ran = check(WRONG, &["--json"]);
    let report: Value = ran.ends_with(2).report();
    assert_eq!(
        (&report["ok"], &report["problems"][0]["key"]),
        (&false.into(), &"bus.enabeld".into())
    );
    assert_eq!(number(&report["problems"][0]["location"], "line"), 5);
    assert_eq!(ran.stderr, "");
}

#[test]
fn the_environment_is_part_of_the_configuration() {
    let checked = |name: &str, value: &str| -> Ran {
        let mut command = trunkline();
        command.args(["config", "check"]).env(name, value);
        command.output().unwrap().into()
    };
    let ran = checked("TRUNKLINE__STORE__TYPE", "memory");
    assert!(ran.ends_with(0).stdout.contains("[store]\ntype = \"memory\""), "{}", ran.stdout);
    let ran = checked("TRUNKLINE__BUS__ENABELD", "true");
    assert!(ran.ends_with(2).stderr.contains("TRUNKLINE__BUS__ENABELD"), "{}", ran.stderr);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    for arguments in [
        ["config", "check", "--config", "no/such.toml"].as_slice(),
        &["demo", "--config", "no/such.toml"],
    ] {
        let ran = run(arguments);
        assert!(ran.ends_with(2).stderr.contains("no/such.toml"), "{}", ran.stderr);
    }
}

#[test]
fn the_demo_does_not_start_on_a_wrong_configuration() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "app.toml", WRONG);
    let ran = run(&["demo", "--json", "--config", path.to_str().unwrap()]);
    assert!(ran.ends_with(2).stderr.contains("app.toml:5:1: bus.enabeld: "), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
    let path = file(&folder, "off.toml", b"[bus]\nenabled = false\n");
    let ran = run(&["demo", "--config", path.to_str().unwrap()]);
    assert!(ran.ends_with(2).stderr.contains("bus.enabled"), "{}", ran.stderr);
}

#[test]
fn the_environment_overlays_the_demos_own_configuration() {
    let mut command = trunkline();
    command.args(["demo", "--json"]).env("TRUNKLINE__ROUTING__DEFAULT", "local");
    let ran: Ran = command.output().unwrap().into();
    let report = ran.ends_with(0).report();
    assert_all_settled(&report, 310);
    assert_eq!(number(&report, "routed_local"), 310);
}

#[test]
fn the_environment_may_choose_another_broker_than_the_demos_own() {
    let mut command = trunkline();
    command.args(["demo", "--json"]).env("TRUNKLINE__BROKER__TYPE", "memory");
    let ran: Ran = command.output().unwrap().into();
    let report = ran.ends_with(0).report();
    assert_all_settled(&report, 310);
    assert_eq!((&report["broker"], &report["store"]), (&"memory".into(), &"sqlite".into()));
}

#[test]
fn a_log_filter_that_is_none_is_a_usage_error() {
    let mut command = trunkline();
    command.args(["config", "check"]).env("TRUNKLINE_LOG", "trunkline=very=loud");
    let ran: Ran = command.output().unwrap().into();
    assert!(ran.ends_with(2).stderr.contains("TRUNKLINE_LOG"), "{}", ran.stderr);
}
