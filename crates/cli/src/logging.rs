//! The program's log: on standard error, as much as `TRUNKLINE_LOG` asks for.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::terminal;

/// The variable that says what is logged, such as `info` or `trunkline_bus=debug`.
pub(crate) const VARIABLE: &str = "TRUNKLINE_LOG";

/// What is logged where the variable says nothing: our own warnings. Drivers log what we report in our
/// words, and errors where there are none, such as a connection that was closed on purpose.
const USUAL: &str = "off,trunkline=warn";

/// Starts logging: our own warnings, where the variable says nothing.
///
/// # Errors
/// When the variable holds no filter.
pub(crate) fn start() -> Result<(), String> {
    let filter = match std::env::var(VARIABLE) {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text).map_err(|error| {
            let text = terminal::harmless(&text);
            format!(
                "{VARIABLE}={text:?} is no filter such as `info` or `trunkline_bus=debug`: {error}"
            )
        })?,
        _ => EnvFilter::new(USUAL),
    };
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    Ok(())
}
