//! Stopping the demo early.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use crate::support::{Ran, number, trunkline};

#[test]
fn ctrl_c_is_a_clean_close_with_a_report_of_what_was_done() {
    // At this rate the scenario would take five minutes.
    let mut command = trunkline();
    command.args(["demo", "--json", "--rate", "1"]).env("TRUNKLINE_LOG", "trunkline=info");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    // The log begins when the program listens for signals already.
    let mut log = String::new();
    stderr.read_line(&mut log).unwrap();
    assert!(log.contains("hybrid"), "{log}");
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    stderr.read_to_string(&mut log).unwrap();
    let ran: Ran = child.wait_with_output().unwrap().into();
    let report = ran.ends_with(130).report();
    assert_eq!(report["interrupted"], true);
    assert!(number(&report, "published") < 310, "{report}");
    for fault in ["lost", "duplicates", "out_of_order"] {
        assert_eq!(number(&report, fault), 0, "{report}");
    }
}
