//! What the program says about itself.

use crate::support::run;

#[test]
fn every_command_has_help_with_examples_and_exit_statuses() {
    for arguments in [
        &["--help"][..],
        &["demo", "--help"],
        &["publish", "--help"],
        &["subscribe", "--help"],
        &["health", "--help"],
        &["lag", "--help"],
        &["metrics", "--help"],
        &["config", "--help"],
        &["config", "check", "--help"],
        &["completions", "--help"],
    ] {
        let ran = run(arguments);
        ran.ends_with(0);
        for text in ["Examples:", "Exit status:", "trunkline "] {
            assert!(ran.stdout.contains(text), "{text} in {arguments:?}: {}", ran.stdout);
        }
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let ran = run(&["--version"]);
    assert_eq!(ran.ends_with(0).stdout, format!("trunkline {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn there_are_completions_for_the_usual_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(&["completions", shell]);
        assert!(ran.ends_with(0).stdout.contains("trunkline"), "{shell}");
    }
    run(&["completions", "abacus"]).ends_with(2);
}
