//! The conformance suite on the RabbitMQ broker, against a real server.

mod support;

use std::process::ExitCode;
use std::sync::Arc;

use trunkline_core::{Broker, Result};
use trunkline_launcher::Kind;
use trunkline_testing::broker::{BrokerConditions, Need};
use trunkline_testing::{Fixture, Suite};

use support::{
    acknowledgements_right_before_a_close_land, broker, capabilities, config, connect, with_hooks,
};

async fn shared(conditions: BrokerConditions) -> Result<Fixture<Arc<dyn Broker>>> {
    let broker: Arc<dyn Broker> = Arc::new(connect(config(&conditions)?).await?);
    Ok(with_hooks(Fixture::new(broker), &conditions))
}

fn main() -> ExitCode {
    Suite::new()
        .on(Kind::RabbitMq)
        .broker("rabbitmq/value", &capabilities(), broker)
        .bus("rabbitmq/shared", &capabilities(), shared)
        .case("rabbitmq/value/acknowledgements_right_before_a_close_land", || {
            acknowledgements_right_before_a_close_land(|config| config)
        })
        .faults("rabbitmq/value", &capabilities(), broker)
        // A message in the ladder of delays cannot be taken back.
        .may_skip(&[Need::Cancel])
        .run()
}
