//! A broken broker fails the property that is about its fault: a suite that passes everything proves
//! nothing.

mod deliveries;
mod mutant;

use std::time::Duration;

use trunkline_testing::broker::{BrokerProperty, Subject, in_process_properties, properties};
use trunkline_testing::{Check, Fixture, bus};

use crate::mutant::{Fault, Mutant, pinned};

/// Longer than a broker in memory needs for any property.
const LIMIT: Duration = Duration::from_secs(30);

/// How long a sound broker is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Some mutants are found out by waiting for what never comes, so there is less patience with them: it is
/// still longer than a thread stands still on a machine that is busy.
const SHORT: Duration = Duration::from_secs(2);

fn both_halves() -> Vec<BrokerProperty<Mutant>> {
    let both = properties().into_iter().chain(bus::properties());
    both.chain(in_process_properties()).chain(bus::in_process_properties()).collect()
}

fn verdict(fault: Fault, property: &str) -> Check {
    let all = both_halves();
    let property = all.iter().find(|known| known.name() == property);
    let property = property.unwrap_or_else(|| panic!("there is no such property"));
    let patience = match fault {
        // What waits too long is told from what never ends.
        Fault::None | Fault::WaitsForItsOwnGroup | Fault::StaysOpen => PATIENCE,
        _ => SHORT,
    };
    let make = move |conditions| async move {
        Ok(Fixture::new(Subject::new(Mutant::new(fault, &conditions), pinned())))
    };
    property.check_with_patience(make, LIMIT, patience)
}

#[track_caller]
fn is_found_out(fault: Fault, by: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (property, words) in by {
        match verdict(fault, property) {
            Ok(()) => wrong.push(format!("passes {property}")),
            Err(failure) if failure.to_string().contains(words) => {}
            Err(failure) => wrong.push(format!("fails {property}, not with `{words}`: {failure}")),
        }
        let sound = verdict(Fault::None, property);
        assert!(sound.is_ok(), "a sound broker fails {property}: {sound:?}");
    }
    assert!(wrong.is_empty(), "{fault:?} {}", wrong.join("\nand "));
}

macro_rules! mutants {
    ($($test:ident: $fault:ident by [$($property:literal => $words:literal),+ $(,)?];)+) => {$(
        #[test]
        fn $test() {
            is_found_out(Fault::$fault, &[$(($property, $words)),+]);
        }
    )+};
}

mutants! {
    finds_a_broker_that_accepts_what_nobody_takes: AcceptsWhatNobodyTakes by [
        "what_nobody_takes_is_kept_for_a_group_to_come_or_refused_with_what_to_do"
            => "an event that nobody takes was accepted",
        "what_nobody_takes_leaves_others_of_the_batch_alone"
            => "what failed of the batch: found [] where [(1, Unroutable)] is right",
    ];
    finds_a_broker_that_accepts_what_is_too_large: AcceptsWhatIsTooLarge by [
        "data_above_the_limit_is_too_large_and_goes_nowhere"
            => "the answer to an event that is too large: found None where Some(TooLarge) is right",
        "one_bad_event_of_a_batch_fails_alone"
            => "what failed of the batch: found [] where [(1, TooLarge)] is right",
    ];
    finds_a_broker_that_says_accepted_where_a_group_is_full: SaysFullIsAccepted by [
        "on_full_error_is_full_at_once" => "an event was accepted for which there is no room",
        "a_publisher_that_waited_its_time_gets_full"
            => "an event was accepted for which there is no room",
        "with_one_group_full_the_event_is_enqueued_nowhere"
            => "an event was accepted for which there is no room",
        "a_consumer_that_stands_still_makes_its_publishers_full_and_loses_nothing"
            => "is room for",
    ];
    finds_a_broker_that_enqueues_where_there_is_room: EnqueuesWhereThereIsRoom by [
        "with_one_group_full_the_event_is_enqueued_nowhere" => "came, and nothing should",
    ];
    finds_a_broker_where_a_handler_waits_for_its_own_group: WaitsForItsOwnGroup by [
        "a_handler_never_waits_for_its_own_group" => "and may take 2.5s at most",
        "a_handler_that_fills_its_own_group_gets_full_and_no_deadlock"
            => "no handler ran within",
    ];
    finds_a_broker_that_delivers_delayed_events_at_once: DeliversDelayedAtOnce by [
        "a_delayed_publish_is_not_early" => "may not be earlier than 500ms",
        "a_delayed_publish_lets_others_pass" => "the next number: found 1 where 2 is right",
        "delayed_events_come_as_they_are_due" => "the next number: found 0 where 2 is right",
        "what_is_delayed_matches_no_pattern_before_it_is_due" => "may not be earlier than 500ms",
    ];
    finds_a_broker_that_ignores_overrides: IgnoresOverrides by [
        "a_chosen_partition_takes_every_key_to_one_member_or_is_refused_by_name"
            => "`partition` was accepted by a broker without it",
        "a_routing_key_takes_an_event_to_who_binds_it_or_is_refused_by_name"
            => "`exchange` was accepted by a broker without it",
        "an_exchange_that_is_not_there_fails_its_publish_alone"
            => "`exchange` was accepted by a broker without it",
        "added_headers_change_neither_data_nor_attributes_or_are_refused_by_name"
            => "`headers` was accepted by a broker without it",
    ];
    finds_a_broker_that_goes_on_after_a_failure: GoesOnAfterAFailure by [
        "after_a_failure_later_events_of_the_key_are_aborted"
            => "what failed of the batch: found [(1, TooLarge)] where [(1, TooLarge), (3, Aborted), (5, Aborted)] is right",
        "a_full_group_fails_its_own_events_of_a_batch_only"
            => "what failed: found [(3, Full), (4, Full)] where [(3, Full), (4, Aborted)] is right",
    ];
    finds_a_broker_that_fails_a_batch_as_a_whole: AbortsTheWholeBatch by [
        "one_bad_event_of_a_batch_fails_alone"
            => "what failed of the batch: found [(0, Aborted), (1, Aborted), (2, Aborted)] where [(1, TooLarge)] is right",
        "what_nobody_takes_leaves_others_of_the_batch_alone"
            => "what failed of the batch: found [(0, Aborted), (1, Aborted), (2, Aborted)] where [(1, Unroutable)] is right",
    ];
    finds_a_broker_that_tells_groups_of_broadcasts: TellsGroupsOfBroadcasts by [
        "broadcast_only_reaches_subscribers_and_no_group"
            => "the next number: found 0 where 3 is right",
        "broadcast_only_to_nobody_is_no_error" => "nobody takes topic",
    ];
    finds_a_broker_that_gives_a_key_to_every_member: GivesAKeyToEveryMember by [
        "while_a_key_is_with_one_member_the_other_gets_nothing_of_it"
            => "came, and nothing should",
        "a_key_is_with_one_member_at_a_time_and_in_order" => "faults, first: number",
        "order_holds_while_members_come_and_go" => "faults, first: number",
        "order_holds_across_members"
            => "the next (number, begins) of its key: found",
    ];
    finds_a_broker_that_ignores_prefetch: IgnoresPrefetch by [
        "at_most_prefetch_deliveries_are_out" => "came, and nothing should",
    ];
    finds_a_broker_that_ignores_lanes: IgnoresLanes by [
        "more_urgent_events_overtake_and_each_priority_keeps_its_order"
            => "the critical ones were through only after",
        "what_waits_is_delivered_by_its_urgency" => "the next number: found 0 where 3 is right",
        "with_lanes_a_key_keeps_its_order_within_a_priority"
            => "the critical ones were through only after",
    ];
    finds_a_broker_that_ignores_the_start: IgnoresTheStart by [
        "a_group_that_begins_latest_skips_what_was_before"
            => "the next number: found 0 where 5 is right",
    ];
    finds_a_broker_that_matches_too_much: MatchesTooMuch by [
        "topics_whose_names_resemble_each_other_stay_apart" => "came, and nothing should",
        "concurrent_publishers_and_members_lose_and_double_nothing" => "number",
    ];
    finds_a_broker_that_drops_the_newest: DropsTheNewest by [
        "on_full_drop_oldest_keeps_the_newest_and_never_waits"
            => "an earlier event of the same topic",
    ];
    finds_a_broker_that_subscribes_later: SubscribesLater by [
        "a_subscription_is_ready_when_it_is_returned" => "nobody takes topic",
    ];
    finds_a_broker_that_leaks_subscriptions: LeaksSubscriptions by [
        "short_subscriptions_leave_nothing_behind" => "not so that the group has no member",
        "members_are_counted" => "not so that the group has 1 members",
    ];
    finds_a_broker_that_acknowledges_on_receipt: AcknowledgesOnReceipt by [
        "a_dropped_delivery_comes_back_at_the_head_of_its_key_uncounted"
            => "after 1 drops: the next number: found 1 where 0 is right",
        "nothing_is_acknowledged_by_being_read" => "no delivery came within",
        "an_unsettled_event_comes_again_though_later_ones_were_acknowledged"
            => "no delivery came within",
        "a_retry_at_once_comes_back_first_with_its_attempts"
            => "the next number: found 1 where 0 is right",
        "a_bus_that_vanishes_gives_back_what_it_ran_uncounted" => "no handler ran within",
        "an_event_is_acknowledged_only_after_its_handler_has_finished"
            => "not so that one event is out while its handler runs",
    ];
    finds_a_broker_that_loses_what_a_leaver_has: LosesWhatALeaverHas by [
        "a_lost_member_loses_nothing" => "no delivery came within",
    ];
    finds_a_broker_that_reverses_deliveries: ReversesDeliveries by [
        "events_of_a_key_come_in_the_order_of_publishing"
            => "the next number of key-",
        "events_accepted_one_by_one_come_in_that_order"
            => "the next number: found",
        "order_holds_while_members_come_and_go" => "faults, first: number",
        "a_key_keeps_its_order_with_sixteen_handlers_at_a_time"
            => "the next (number, begins) of its key: found",
    ];
    finds_a_broker_that_delivers_acknowledged_events_again: DeliversAcknowledgedAgain by [
        "an_acknowledged_event_never_comes_again" => "came, and nothing should",
        "concurrent_publishers_and_members_lose_and_double_nothing" => "number",
        "a_clean_stop_under_load_loses_and_doubles_nothing"
            => "not so that the group has nothing left",
    ];
    finds_a_broker_that_forgets_attempts: ForgetsAttempts by [
        "a_retry_at_once_comes_back_first_with_its_attempts"
            => "the attempts of number 0: found 0 where 1 is right",
        "a_delayed_retry_is_not_early_and_carries_its_attempts"
            => "the attempts of number 1: found 0 where 3 is right",
        "attempts_are_the_same_for_the_next_member"
            => "the attempts of number 1: found 0 where 2 is right",
    ];
    finds_a_broker_that_counts_drops_as_attempts: CountsDropsAsAttempts by [
        "a_dropped_delivery_comes_back_at_the_head_of_its_key_uncounted"
            => "after 1 drops: the attempts of number 0: found 1 where 0 is right",
        "a_dropped_keyless_delivery_comes_back"
            => "the attempts of number 7: found 1 where 0 is right",
        "close_gives_back_what_was_not_started_uncounted"
            => "the next run: found (\"second\", 1, 2) where (\"second\", 1, 1) is right",
        "close_past_its_deadline_cancels_and_gives_back_uncounted"
            => "the next run: found (\"second\", 0, 2) where (\"second\", 0, 1) is right",
    ];
    finds_a_broker_that_retries_at_the_back: RetriesAtTheBack by [
        "a_retry_at_once_comes_back_first_with_its_attempts"
            => "the next number: found 1 where 0 is right",
    ];
    finds_a_broker_that_retries_early: RetriesEarly by [
        "a_delayed_retry_is_not_early_and_carries_its_attempts"
            => "may not be earlier than 500ms",
        "a_delayed_retry_outlives_its_member" => "may not be earlier than 500ms",
    ];
    finds_a_broker_that_loses_dead_letters: LosesDeadLetters by [
        "a_dead_letter_keeps_all_that_is_known" => "not so that the dead letters are there",
        "a_full_log_leaves_the_event_unacknowledged"
            => "a dead letter was accepted by a log that is full",
        "three_attempts_are_three_runs_in_all_with_several_members"
            => "not so that the dead letters are there",
    ];
    finds_a_broker_that_forgets_why_an_event_was_rejected: ForgetsWhyItWasRejected by [
        "a_dead_letter_keeps_all_that_is_known" => "why and when it was given up: found",
    ];
    finds_a_broker_that_loses_what_the_full_log_refuses: LosesWhatTheFullLogRefuses by [
        "a_full_log_leaves_the_event_unacknowledged"
            => "a dead letter was accepted by a log that is full",
        "a_refused_dead_letter_keeps_the_event_and_its_key_waiting"
            => "not so that a dead letter is refused",
    ];
    finds_a_broker_that_makes_absent_data_empty: EmptiesAbsentData by [
        "empty_data_and_no_data_stay_different"
            => "whether there is data: found true where false is right",
    ];
    finds_a_broker_that_reads_data_as_text: ReadsDataAsText by [
        "binary_data_comes_out_byte_for_byte" => "the data",
        "a_mebibyte_comes_out_byte_for_byte" => "the data",
    ];
    finds_a_broker_that_forgets_the_tenant: ForgetsTheTenant by [
        "every_attribute_comes_out_as_it_went_in" => "the attributes: found",
        "free_and_unicode_attributes_come_out_as_they_went_in" => "the attributes: found",
    ];
    finds_a_broker_that_settles_a_letter_again: SettlesALetterAgain by [
        "a_dead_letter_is_settled_once" => "a dead letter was settled by Redrive and Redrive",
    ];
    finds_a_broker_that_redrives_to_nobody: RedrivesToNobody by [
        "a_redriven_event_comes_back_to_its_group_alone_without_attempts"
            => "no delivery came within",
    ];
    finds_a_broker_that_cancels_nothing: CancelsNothing by [
        "a_cancelled_publish_never_comes" => "a publish was cancelled twice",
        "what_is_not_waiting_cannot_be_cancelled"
            => "something was cancelled that was not delayed",
    ];
    finds_a_broker_that_deletes_groups_in_use: DeletesGroupsInUse by [
        "a_group_with_members_cannot_be_deleted" => "was deleted",
    ];
    finds_a_broker_that_counts_no_lag: CountsNoLag by [
        "lag_and_what_is_out_are_counted" => "not so that the lag is 40 and 0 are out",
    ];
    finds_a_broker_that_lists_foreign_letters: ListsForeignLetters by [
        "dead_letters_are_read_oldest_first_by_group_and_topic"
            => "found [0, 1, 2, 3, 4, 5] where [0, 1, 2] is right",
    ];
    finds_a_broker_that_claims_history: ClaimsHistory by [
        "it_declares_exactly_the_pinned_capabilities" => "the declared capabilities: found",
    ];
    finds_a_broker_that_stays_open: StaysOpen by [
        "a_closed_broker_refuses_everything_and_is_down"
            => "the number of events refused: found 0 where 2 is right",
        "closing_ends_every_subscription" => "it has not ended within",
        "closing_releases_a_publisher_that_waits_for_room" => "a publisher waits for a closed broker",
    ];
    finds_a_broker_that_stays_up: StaysUp by [
        "a_closed_broker_refuses_everything_and_is_down"
            => "the health of a closed broker: found Up where Down is right",
    ];
    finds_a_broker_that_shows_its_password: ShowsItsPassword by [
        "its_debug_output_holds_no_credential" => "a password is shown",
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
