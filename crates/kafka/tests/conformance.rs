//! The conformance suite on the Kafka broker, against a real server.

mod support;

use std::process::ExitCode;

use trunkline_launcher::Kind;
use trunkline_testing::Suite;
use trunkline_testing::broker::Need;

use support::{broker, capabilities};

fn main() -> ExitCode {
    Suite::new()
        .on(Kind::Kafka)
        .broker("kafka", &capabilities(), broker)
        .bus("kafka", &capabilities(), broker)
        .faults("kafka", &capabilities(), broker)
        // A record that was written cannot be taken back.
        .may_skip(&[Need::Cancel])
        .run()
}
