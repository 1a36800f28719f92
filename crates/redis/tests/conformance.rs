//! The conformance suite on Redis Streams.

mod support;

use std::process::ExitCode;
use std::sync::Arc;

use trunkline_core::{Broker, Result};
use trunkline_launcher::Kind;
use trunkline_testing::broker::BrokerConditions;
use trunkline_testing::{Fixture, Suite};

use support::{broker, capabilities, fixture};

async fn boxed(conditions: BrokerConditions) -> Result<Fixture<Box<dyn Broker>>> {
    fixture(conditions, |broker| Box::new(broker) as Box<dyn Broker>).await
}

async fn shared(conditions: BrokerConditions) -> Result<Fixture<Arc<dyn Broker>>> {
    fixture(conditions, |broker| Arc::new(broker) as Arc<dyn Broker>).await
}

fn main() -> ExitCode {
    let pinned = capabilities();
    Suite::new()
        .on(Kind::Redis)
        .broker("redis/value", &pinned, broker)
        .broker("redis/boxed", &pinned, boxed)
        .broker("redis/shared", &pinned, shared)
        .bus("redis/value", &pinned, broker)
        .faults("redis/value", &pinned, broker)
        // Whatever a property needs is there.
        .may_skip(&[])
        .run()
}
