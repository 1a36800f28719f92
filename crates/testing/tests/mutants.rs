//! A broken store fails the property that is about it: a suite that passes everything proves nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use trunkline_core::{
    Appended, Data, Event, EventStore, ExpectedVersion, Page, Position, ReadAll, ReadStream,
    Recorded, Result, StreamVersion,
};
use trunkline_memory::{MemoryStore, MemoryStoreConfig};
use trunkline_testing::store::{StoreLimits, properties};
use trunkline_testing::{Check, Fixture};

/// One way to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    IgnoresExpectedVersion,
    AppendsOneByOne,
    ForgetsWhatIsKnown,
    RefusesWhatIsKnown,
    LosesTheLastEventOfAPage,
    RepeatsTheLastEventOfAPage,
    StaysWhereItIs,
    SkipsAnEventBetweenPages,
    HidesTheNewestForAMoment,
    HeadOfTheFirstEvent,
    HeadOfTheFuture,
    NeverWakes,
    DeletesInsteadOfTruncating,
    TruncatesInsteadOfDeleting,
    IgnoresTheLimitOfAStream,
    IgnoresTheCorrelation,
    IgnoresTheTimeRange,
    FoldsStreamNames,
    EmptiesAbsentData,
    WritesAttributesAsText,
    IgnoresItsLimits,
}

#[derive(Debug)]
struct Mutant {
    sound: MemoryStore,
    fault: Fault,
    reads: AtomicU64,
}

impl Mutant {
    fn new(fault: Fault, limits: StoreLimits) -> Self {
        let limits = if fault == Fault::IgnoresItsLimits { StoreLimits::default() } else { limits };
        let config = MemoryStoreConfig::default()
            .with_ttl(limits.ttl)
            .with_max_events_per_stream(limits.max_events_per_stream);
        Self { sound: MemoryStore::new(config), fault, reads: AtomicU64::new(0) }
    }

    fn name(&self, stream: &str) -> String {
        match self.fault {
            Fault::FoldsStreamNames => stream.to_lowercase(),
            _ => stream.to_owned(),
        }
    }

    fn stored(&self, event: &Event) -> Result<Event> {
        match self.fault {
            Fault::EmptiesAbsentData => {
                let data = event.data()?;
                let bytes = data.bytes.or_else(|| Some(Vec::new().into()));
                let data = Data { bytes, ..data };
                Ok(Event::from_parts(event.attributes().clone(), data))
            }
            Fault::WritesAttributesAsText => event.amend(|attributes| {
                let free = attributes.free();
                let free: Vec<_> =
                    free.map(|(n, v)| (n.to_owned(), v.to_text().into_owned())).collect();
                free.into_iter().try_for_each(|(name, text)| attributes.set(&name, text))
            }),
            _ => Ok(event.clone()),
        }
    }

    /// The page as this mutant gets it wrong.
    fn spoil(&self, read: &ReadAll, mut page: Page) -> Page {
        match self.fault {
            Fault::LosesTheLastEventOfAPage => {
                page.events.pop();
            }
            Fault::RepeatsTheLastEventOfAPage if !page.caught_up => {
                page.next = Position::from_raw(page.next.to_raw() - 1).max(read.after);
            }
            Fault::SkipsAnEventBetweenPages if !page.caught_up => {
                page.next = Position::from_raw(page.next.to_raw() + 1);
            }
            Fault::StaysWhereItIs if page.events.is_empty() => page.next = read.after,
            // Now and then the one before the newest commits after it.
            Fault::HidesTheNewestForAMoment
                if page.events.len() > 1
                    && self.reads.fetch_add(1, Ordering::Relaxed).is_multiple_of(5) =>
            {
                page.events.remove(page.events.len() - 2);
            }
            _ => {}
        }
        page
    }
}

#[async_trait]
impl EventStore for Mutant {
    async fn append(
        &self,
        stream: &str,
        expected: ExpectedVersion,
        events: &[Event],
    ) -> Result<Vec<Appended>> {
        let stream = self.name(stream);
        let events: Vec<_> = events.iter().map(|e| self.stored(e)).collect::<Result<_>>()?;
        let expected = match self.fault {
            Fault::IgnoresExpectedVersion => ExpectedVersion::Any,
            _ => expected,
        };
        if self.fault == Fault::AppendsOneByOne {
            let mut places = Vec::new();
            for event in &events {
                let one = std::slice::from_ref(event);
                places.extend(self.sound.append(&stream, ExpectedVersion::Any, one).await?);
            }
            return Ok(places);
        }
        let mut places = self.sound.append(&stream, expected, &events).await?;
        if self.fault == Fault::RefusesWhatIsKnown && places.iter().any(|place| place.known) {
            return self
                .sound
                .append(&stream, ExpectedVersion::Exact(u64::MAX), &events[..0])
                .await;
        }
        if self.fault == Fault::ForgetsWhatIsKnown {
            places.iter_mut().for_each(|place| place.known = false);
        }
        Ok(places)
    }

    async fn read_stream(&self, stream: &str, read: &ReadStream) -> Result<Vec<Recorded>> {
        let limit = match self.fault {
            Fault::IgnoresTheLimitOfAStream => usize::MAX,
            _ => read.limit,
        };
        self.sound.read_stream(&self.name(stream), &read.with_limit(limit)).await
    }

    async fn read_all(&self, read: &ReadAll) -> Result<Page> {
        let mut asked = read.clone();
        match self.fault {
            Fault::IgnoresTheCorrelation => asked.correlation = None,
            Fault::IgnoresTheTimeRange => (asked.since, asked.until) = (None, None),
            _ => {}
        }
        Ok(self.spoil(read, self.sound.read_all(&asked).await?))
    }

    async fn head(&self) -> Result<Position> {
        let head = self.sound.head().await?;
        Ok(match self.fault {
            Fault::HeadOfTheFirstEvent => head.min(Position::from_raw(1)),
            Fault::HeadOfTheFuture => Position::from_raw(head.to_raw() + 3),
            _ => head,
        })
    }

    async fn truncate_stream(&self, stream: &str, before: StreamVersion) -> Result<u64> {
        match self.fault {
            Fault::DeletesInsteadOfTruncating => self.sound.delete_stream(stream).await,
            _ => self.sound.truncate_stream(stream, before).await,
        }
    }

    async fn delete_stream(&self, stream: &str) -> Result<u64> {
        match self.fault {
            Fault::TruncatesInsteadOfDeleting => self.sound.truncate_stream(stream, u64::MAX).await,
            _ => self.sound.delete_stream(stream).await,
        }
    }

    async fn wait_for(&self, position: Position) -> Result<()> {
        if self.fault == Fault::NeverWakes {
            std::future::pending::<()>().await;
        }
        self.sound.wait_for(position).await
    }
}

/// Longer than a store in memory needs for any property.
const LIMIT: Duration = Duration::from_secs(30);

/// What never ends is not waited for as long.
const SHORT: Duration = Duration::from_secs(2);

/// How a property fails that waits for what a mutant never does.
const NEVER: &str = "it has not ended after";

fn verdict(fault: Fault, property: &str, limit: Duration) -> Check {
    let all = properties::<Mutant>();
    let property = all.iter().find(|known| known.name() == property);
    let property = property.unwrap_or_else(|| panic!("there is no such property"));
    property.check(move |limits| async move { Ok(Fixture::new(Mutant::new(fault, limits))) }, limit)
}

#[track_caller]
fn is_found_out(fault: Fault, by: &[(&str, &str)]) {
    for (property, words) in by {
        let limit = if *words == NEVER { SHORT } else { LIMIT };
        match verdict(fault, property, limit) {
            Ok(()) => panic!("{fault:?} passes {property}"),
            Err(failure) => assert!(
                failure.to_string().contains(words),
                "{fault:?} fails {property}, not with `{words}`: {failure}"
            ),
        }
        let sound = verdict(Fault::None, property, LIMIT);
        assert!(sound.is_ok(), "a sound store fails {property}: {sound:?}");
    }
}

macro_rules! mutants {
    ($($test:ident: $fault:ident by [$($property:literal => $words:expr),+ $(,)?];)+) => {$(
        #[test]
        fn $test() {
            is_found_out(Fault::$fault, &[$(($property, $words)),+]);
        }
    )+};
}

mutants! {
    finds_a_store_that_ignores_the_expected_version: IgnoresExpectedVersion by [
        "of_racing_writers_exactly_one_wins"
            => "the number of writers that won: found 16",
        "of_racing_creators_exactly_one_wins"
            => "the number of writers that won: found 16",
        "a_stream_is_created_once"
            => "a wrong version was accepted",
        "a_wrong_version_is_a_conflict_that_names_both"
            => "a wrong version was accepted",
        "a_conflict_leaves_nothing_behind"
            => "a wrong version was accepted",
    ];
    finds_a_store_that_appends_a_batch_one_by_one: AppendsOneByOne by [
        "a_batch_that_is_known_in_part_is_a_conflict_and_writes_nothing"
            => "the batch was accepted",
        "an_event_twice_in_a_batch_is_a_conflict_and_writes_nothing"
            => "the batch was accepted",
    ];
    finds_a_store_that_forgets_what_is_known: ForgetsWhatIsKnown by [
        "appending_the_same_events_again_returns_their_first_places"
            => "the places of events that are known: found",
        "racing_retries_of_one_event_store_it_once"
            => "told the event is new: found 16 where 1 is right",
        "the_same_id_of_another_tenant_or_source_is_another_event"
            => "the same identity got the place",
    ];
    finds_a_store_that_refuses_what_is_known: RefusesWhatIsKnown by [
        "appending_the_same_events_again_returns_their_first_places"
            => "the stream has another version",
        "a_retry_with_the_version_of_the_first_try_is_no_conflict"
            => "the stream has another version",
    ];
    finds_a_store_that_loses_the_last_event_of_a_page: LosesTheLastEventOfAPage by [
        "positions_increase_in_the_order_of_appending"
            => "the global order: found",
        "a_tailing_reader_misses_nothing_under_concurrent_writers"
            => "the number of events that the reader saw: found",
        "nothing_appears_at_or_before_a_head"
            => "the number of events in the global order: found",
    ];
    finds_a_store_that_repeats_an_event: RepeatsTheLastEventOfAPage by [
        "pages_of_any_size_reach_the_same_events"
            => "a page leads back to",
        "a_tailing_reader_misses_nothing_under_concurrent_writers"
            => "a page leads back to",
    ];
    finds_a_store_that_skips_an_event_between_pages: SkipsAnEventBetweenPages by [
        "pages_of_any_size_reach_the_same_events"
            => "what pages of 1 found: found",
        "a_tailing_reader_misses_nothing_under_concurrent_writers"
            => "the number of events that the reader saw: found",
    ];
    finds_a_store_whose_reader_stays_at_what_its_filter_leaves_out: StaysWhereItIs by [
        "a_page_moves_past_what_its_filter_leaves_out"
            => "reading stopped at 0 before 300",
    ];
    finds_a_store_that_shows_events_before_older_ones: HidesTheNewestForAMoment by [
        "a_tailing_reader_misses_nothing_under_concurrent_writers"
            => "the number of events that the reader saw: found",
        "followers_started_in_a_burst_see_no_gap_and_no_duplicate" => NEVER,
    ];
    finds_a_store_whose_head_lags: HeadOfTheFirstEvent by [
        "the_head_is_never_below_what_a_reader_has_seen"
            => "the head is 1 after an event at",
        "nothing_appears_at_or_before_a_head"
            => "the events that were visible at the head 1: found",
    ];
    finds_a_store_whose_head_runs_ahead: HeadOfTheFuture by [
        "nothing_appears_at_or_before_a_head"
            => "the events that were visible at the head 4: found",
    ];
    finds_a_store_that_never_wakes_a_reader: NeverWakes by [
        "a_follower_catches_up_and_then_follows" => NEVER,
        "a_waiting_follower_wakes_for_every_append" => NEVER,
        "waiting_for_what_is_there_returns_at_once" => NEVER,
    ];
    finds_a_store_that_deletes_instead_of_truncating: DeletesInsteadOfTruncating by [
        "truncating_removes_what_is_below_and_versions_go_on"
            => "the number of events removed: found 10 where 3 is right",
        "a_stream_truncated_to_nothing_keeps_its_version"
            => "creating a stream that was truncated: found Ok",
    ];
    finds_a_store_that_truncates_instead_of_deleting: TruncatesInsteadOfDeleting by [
        "a_deleted_stream_starts_again_at_version_one"
            => "the stream has another version",
    ];
    finds_a_store_that_ignores_the_limit_of_a_stream: IgnoresTheLimitOfAStream by [
        "a_stream_reads_forward_from_a_version_up_to_a_limit"
            => "where [1, 2] is right",
        "a_stream_reads_backward_from_a_version_up_to_a_limit"
            => "where [10, 9] is right",
    ];
    finds_a_store_that_ignores_the_correlation: IgnoresTheCorrelation by [
        "each_filter_takes_what_it_says"
            => "correlation: Some(story 1)",
        "filters_hold_together"
            => "correlation: Some(story 4)",
        "a_correlation_finds_its_events_in_every_stream_in_order"
            => "the events of the story: found",
        "a_follower_with_a_filter_sees_only_its_events"
            => "what the follower saw: found",
    ];
    finds_a_store_that_ignores_the_time_range: IgnoresTheTimeRange by [
        "each_filter_takes_what_it_says"
            => "since: Some(1970-01-01T00:01:40Z)",
        "a_time_range_is_half_open_to_the_nanosecond"
            => "what lies from 0 to 1 ns: found",
        "an_event_without_a_time_is_in_no_time_range"
            => "since: Some(1970-01-01T00:00:00Z",
    ];
    finds_a_store_that_folds_stream_names: FoldsStreamNames by [
        "a_stream_holds_only_its_own_events"
            => "the events of stream `a`: found",
        "a_stream_prefix_is_taken_literally"
            => "found 3 where 2 is right",
    ];
    finds_a_store_that_makes_absent_data_empty: EmptiesAbsentData by [
        "absent_data_is_not_empty_data"
            => "None came back as Some((0, []))",
    ];
    finds_a_store_that_writes_attributes_as_text: WritesAttributesAsText by [
        "free_attributes_keep_their_types_and_order"
            => "the attributes: found",
    ];
    finds_a_store_that_ignores_its_limits: IgnoresItsLimits by [
        "beyond_the_maximum_the_oldest_events_of_a_stream_go"
            => "the events of stream `s`: found",
        "the_maximum_holds_for_a_batch_larger_than_it"
            => "the events of stream `s`: found",
    ];
}

#[test]
fn a_sound_store_holds_every_property() {
    for property in properties::<Mutant>() {
        let sound = verdict(Fault::None, property.name(), LIMIT);
        assert!(sound.is_ok(), "a sound store fails {}: {sound:?}", property.name());
    }
}

#[test]
fn every_property_has_a_name_of_its_own() {
    let mut names: Vec<_> = properties::<Mutant>().iter().map(|p| p.name()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
