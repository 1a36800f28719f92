//! Brokers that break one guarantee on purpose: the suite has to find each of them out.

mod support;

use std::process::ExitCode;

use trunkline_core::Result;
use trunkline_launcher::Kind;
use trunkline_rabbitmq::{Mutant, RabbitMqBroker, RabbitMqConfig};
use trunkline_testing::broker::BrokerConditions;
use trunkline_testing::{Check, Failure, Fixture, Suite};

use support::{
    acknowledgements_right_before_a_close_land, broker, capabilities, config, connect, with_hooks,
};

async fn broken(conditions: BrokerConditions, mutant: Mutant) -> Result<Fixture<RabbitMqBroker>> {
    let broker = connect(config(&conditions)?.with_mutant(mutant)).await?;
    Ok(with_hooks(Fixture::new(broker), &conditions))
}

/// Properties that notice, and what each says then.
type Caught = &'static [(&'static str, &'static str)];

/// Each guarantee, and how it is noticed when it is broken.
const MUTANTS: &[(&str, Mutant, Caught)] = &[
    (
        "ack_early",
        Mutant::AckEarly,
        &[("broker/nothing_is_acknowledged_by_being_read", "no delivery came within")],
    ),
    (
        "no_mandatory",
        Mutant::NoMandatory,
        &[(
            "broker/what_nobody_takes_is_kept_for_a_group_to_come_or_refused_with_what_to_do",
            "an event that nobody takes was accepted",
        )],
    ),
    (
        "at_most_once_delay",
        Mutant::AtMostOnceDelay,
        &[("faults/delayed_events_survive_a_kill_while_they_come_due", "are lost")],
    ),
    (
        "hand_over_by_cancel",
        Mutant::HandOverByCancel,
        &[("broker/order_holds_while_members_come_and_go", "faults, first: number")],
    ),
    (
        "no_alternate_exchange",
        Mutant::NoAlternateExchange,
        &[(
            "broker/what_is_no_event_is_delivered_raw_with_its_defect_and_others_go_on",
            "4 of 5 came, and then: no delivery came",
        )],
    ),
    (
        "no_flush_on_close",
        Mutant::NoFlushOnClose,
        &[("broker/what_a_member_leaves_behind_goes_to_the_others", "which is not wanted")],
    ),
];

async fn no_barrier() -> Check {
    let broken = |config: RabbitMqConfig| config.with_mutant(Mutant::NoBarrier);
    match acknowledgements_right_before_a_close_land(broken).await {
        Err(failure) if failure.to_string().contains("settled deliveries came again") => Ok(()),
        Err(failure) => Err(failure),
        Ok(()) => Err(Failure::new("the mutant's acknowledgements all land")),
    }
}

fn main() -> ExitCode {
    let mut suite = Suite::new().on(Kind::RabbitMq);
    for (name, mutant, properties) in MUTANTS {
        let label = format!("rabbitmq/mutants/{name}");
        let make = |conditions| broken(conditions, *mutant);
        suite = suite.mutant(&label, &capabilities(), broker, make, properties);
    }
    suite.case("rabbitmq/mutants/no_barrier", no_barrier).run()
}
