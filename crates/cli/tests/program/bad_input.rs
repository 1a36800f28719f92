//! `trunkline demo` on bad input: what is wrong is named, and the rest flows.

use crate::support::{Ran, assert_all_settled, demo_on, line, number, run};

/// Runs the demo on good lines around a bad one.
fn around(bad: &[u8]) -> Ran {
    let mut input = line("first", "a").into_bytes();
    input.push(b'\n');
    input.extend_from_slice(bad);
    input.push(b'\n');
    input.extend(line("last", "a").into_bytes());
    demo_on(&input, &[])
}

/// Asserts that line 2 was rejected for this reason, and that the others came through.
#[track_caller]
fn assert_second_rejected(ran: &Ran, reason: &str) {
    let report = ran.ends_with(3).report();
    assert_eq!(number(&report, "rejected"), 1, "{report}");
    assert_all_settled(&report, 2);
    assert_eq!((number(&report, "stored"), number(&report, "replayed")), (2, 2));
    let told: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(told.len(), 1, "{}", ran.stderr);
    assert!(told[0].contains("line 2 of ") && told[0].contains(reason), "{}", ran.stderr);
}

#[test]
fn a_line_that_is_no_json_is_rejected_by_its_number() {
    assert_second_rejected(&around(b"{\"specversion\":\"1.0\","), "at column");
    assert_second_rejected(&around(b"[1, 2]"), "JSON object");
}

#[test]
fn a_missing_attribute_is_named() {
    let ran = around(br#"{"specversion":"1.0","id":"x","source":"/test","data":1}"#);
    assert_second_rejected(&ran, "lacks `type`, `topic`");
}

#[test]
fn a_topic_that_is_none_is_rejected_with_the_rule() {
    let bad = line("x", "a").replace("\"tests\"", "\"tests..x\"");
    assert_second_rejected(&around(bad.as_bytes()), "joined by dots");
}

#[test]
fn text_that_is_not_utf8_is_rejected() {
    let bad = line("x", "a").into_bytes();
    let bad: Vec<u8> = bad.iter().map(|byte| if *byte == b'x' { 0xff } else { *byte }).collect();
    assert_second_rejected(&around(&bad), "UTF-8");
}

#[test]
fn a_repeated_identity_is_rejected_with_the_line_of_the_first() {
    let ran = around(line("first", "b").as_bytes());
    assert_second_rejected(&ran, "line 1");
}

#[test]
fn the_same_id_of_another_source_or_tenant_is_another_event() {
    let other = line("first", "a").replace("/test", "/other");
    let tenant = line("first", "a").replace("\"id\"", "\"tenantid\":\"acme\",\"id\"");
    let input = [line("first", "a"), other, tenant].join("\n");
    assert_all_settled(&demo_on(input.as_bytes(), &[]).ends_with(0).report(), 3);
}

#[test]
fn a_payload_of_ten_mebibytes_is_too_large_and_the_message_says_what_to_do() {
    let payload = "x".repeat(10 << 20);
    let bad = line("x", "a").replace("{\"id\":\"x\"}", &format!("\"{payload}\""));
    assert_second_rejected(&around(bad.as_bytes()), "publish a reference");
}

#[test]
fn a_line_far_beyond_any_event_is_skipped() {
    let bad = vec![b' '; 40 << 20];
    let ran = around(&bad);
    assert_second_rejected(&ran, "the line has more than 26214400 bytes");
}

#[test]
fn blank_lines_carriage_returns_and_a_missing_line_end_are_no_faults() {
    let input = format!("\n{}\r\n  \r\n\n{}", line("1", "a"), line("2", "a"));
    let ran = demo_on(input.as_bytes(), &[]);
    assert_all_settled(&ran.ends_with(0).report(), 2);
    assert_eq!(ran.stderr, "");
}

#[test]
fn a_line_cannot_steer_the_terminal_through_its_error() {
    let ran = around(b"{\"\\u001b[2J\":1}");
    ran.ends_with(3);
    assert!(!ran.stderr.contains('\u{1b}'), "{:?}", ran.stderr);
}

#[test]
fn an_input_that_is_not_there_is_an_error_that_names_it() {
    let ran = run(&["demo", "--input", "no/such.ndjson"]);
    assert!(ran.ends_with(2).stderr.contains("no/such.ndjson"), "{}", ran.stderr);
    let ran = run(&["demo", "--input", env!("CARGO_MANIFEST_DIR")]);
    assert!(ran.ends_with(2).stderr.contains("directory"), "{}", ran.stderr);
}

#[test]
fn wrong_options_are_usage_errors() {
    for arguments in [
        &["demo", "--rate", "0"][..],
        &["demo", "--concurrency", "0"],
        &["demo", "--no-such-option"],
        &["no-such-command"],
        &[],
    ] {
        let ran = run(arguments);
        ran.ends_with(2);
        assert!(ran.stdout.is_empty(), "{arguments:?}: {}", ran.stdout);
    }
}
