//! Broken on purpose: for each guarantee a switch that the suite must find out.

mod support;

use std::process::ExitCode;

use trunkline_core::Result;
use trunkline_kafka::{KafkaBroker, Mutant};
use trunkline_launcher::Kind;
use trunkline_testing::broker::BrokerConditions;
use trunkline_testing::{Fixture, Suite};

use support::{broker, capabilities, config, fixture};

async fn broken(conditions: BrokerConditions, mutant: Mutant) -> Result<Fixture<KafkaBroker>> {
    let broker = KafkaBroker::connect(config(&conditions)?.with_mutant(mutant)).await?;
    Ok(fixture(broker, conditions))
}

/// Properties that notice, and what each says then.
type Caught = &'static [(&'static str, &'static str)];

fn main() -> ExitCode {
    let cases: [(&str, Mutant, Caught); 5] = [
        (
            "ack_early",
            Mutant::AckEarly,
            &[
                ("broker/nothing_is_acknowledged_by_being_read", "no delivery came within"),
                (
                    "faults/what_a_killed_member_had_comes_again_within_the_bound_and_no_more",
                    "did not come in",
                ),
            ],
        ),
        (
            "commit_highest",
            Mutant::CommitHighest,
            &[(
                "faults/what_a_killed_member_had_comes_again_within_the_bound_and_no_more",
                "did not come in",
            )],
        ),
        (
            "no_drain_before_revoke",
            Mutant::NoDrainBeforeRevoke,
            &[(
                "faults/members_that_join_and_leave_cleanly_under_load_lose_double_and_overlap_nothing",
                "the duplicates: found",
            )],
        ),
        (
            "no_fence",
            Mutant::NoFence,
            &[(
                "faults/after_a_cut_an_event_runs_at_most_once_more_and_the_late_ack_is_refused",
                "the late acknowledgement was accepted",
            )],
        ),
        (
            "no_flush_on_close",
            Mutant::NoFlushOnClose,
            &[(
                "faults/a_close_under_load_loses_and_doubles_nothing_that_was_accepted",
                "accepted are lost",
            )],
        ),
    ];
    let mut suite = Suite::new().on(Kind::Kafka);
    for (name, mutant, properties) in cases {
        let label = format!("kafka/mutants/{name}");
        let broken = move |conditions| broken(conditions, mutant);
        suite = suite.mutant(&label, &capabilities(), broker, broken, properties);
    }
    suite.run()
}
