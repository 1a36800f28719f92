//! Broken on purpose: for each guarantee a switch that the suite must find out.

mod support;

use std::process::ExitCode;

use trunkline_core::Result;
use trunkline_launcher::Kind;
use trunkline_redis::{Mutant, RedisBroker};
use trunkline_testing::broker::BrokerConditions;
use trunkline_testing::{Fixture, Suite};

use support::{broker, capabilities, config, fixture_of};

async fn broken(conditions: BrokerConditions, mutant: Mutant) -> Result<Fixture<RedisBroker>> {
    let config = config(&conditions)?.with_mutant(mutant);
    fixture_of(config, conditions, |broker| broker).await
}

/// Properties that notice, and what each says then.
type Caught = &'static [(&'static str, &'static str)];

fn main() -> ExitCode {
    let pinned = capabilities();
    let cases: [(&str, Mutant, Caught); 6] = [
        (
            "ack_on_read",
            Mutant::AckOnRead,
            &[
                ("broker/nothing_is_acknowledged_by_being_read", "no delivery came within"),
                (
                    "faults/what_a_killed_member_had_comes_again_within_the_bound_and_no_more",
                    "did not come in",
                ),
            ],
        ),
        (
            "maxlen_trim",
            Mutant::MaxlenTrim,
            &[(
                "broker/what_is_published_before_its_first_member_reaches_a_declared_group",
                "the next number: found",
            )],
        ),
        (
            "no_fence",
            Mutant::NoFence,
            &[(
                "faults/a_member_that_stood_still_takes_nothing_and_its_late_acks_change_nothing",
                "was begun while another holds it",
            )],
        ),
        (
            "plain_reads",
            Mutant::PlainReads,
            &[(
                "faults/a_member_that_stood_still_takes_nothing_and_its_late_acks_change_nothing",
                "was begun while another holds it",
            )],
        ),
        (
            "new_before_pending",
            Mutant::NewBeforePending,
            &[(
                "faults/what_a_killed_member_had_comes_before_what_is_new",
                "the order after the takeover",
            )],
        ),
        (
            "no_flush",
            Mutant::NoFlush,
            &[(
                "faults/members_that_join_and_leave_cleanly_under_load_lose_double_and_overlap_nothing",
                "not so that the group has nothing left",
            )],
        ),
    ];
    let mut suite = Suite::new().on(Kind::Redis);
    for (name, mutant, properties) in cases {
        let label = format!("redis/mutants/{name}");
        suite = suite.mutant(&label, &pinned, broker, move |c| broken(c, mutant), properties);
    }
    suite.run()
}
