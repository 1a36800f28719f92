//! What the compiler says about a wrong `#[derive(DomainEvent)]`.
//!
//! `TRYBUILD=overwrite cargo test -p trunkline-macros` writes the expected texts anew.

#[test]
fn wrong_events_are_told_what_to_write_instead() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass_*.rs");
    cases.compile_fail("tests/ui/fail_*.rs");
}
