//! `cargo xtask ci`: every check that a change must pass.

use std::time::{Duration, Instant};

use crate::workspace::{Failure, Workspace};
use crate::{Breadth, Ending, demo, deny, examples, test};

/// Which steps run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    Everything(Breadth),
    WithoutTests,
}

/// Runs the steps of a plan, all of them, and fails if one failed.
pub(crate) fn run(workspace: &Workspace, plan: Plan) -> Ending {
    let mut steps = Steps::default();
    steps.run("tools", || {
        trunkline_launcher::build_tools().map_err(|error| Failure::new(error.to_string()))
    });
    steps.run("fmt", || fmt(workspace));
    steps.run("clippy", || clippy(workspace));
    steps.run("docs", || docs(workspace));
    steps.run("deny", || deny::run(workspace));
    let mut last_line = None;
    if let Plan::Everything(breadth) = plan {
        steps.run("test", || {
            let ending = test::run(workspace, breadth)?.ending();
            last_line = ending.last_line;
            ending.result
        });
    }
    steps.run("examples", || examples::run(workspace));
    steps.run("demo", || demo::run(workspace));
    println!("\n{}", steps.summary());
    Ending { result: steps.into_result(), last_line }
}

fn fmt(workspace: &Workspace) -> Result<(), Failure> {
    workspace.finish(&mut workspace.cargo("fmt --all -- --check"), "run `cargo fmt --all`")
}

fn clippy(workspace: &Workspace) -> Result<(), Failure> {
    workspace.finish(
        &mut workspace.cargo("clippy --workspace --all-targets --all-features -- -D warnings"),
        "correct what it names above",
    )
}

fn docs(workspace: &Workspace) -> Result<(), Failure> {
    let mut doc = workspace.cargo("doc --workspace --all-features --no-deps");
    doc.env("RUSTDOCFLAGS", "-D warnings");
    workspace.finish(&mut doc, "correct the documentation that it names above")
}

/// What each step did and how long it took.
#[derive(Debug, Default)]
struct Steps {
    done: Vec<(&'static str, Duration, Option<Failure>)>,
}

impl Steps {
    fn run(&mut self, name: &'static str, step: impl FnOnce() -> Result<(), Failure>) {
        println!("\n== {name}");
        let start = Instant::now();
        let failure = step().err();
        let elapsed = start.elapsed();
        match &failure {
            None => println!("== {name}: ok in {:.1} s", elapsed.as_secs_f64()),
            Some(failure) => {
                println!("== {name}: FAILED in {:.1} s: {failure}", elapsed.as_secs_f64());
            }
        }
        self.done.push((name, elapsed, failure));
    }

    fn summary(&self) -> String {
        let row = |(name, elapsed, failure): &(&str, Duration, Option<Failure>)| {
            let outcome = if failure.is_none() { "ok" } else { "FAILED" };
            format!("{name:<8}  {outcome:<6}  {:>7.1} s\n", elapsed.as_secs_f64())
        };
        self.done.iter().map(row).collect()
    }

    fn into_result(self) -> Result<(), Failure> {
        let failed: Vec<_> = self
            .done
            .iter()
            .filter(|(_, _, failure)| failure.is_some())
            .map(|(name, _, _)| *name)
            .collect();
        if failed.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "these steps failed: {}; each says above what to do",
            failed.join(", ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_steps_run_after_one_failed_and_the_whole_fails() {
        let mut ran = Vec::new();
        let mut steps = Steps::default();
        steps.run("first", || Err(Failure::new("no")));
        steps.run("second", || {
            ran.push("second");
            Ok(())
        });
        assert_eq!(ran, ["second"]);
        assert!(steps.summary().contains("second    ok"));
        let error = steps.into_result().unwrap_err().to_string();
        assert!(error.contains("these steps failed: first"), "{error}");
    }
}
