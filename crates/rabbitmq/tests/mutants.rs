//! Brokers that break one guarantee on purpose: the suite has to find each of them out.

mod support;

use std::process::ExitCode;

use trunkline_core::Result;
use trunkline_launcher::Kind;
use trunkline_rabbitmq::{Mutant, RabbitMqBroker};
use trunkline_testing::broker::BrokerConditions;
use trunkline_testing::{Fixture, Suite};

use support::{broker, capabilities, config, connect, with_hooks};

async fn broken(conditions: BrokerConditions, mutant: Mutant) -> Result<Fixture<RabbitMqBroker>> {
    let broker = connect(config(&conditions)?.with_mutant(mutant)).await?;
    Ok(with_hooks(Fixture::new(broker), &conditions))
}

/// Each guarantee, and a property that notices when it is broken.
const MUTANTS: &[(&str, Mutant, &[&str])] = &[
    ("ack_early", Mutant::AckEarly, &["broker/nothing_is_acknowledged_by_being_read"]),
    (
        "no_mandatory",
        Mutant::NoMandatory,
        &["broker/a_topic_that_nobody_takes_is_unroutable_and_the_error_says_what_to_do"],
    ),
    (
        "at_most_once_delay",
        Mutant::AtMostOnceDelay,
        &["faults/delayed_events_survive_a_kill_while_they_come_due"],
    ),
    (
        "hand_over_by_cancel",
        Mutant::HandOverByCancel,
        &["faults/members_that_join_and_leave_cleanly_under_load_lose_double_and_overlap_nothing"],
    ),
    (
        "no_alternate_exchange",
        Mutant::NoAlternateExchange,
        &["broker/what_is_no_event_is_delivered_raw_with_its_defect_and_others_go_on"],
    ),
    (
        "no_barrier",
        Mutant::NoBarrier,
        &["faults/members_that_join_and_leave_cleanly_under_load_lose_double_and_overlap_nothing"],
    ),
    (
        "no_flush_on_close",
        Mutant::NoFlushOnClose,
        &["broker/what_a_member_leaves_behind_goes_to_the_others"],
    ),
];

fn main() -> ExitCode {
    let mut suite = Suite::new().on(Kind::RabbitMq);
    for (name, mutant, properties) in MUTANTS {
        let label = format!("rabbitmq/mutants/{name}");
        let make = |conditions| broken(conditions, *mutant);
        suite = suite.mutant(&label, &capabilities(), broker, make, properties);
    }
    suite.run()
}
