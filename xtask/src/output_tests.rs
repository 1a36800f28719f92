use super::*;

fn read(output: &str) -> Vec<Suite> {
    let mut parser = TestOutput::default();
    parser.feed(output.as_bytes());
    parser.finish()
}

fn only(output: &str) -> Suite {
    let mut suites = read(output);
    assert_eq!(suites.len(), 1, "{suites:?}");
    suites.remove(0)
}

fn counted(passed: usize, failed: usize, ignored: usize) -> Option<Counts> {
    Some(Counts { passed, failed, ignored })
}

const HARNESS: &str = "     Running tests/conformance.rs (target/debug/deps/conformance-0a1b)\n";

const WHOLE_RUN: &str = "\
   Compiling trunkline-core v0.1.0 (/somewhere/crates/core)
    Finished `test` profile [unoptimized + debuginfo] target(s) in 3.21s
     Running unittests src/lib.rs (target/debug/deps/trunkline_core-11aa)

running 3 tests
test topic::tests::refuses_an_empty_word ... ok
test topic::tests::matches_a_hash_at_the_end ... FAILED
test event::tests::panics - should panic ... ok

failures:

---- topic::tests::matches_a_hash_at_the_end stdout ----
test memory/value/not_a_case ... ok
skip memory/value/not_a_skip: delay

failures:
    topic::tests::matches_a_hash_at_the_end

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s

     Running tests/conformance.rs (target/debug/deps/conformance-22bb)

running 3 tests
skip memory/boxed/replays_from_a_time: replay
test memory/value/keeps_order_per_key     ... ok
test memory/boxed/replays_from_a_time     ... ok
test memory/shared/keeps_order_per_key    ... FAILED

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.20s

   Doc-tests trunkline_core

running 2 tests
test crates/core/src/topic.rs - topic::Topic (line 12) ... ok
test crates/core/src/event.rs - event::Event (line 30) - compile ... ok

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

running 1 test
test crates/core/src/lib.rs - (line 4) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.30s

all doctests ran in 0.51s; merged doctests compilation took 0.20s
";

#[test]
fn names_every_suite_with_its_counts_and_adds_up_documentation_tests() {
    let suites = read(WHOLE_RUN);
    let seen: Vec<_> = suites
        .iter()
        .map(|suite| (suite.name.as_str(), suite.binary.as_deref(), suite.counts))
        .collect();
    assert_eq!(
        seen,
        [
            (
                "unittests src/lib.rs",
                Some("target/debug/deps/trunkline_core-11aa"),
                counted(2, 1, 0)
            ),
            ("tests/conformance.rs", Some("target/debug/deps/conformance-22bb"), counted(2, 1, 0)),
            ("doc-tests trunkline_core", None, counted(3, 0, 0)),
        ]
    );
}

#[test]
fn reads_the_cases_of_a_backend_and_not_what_failed_tests_printed() {
    let suites = read(WHOLE_RUN);
    assert!(suites[0].cases.is_empty());
    assert!(suites[0].skipped.is_empty());
    assert_eq!(
        suites[1].cases,
        BTreeMap::from([
            ("memory/value/keeps_order_per_key".into(), Outcome::Passed),
            ("memory/boxed/replays_from_a_time".into(), Outcome::Passed),
            ("memory/shared/keeps_order_per_key".into(), Outcome::Failed),
        ])
    );
    assert_eq!(suites[1].skipped, BTreeSet::from(["memory/boxed/replays_from_a_time".into()]));
}

#[test]
fn a_path_in_a_documentation_test_is_not_a_backend() {
    assert!(read(WHOLE_RUN)[2].cases.is_empty());
}

#[test]
fn a_file_of_a_compile_fail_test_is_not_a_backend() {
    for name in ["tests/ui/no_topic.rs", "tests/ui/no_topic.rs [should fail to compile]"] {
        let suite = only(&format!("{HARNESS}test {name} ... ok\n"));
        assert!(suite.cases.is_empty(), "{name}");
    }
}

#[test]
fn reads_the_same_from_bytes_cut_anywhere() {
    let whole = format!("{:?}", read(WHOLE_RUN));
    let mut parser = TestOutput::default();
    for byte in WHOLE_RUN.as_bytes() {
        parser.feed(std::slice::from_ref(byte));
    }
    assert_eq!(format!("{:?}", parser.finish()), whole);
}

#[test]
fn a_suite_that_dies_has_no_counts() {
    let suite =
        only(&format!("{HARNESS}\nrunning 2 tests\ntest sqlite/a/b ... ok\nerror: test failed\n"));
    assert_eq!(suite.counts, None);
}

#[test]
fn a_result_line_that_cannot_be_read_is_no_result() {
    let suite = only(&format!("{HARNESS}test result: ok. many passed; 0 failed\n"));
    assert_eq!(suite.counts, None);
}

#[test]
fn output_without_a_header_has_no_suite() {
    assert!(
        read("test memory/value/a ... ok\ntest result: ok. 1 passed; 0 failed; 0 ignored\n")
            .is_empty()
    );
}

#[test]
fn reads_an_outcome_that_comes_after_what_the_test_printed() {
    let suite = only(&format!(
        "{HARNESS}test hybrid/value/a ... connecting\nskip hybrid/value/a: lag\nok\n"
    ));
    assert_eq!(suite.cases, BTreeMap::from([("hybrid/value/a".into(), Outcome::Passed)]));
    assert_eq!(suite.skipped.len(), 1);
}

#[test]
fn reads_a_skip_that_another_thread_printed_into_a_case_line() {
    let suite = only(&format!(
        "{HARNESS}test memory/value/a ... okskip memory/value/b: delay\n\n\
         test memory/value/c ... skip memory/value/d: delay\nok\n"
    ));
    assert_eq!(suite.cases.len(), 2, "{suite:?}");
    assert_eq!(suite.skipped, BTreeSet::from(["memory/value/b".into(), "memory/value/d".into()]));
}

#[test]
fn prose_that_begins_with_skip_is_not_an_excused_case() {
    let suite = only(&format!("{HARNESS}skip this: it is prose\nskip a/b\n"));
    assert!(suite.skipped.is_empty());
}

#[test]
fn reads_ignored_cases_with_and_without_a_reason() {
    let suite = only(&format!(
        "{HARNESS}test sqlite/value/a ... ignored\ntest sqlite/value/b ... ignored, slow\n\
         test sqlite/value/c ... ignored (slow)\n"
    ));
    assert!(suite.cases.values().all(|outcome| *outcome == Outcome::Ignored));
    assert_eq!(suite.cases.len(), 3);
}

#[test]
fn reads_through_colours() {
    let suite = only(
        "\u{1b}[1m\u{1b}[32m     Running\u{1b}[0m tests/conformance.rs (target/debug/deps/conformance-0a1b)\n\
         test memory/value/a ... \u{1b}[32mok\u{1b}[0m\n\
         test result: \u{1b}[32mok\u{1b}[0m. 1 passed; 0 failed; 0 ignored; 0 measured\n",
    );
    assert_eq!(suite.counts, counted(1, 0, 0));
    assert_eq!(suite.cases.len(), 1);
}

#[test]
fn reads_bytes_that_are_no_text() {
    let mut parser = TestOutput::default();
    parser.feed(HARNESS.as_bytes());
    parser.feed(b"\xff\xfe\ntest result: ok. 1 passed; 0 failed; 0 ignored");
    assert_eq!(parser.finish()[0].counts, counted(1, 0, 0));
}
