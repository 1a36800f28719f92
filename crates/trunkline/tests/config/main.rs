//! The configuration as its users meet it: text, variables and the words of errors.

mod describe;
mod documentation;
mod environment;
mod keys;
mod problems;
mod refusals;
mod secrets;
mod servers;

use trunkline::config::{Config, Problem};

/// The configuration of `text` alone.
fn config(text: &str) -> Config {
    Config::from_str(text, "app.toml").unwrap_or_else(|error| panic!("{error}"))
}

/// What is wrong with `text` alone, a line for each problem.
fn problems(text: &str) -> Vec<String> {
    problems_with(text, &[])
}

/// What is wrong with `text` under `variables`, a line for each problem.
fn problems_with(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let checked = Config::check_sources(text, "app.toml", variables.iter().copied());
    let found = checked.err().unwrap_or_default();
    found.iter().map(Problem::to_string).collect()
}
