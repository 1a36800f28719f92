//! `trunkline publish`: one event, or a file of them.

mod batch;
mod lines;
mod one;

use std::time::Duration;

use crate::arguments::PublishOptions;
use crate::exit::Exit;
use crate::session::block_on;

/// How long a publish is tried again that failed for a reason that may pass.
const PATIENCE: Duration = Duration::from_secs(60);
/// The first wait before a publish is tried again; doubled up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Publishes what the options say.
pub(crate) fn run(options: &PublishOptions) -> Exit {
    match (&options.topic, &options.ndjson) {
        (_, Some(path)) => block_on(lines::publish(path, options)),
        (Some(topic), None) => block_on(one::publish(topic, options)),
        // The command line asks for one of the two.
        (None, None) => Exit::Usage,
    }
}
