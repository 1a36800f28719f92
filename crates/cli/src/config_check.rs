//! `trunkline config check`.

use std::io;
use std::path::Path;

use serde_json::{Value, json};
use trunkline::Config;
use trunkline::config::Problem;

use crate::arguments::CheckOptions;
use crate::exit::Exit;
use crate::terminal;

/// Prints the configuration in effect, or what is wrong with it.
pub(crate) fn run(options: &CheckOptions) -> Exit {
    let path = options.config.as_deref();
    let (text, exit) = match Config::check(path) {
        Ok(config) => (right(&config, path, options.json), Exit::Fine),
        Err(problems) => (wrong(&problems, path, options.json), Exit::Usage),
    };
    terminal::write_out(&mut io::stdout().lock(), text.as_bytes(), exit)
}

/// Prints every problem on a line of its own.
pub(crate) fn complain(problems: &[Problem]) {
    for problem in problems {
        terminal::complain(&problem.to_string());
    }
    let count = problems.len();
    let noun = if count == 1 { "problem" } else { "problems" };
    terminal::complain(&format!("error: the configuration has {count} {noun}"));
}

fn right(config: &Config, path: Option<&Path>, as_json: bool) -> String {
    if as_json {
        return line(&json!({ "ok": true, "file": path, "config": effective(config) }));
    }
    // A comment, so that the whole output is a configuration file.
    let name =
        path.map_or_else(|| "the defaults and the environment".into(), Path::to_string_lossy);
    format!("{}\n# OK: {}\n", config.describe(), terminal::harmless(&name))
}

fn wrong(problems: &[Problem], path: Option<&Path>, as_json: bool) -> String {
    if as_json {
        return line(&json!({ "ok": false, "file": path, "problems": problems }));
    }
    complain(problems);
    String::new()
}

/// The configuration in effect as a value, defaults included and passwords hidden.
#[expect(clippy::expect_used, reason = "the facade promises that its description reads back")]
pub(crate) fn effective(config: &Config) -> Value {
    toml::from_str(&config.describe()).expect("the description of a configuration is TOML")
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}
