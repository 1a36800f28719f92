//! A broken broker fails the property that is about its fault: a suite that passes everything proves
//! nothing.

mod deliveries;
mod mutant;

use std::time::Duration;

use trunkline_testing::broker::{BrokerProperty, Subject, properties};
use trunkline_testing::{Check, Fixture, bus};

use crate::mutant::{Fault, Mutant, pinned};

/// Longer than a sound broker in memory needs for any property.
const LIMIT: Duration = Duration::from_secs(20);

/// Some mutants are found out by waiting for what never comes, so there is less patience with them.
const SHORT: Duration = Duration::from_secs(1);

fn both_halves() -> Vec<BrokerProperty<Mutant>> {
    properties().into_iter().chain(bus::properties()).collect()
}

fn verdict(fault: Fault, property: &str) -> Check {
    let all = both_halves();
    let property = all.iter().find(|known| known.name() == property);
    let property = property.unwrap_or_else(|| panic!("there is no such property"));
    let limit = if fault == Fault::None { LIMIT } else { SHORT };
    let make = move |conditions| async move {
        Ok(Fixture::new(Subject::new(Mutant::new(fault, &conditions), pinned())))
    };
    property.check(make, limit)
}

#[track_caller]
fn is_found_out(fault: Fault, by: &[&str]) {
    for property in by {
        assert!(verdict(fault, property).is_err(), "{fault:?} passes {property}");
        let sound = verdict(Fault::None, property);
        assert!(sound.is_ok(), "a sound broker fails {property}: {sound:?}");
    }
}

macro_rules! mutants {
    ($($test:ident: $fault:ident by [$($property:literal),+ $(,)?];)+) => {$(
        #[test]
        fn $test() {
            is_found_out(Fault::$fault, &[$($property),+]);
        }
    )+};
}

mutants! {
    finds_a_broker_that_accepts_what_nobody_takes: AcceptsWhatNobodyTakes by [
        "what_nobody_takes_is_kept_for_a_group_to_come_or_refused_with_what_to_do",
        "what_nobody_takes_leaves_others_of_the_batch_alone",
    ];
    finds_a_broker_that_accepts_what_is_too_large: AcceptsWhatIsTooLarge by [
        "data_above_the_limit_is_too_large_and_goes_nowhere",
        "one_bad_event_of_a_batch_fails_alone",
    ];
    finds_a_broker_that_says_accepted_where_a_group_is_full: SaysFullIsAccepted by [
        "on_full_error_is_full_at_once",
        "a_publisher_that_waited_its_time_gets_full",
        "with_one_group_full_the_event_is_enqueued_nowhere",
        "a_consumer_that_stands_still_makes_its_publishers_full_and_loses_nothing",
    ];
    finds_a_broker_that_enqueues_where_there_is_room: EnqueuesWhereThereIsRoom by [
        "with_one_group_full_the_event_is_enqueued_nowhere",
    ];
    finds_a_broker_where_a_handler_waits_for_its_own_group: WaitsForItsOwnGroup by [
        "a_handler_never_waits_for_its_own_group",
        "a_handler_that_fills_its_own_group_gets_full_and_no_deadlock",
    ];
    finds_a_broker_that_delivers_delayed_events_at_once: DeliversDelayedAtOnce by [
        "a_delayed_publish_is_not_early",
        "a_delayed_publish_lets_others_pass",
        "delayed_events_come_as_they_are_due",
        "what_is_delayed_matches_no_pattern_before_it_is_due",
    ];
    finds_a_broker_that_ignores_overrides: IgnoresOverrides by [
        "an_override_that_it_lacks_is_refused_by_name_and_nothing_is_sent",
    ];
    finds_a_broker_that_goes_on_after_a_failure: GoesOnAfterAFailure by [
        "after_a_failure_later_events_of_the_key_are_aborted",
        "a_full_group_fails_its_own_events_of_a_batch_only",
    ];
    finds_a_broker_that_fails_a_batch_as_a_whole: AbortsTheWholeBatch by [
        "one_bad_event_of_a_batch_fails_alone",
        "what_nobody_takes_leaves_others_of_the_batch_alone",
    ];
    finds_a_broker_that_tells_groups_of_broadcasts: TellsGroupsOfBroadcasts by [
        "broadcast_only_reaches_subscribers_and_no_group",
        "broadcast_only_to_nobody_is_no_error",
    ];
    finds_a_broker_that_gives_a_key_to_every_member: GivesAKeyToEveryMember by [
        "while_a_key_is_with_one_member_the_other_gets_nothing_of_it",
        "a_key_is_with_one_member_at_a_time_and_in_order",
        "order_holds_while_members_come_and_go",
        "order_holds_across_members",
    ];
    finds_a_broker_that_ignores_prefetch: IgnoresPrefetch by [
        "at_most_prefetch_deliveries_are_out",
    ];
    finds_a_broker_that_ignores_lanes: IgnoresLanes by [
        "more_urgent_events_overtake_and_each_priority_keeps_its_order",
        "what_waits_is_delivered_by_its_urgency",
        "with_lanes_a_key_keeps_its_order_within_a_priority",
    ];
    finds_a_broker_that_ignores_the_start: IgnoresTheStart by [
        "a_group_that_begins_latest_skips_what_was_before",
    ];
    finds_a_broker_that_matches_too_much: MatchesTooMuch by [
        "topics_whose_names_resemble_each_other_stay_apart",
        "concurrent_publishers_and_members_lose_and_double_nothing",
    ];
    finds_a_broker_that_drops_the_newest: DropsTheNewest by [
        "on_full_drop_oldest_keeps_the_newest_and_never_waits",
    ];
    finds_a_broker_that_subscribes_later: SubscribesLater by [
        "a_subscription_is_ready_when_it_is_returned",
    ];
    finds_a_broker_that_leaks_subscriptions: LeaksSubscriptions by [
        "short_subscriptions_leave_nothing_behind",
        "members_are_counted",
    ];
    finds_a_broker_that_acknowledges_on_receipt: AcknowledgesOnReceipt by [
        "a_dropped_delivery_comes_back_at_the_head_of_its_key_uncounted",
        "nothing_is_acknowledged_by_being_read",
        "an_unsettled_event_comes_again_though_later_ones_were_acknowledged",
        "a_retry_at_once_comes_back_first_with_its_attempts",
        "a_bus_that_vanishes_gives_back_what_it_ran_uncounted",
        "an_event_is_acknowledged_only_after_its_handler_has_finished",
    ];
    finds_a_broker_that_loses_what_a_leaver_has: LosesWhatALeaverHas by [
        "a_lost_member_loses_nothing",
    ];
    finds_a_broker_that_reverses_deliveries: ReversesDeliveries by [
        "events_of_a_key_come_in_the_order_of_publishing",
        "events_accepted_one_by_one_come_in_that_order",
        "order_holds_while_members_come_and_go",
        "a_key_keeps_its_order_with_sixteen_handlers_at_a_time",
    ];
    finds_a_broker_that_delivers_acknowledged_events_again: DeliversAcknowledgedAgain by [
        "an_acknowledged_event_never_comes_again",
        "concurrent_publishers_and_members_lose_and_double_nothing",
        "a_clean_stop_under_load_loses_and_doubles_nothing",
    ];
    finds_a_broker_that_forgets_attempts: ForgetsAttempts by [
        "a_retry_at_once_comes_back_first_with_its_attempts",
        "a_delayed_retry_is_not_early_and_carries_its_attempts",
        "attempts_are_the_same_for_the_next_member",
    ];
    finds_a_broker_that_counts_drops_as_attempts: CountsDropsAsAttempts by [
        "a_dropped_delivery_comes_back_at_the_head_of_its_key_uncounted",
        "a_dropped_keyless_delivery_comes_back",
        "close_gives_back_what_was_not_started_uncounted",
        "close_past_its_deadline_cancels_and_gives_back_uncounted",
    ];
    finds_a_broker_that_retries_at_the_back: RetriesAtTheBack by [
        "a_retry_at_once_comes_back_first_with_its_attempts",
    ];
    finds_a_broker_that_retries_early: RetriesEarly by [
        "a_delayed_retry_is_not_early_and_carries_its_attempts",
        "a_delayed_retry_outlives_its_member",
    ];
    finds_a_broker_that_loses_dead_letters: LosesDeadLetters by [
        "a_dead_letter_keeps_all_that_is_known",
        "a_full_log_leaves_the_event_unacknowledged",
        "three_attempts_are_three_runs_in_all_with_several_members",
    ];
    finds_a_broker_that_forgets_why_an_event_was_rejected: ForgetsWhyItWasRejected by [
        "a_dead_letter_keeps_all_that_is_known",
    ];
    finds_a_broker_that_loses_what_the_full_log_refuses: LosesWhatTheFullLogRefuses by [
        "a_full_log_leaves_the_event_unacknowledged",
        "a_refused_dead_letter_keeps_the_event_and_its_key_waiting",
    ];
    finds_a_broker_that_makes_absent_data_empty: EmptiesAbsentData by [
        "empty_data_and_no_data_stay_different",
    ];
    finds_a_broker_that_reads_data_as_text: ReadsDataAsText by [
        "binary_data_comes_out_byte_for_byte",
        "a_mebibyte_comes_out_byte_for_byte",
    ];
    finds_a_broker_that_forgets_the_tenant: ForgetsTheTenant by [
        "every_attribute_comes_out_as_it_went_in",
        "free_and_unicode_attributes_come_out_as_they_went_in",
    ];
    finds_a_broker_that_settles_a_letter_again: SettlesALetterAgain by [
        "a_dead_letter_is_settled_once",
    ];
    finds_a_broker_that_redrives_to_nobody: RedrivesToNobody by [
        "a_redriven_event_comes_back_to_its_group_alone_without_attempts",
    ];
    finds_a_broker_that_cancels_nothing: CancelsNothing by [
        "a_cancelled_publish_never_comes",
        "what_is_not_waiting_cannot_be_cancelled",
    ];
    finds_a_broker_that_deletes_groups_in_use: DeletesGroupsInUse by [
        "a_group_with_members_cannot_be_deleted",
    ];
    finds_a_broker_that_counts_no_lag: CountsNoLag by [
        "lag_and_what_is_out_are_counted",
    ];
    finds_a_broker_that_lists_foreign_letters: ListsForeignLetters by [
        "dead_letters_are_read_oldest_first_by_group_and_topic",
    ];
    finds_a_broker_that_claims_history: ClaimsHistory by [
        "it_declares_exactly_the_pinned_capabilities",
    ];
    finds_a_broker_that_stays_open: StaysOpen by [
        "a_closed_broker_refuses_everything_and_is_down",
        "closing_ends_every_subscription",
        "closing_releases_a_publisher_that_waits_for_room",
    ];
    finds_a_broker_that_stays_up: StaysUp by [
        "a_closed_broker_refuses_everything_and_is_down",
    ];
    finds_a_broker_that_shows_its_password: ShowsItsPassword by [
        "its_debug_output_holds_no_credential",
    ];
}

#[test]
fn a_sound_broker_behind_the_mutants_mask_holds_every_property_that_it_can() {
    for property in both_halves() {
        if property.lacking(&pinned()).is_none() {
            let sound = verdict(Fault::None, property.name());
            assert!(sound.is_ok(), "a sound broker fails {}: {sound:?}", property.name());
        }
    }
}

#[test]
fn every_property_of_brokers_and_buses_has_a_name_of_its_own() {
    let all = both_halves();
    let mut names: Vec<_> = all.iter().map(|property| property.name()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
