//! Reading the global order through filters.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use trunkline_core::{
    AttributeValue, Event, EventStore, ExpectedVersion, Position, ReadAll, Result,
};

use super::StoreProperty;
use super::events::{append, check_page, draft, everything, ids, ids_of, whole_log};
use crate::failure::{Check, Failure, ensure, ensure_eq};
use crate::property::property;

pub(super) fn properties<S: EventStore>() -> Vec<StoreProperty<S>> {
    vec![
        property!(each_filter_takes_what_it_says),
        property!(filters_hold_together),
        property!(pages_of_any_size_reach_the_same_events),
        property!(a_page_moves_past_what_its_filter_leaves_out),
        property!(a_correlation_finds_its_events_in_every_stream_in_order),
        property!(a_time_range_is_half_open_to_the_nanosecond),
        property!(an_event_without_a_time_is_in_no_time_range),
        property!(a_stream_prefix_is_taken_literally),
    ]
}

const TYPES: [&str; 4] = ["OrderPlaced", "orderplaced", "OrderShipped", "Ord%"];
const STREAMS: [&str; 5] = ["order-1", "order-12", "order-2", "Order-1", "invoice-1"];
const SEEDED: usize = 120;

fn seeded(index: usize) -> Result<Event> {
    let offset = i64::try_from(index).unwrap_or(i64::MAX);
    let time = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(offset);
    let mut event = draft()
        .attribute("type", TYPES[index % TYPES.len()])
        .attribute("time", AttributeValue::Timestamp(time));
    if !index.is_multiple_of(3) {
        event = event.correlation(format!("story {}", index % 6));
    }
    if index.is_multiple_of(2) {
        event = event.tenant(["acme", "Acme", "initech"][index % 3]);
    }
    if !index.is_multiple_of(5) {
        event = event.attribute("projectid", ["apollo", "gemini"][index % 2]);
    }
    event.build()
}

/// Events of all kinds, in several streams.
async fn seed<S: EventStore>(store: &S) -> Check {
    for index in 0..SEEDED {
        let stream = STREAMS[index % STREAMS.len()];
        store.append(stream, ExpectedVersion::Any, &[seeded(index)?]).await?;
    }
    Ok(())
}

fn second(number: i64) -> Option<Timestamp> {
    Some(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(number))
}

fn all() -> ReadAll {
    ReadAll::after(Position::START)
}

/// `read` finds what the contract's own filter takes of everything, and `count` events.
async fn ensure_takes<S: EventStore>(store: &S, read: ReadAll, count: usize) -> Check {
    let log = whole_log(store).await?;
    let taken = log.iter().filter(|r| read.takes(&r.stream, r.event.attributes()));
    let wanted: Vec<_> = taken.map(|recorded| recorded.event.id().clone()).collect();
    ensure_eq!(wanted.len(), count, "the number of events stored that {read:?} takes");
    let found = everything(store, read.clone()).await?;
    ensure_eq!(ids_of(&found), wanted, "what {read:?} found");
    Ok(())
}

async fn each_filter_takes_what_it_says<S: EventStore>(store: Arc<S>) -> Check {
    seed(&store).await?;
    let cases = [
        (all(), 120),
        (all().with_types(["OrderPlaced"]), 30),
        (all().with_types(["Ord%", "OrderShipped"]), 60),
        (all().with_types(["Order"]), 0),
        (all().with_correlation("story 1"), 20),
        (all().with_correlation("story"), 0),
        (all().with_tenant("acme"), 20),
        (all().with_tenant("ACME"), 0),
        (all().with_project("apollo"), 48),
        (all().with_stream_prefix("order-1"), 48),
        (all().with_stream_prefix(""), 120),
        (all().with_time(second(100), None), 20),
        (all().with_time(None, second(100)), 100),
        (all().with_time(second(40), second(50)), 10),
    ];
    for (read, count) in cases {
        ensure_takes(&store, read, count).await?;
    }
    Ok(())
}

async fn filters_hold_together<S: EventStore>(store: Arc<S>) -> Check {
    seed(&store).await?;
    let story = || all().with_correlation("story 4").with_types(["OrderPlaced", "OrderShipped"]);
    let cases = [
        (story(), 20),
        (story().with_tenant("Acme"), 20),
        (story().with_tenant("acme"), 0),
        (story().with_project("apollo"), 16),
        (story().with_stream_prefix("order-"), 12),
        (story().with_project("apollo").with_stream_prefix("order-1"), 4),
        (story().with_project("apollo").with_time(second(30), second(90)), 8),
    ];
    for (read, count) in cases {
        ensure_takes(&store, read, count).await?;
    }
    Ok(())
}

async fn pages_of_any_size_reach_the_same_events<S: EventStore>(store: Arc<S>) -> Check {
    seed(&store).await?;
    let filters = [
        all(),
        all().with_types(["OrderPlaced"]),
        all().with_correlation("story 5"),
        all().with_stream_prefix("Order").with_project("gemini"),
        all().with_time(second(20), second(60)).with_types(["Ord%"]),
    ];
    for filter in filters {
        let whole = everything(&store, filter.clone().with_limit(10 * SEEDED)).await?;
        ensure!(!whole.is_empty(), "{filter:?} found nothing");
        for limit in [1, 2, 7, 24] {
            let paged = everything(&store, filter.clone().with_limit(limit)).await?;
            ensure_eq!(ids_of(&paged), ids_of(&whole), "what pages of {limit} found");
        }
    }
    Ok(())
}

async fn a_page_moves_past_what_its_filter_leaves_out<S: EventStore>(store: Arc<S>) -> Check {
    append(&store, "s", 300).await?;
    let last = whole_log(&store).await?.last().map(|recorded| recorded.position);
    let last = last.ok_or_else(|| Failure::new("the global order is empty"))?;
    let mut read = all().with_types(["Nothing"]).with_limit(10);
    // Whether the store looks at 10 or at all events at a time is its own business.
    for _ in 0..300 {
        let page = store.read_all(&read).await?;
        check_page(&read, &page)?;
        read.after = page.next;
        if page.caught_up {
            break;
        }
    }
    ensure!(read.after >= last, "reading stopped at {} before {last}", read.after);
    let wanted = draft().attribute("type", "Nothing").build()?;
    store.append("s", ExpectedVersion::Any, std::slice::from_ref(&wanted)).await?;
    let page = store.read_all(&read).await?;
    ensure_eq!(ids_of(&page.events), ids(&[wanted]), "what came after the last page");
    Ok(())
}

async fn a_correlation_finds_its_events_in_every_stream_in_order<S: EventStore>(
    store: Arc<S>,
) -> Check {
    let mut story = Vec::new();
    for index in 0..40 {
        let stream = format!("s{}", index % 4);
        let id = if index % 5 == 0 { "the story" } else { "another story" };
        let event = draft().correlation(id).build()?;
        if index % 5 == 0 {
            story.push(event.clone());
        }
        store.append(&stream, ExpectedVersion::Any, &[event]).await?;
    }
    let found = everything(&store, all().with_correlation("the story")).await?;
    ensure_eq!(ids_of(&found), ids(&story), "the events of the story");
    let later = ReadAll::after(found[2].position).with_correlation("the story");
    let later = everything(&store, later).await?;
    ensure_eq!(ids_of(&later), ids(&story[3..]), "the events of the story after its third");
    Ok(())
}

async fn a_time_range_is_half_open_to_the_nanosecond<S: EventStore>(store: Arc<S>) -> Check {
    let at = |nanoseconds: i128| {
        let time = Timestamp::from_nanosecond(1_700_000_000_000_000_000 + nanoseconds);
        time.map_err(|cause| Failure::new(cause.to_string()))
    };
    let mut appended = Vec::new();
    for nanoseconds in [-1_001, -1, 0, 1, 999, 1_000] {
        let time = AttributeValue::Timestamp(at(nanoseconds)?);
        appended.push(draft().attribute("time", time).build()?);
    }
    store.append("s", ExpectedVersion::Any, &appended).await?;
    let cases =
        [(0, 1, 2..3), (-1, 999, 1..4), (1, 1_000, 3..5), (0, 0, 0..0), (1_000, 2_000, 5..6)];
    for (since, until, wanted) in cases {
        let read = all().with_time(Some(at(since)?), Some(at(until)?));
        let found = everything(&store, read).await?;
        ensure_eq!(ids_of(&found), ids(&appended[wanted]), "what lies from {since} to {until} ns");
    }
    Ok(())
}

async fn an_event_without_a_time_is_in_no_time_range<S: EventStore>(store: Arc<S>) -> Check {
    let timeless = draft().build()?.amend(|attributes| {
        attributes.set_time(None);
        Ok(())
    })?;
    store.append("s", ExpectedVersion::Any, &[timeless]).await?;
    for (since, until) in [(second(0), None), (None, second(0)), (Some(Timestamp::MIN), None)] {
        ensure_takes(&store, all().with_time(since, until), 0).await?;
    }
    ensure_takes(&store, all(), 1).await
}

async fn a_stream_prefix_is_taken_literally<S: EventStore>(store: Arc<S>) -> Check {
    let names = ["a%b", "axb", "a_b", "a*b", "A%b", "a%", "ä1", "ä2", "\u{10FFFF}1", "[a]", "a\\b"];
    for name in names {
        append(&store, name, 1).await?;
    }
    let prefixes = [
        ("a%", 2),
        ("a_", 1),
        ("a*", 1),
        ("a", 6),
        ("ä", 2),
        ("\u{10FFFF}", 1),
        ("[", 1),
        ("a\\", 1),
    ];
    for (prefix, count) in prefixes {
        ensure_takes(&store, all().with_stream_prefix(prefix), count).await?;
    }
    Ok(())
}
