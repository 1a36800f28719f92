//! Tests of the ledger.

use std::sync::Arc;

use trunkline::{Data, Event, Route, Topic};

use super::kinds::Kinds;
use super::ledger::{Ledger, Totals};
use super::record::{Place, Record, Sequence};

struct Book {
    ledger: Ledger,
    kinds: Kinds,
    sequence: Arc<Sequence>,
}

impl Book {
    fn new() -> Self {
        Self { ledger: Ledger::default(), kinds: Kinds::default(), sequence: Arc::default() }
    }

    fn publish(&mut self, id: &str) -> Event {
        let draft = Event::from_data("T", Topic::from_static("t"), Data::json("1"));
        let event = draft.id(id).key("k").build().unwrap();
        let kind = self.kinds.of(event.attributes(), Route::Local);
        let place = Place::next(&self.sequence);
        let record = self.ledger.open(&event, || Record::new(1, kind, Some(place))).unwrap();
        record.start();
        self.ledger.accept(&record);
        event
    }

    fn handle(&self, consumer: usize, event: &Event) {
        self.ledger.enter(consumer, event).unwrap().complete();
    }

    fn totals(&self, consumer: usize) -> Totals {
        self.ledger.totals()[consumer]
    }
}

#[test]
fn an_event_that_somebody_lacks_is_lost_to_them() {
    let mut book = Book::new();
    let (first, second) = (book.publish("1"), book.publish("2"));
    assert_eq!(book.ledger.outstanding(), 6);
    for consumer in 0..3 {
        book.handle(consumer, &first);
    }
    book.handle(0, &second);
    assert_eq!(book.ledger.outstanding(), 2);
    assert_eq!((book.totals(0).lost, book.totals(1).lost), (0, 1));
    let missing = book.ledger.missing(10);
    let missing: Vec<_> =
        missing.iter().map(|(_, who, what)| (*who, what.id.to_string())).collect();
    assert_eq!(missing, [(1, "2".to_owned()), (2, "2".to_owned())]);
}

#[test]
fn a_copy_is_a_duplicate_and_no_disorder() {
    let mut book = Book::new();
    let (first, second) = (book.publish("1"), book.publish("2"));
    for event in [&first, &second, &first, &first] {
        book.handle(0, event);
    }
    let expected = Totals { handled: 2, duplicates: 2, ..Totals::default() };
    assert_eq!(book.totals(0), expected);
}

#[test]
fn a_first_handling_after_or_beside_a_later_one_is_a_disorder() {
    let mut book = Book::new();
    let events: Vec<_> = (1..=4).map(|id| book.publish(&id.to_string())).collect();
    book.handle(0, &events[1]);
    book.handle(0, &events[0]);
    assert_eq!(book.totals(0).out_of_order, 1);
    let running = book.ledger.enter(0, &events[2]).unwrap();
    book.handle(0, &events[3]);
    running.complete();
    assert_eq!(book.totals(0).out_of_order, 2);
    for event in &events {
        book.handle(1, event);
    }
    assert_eq!(book.totals(1).out_of_order, 0);
}

#[test]
fn a_handler_that_does_not_finish_has_not_handled() {
    let mut book = Book::new();
    let event = book.publish("1");
    drop(book.ledger.enter(0, &event).unwrap());
    assert_eq!((book.totals(0).handled, book.totals(0).lost), (0, 1));
    book.handle(0, &event);
    assert_eq!((book.totals(0).handled, book.totals(0).duplicates), (1, 0));
    assert_eq!(book.totals(0).out_of_order, 0);
}

#[test]
fn a_dead_letter_settles_its_event_and_is_counted_once() {
    let mut book = Book::new();
    let event = book.publish("1");
    let identity = event.attributes().identity();
    assert!(book.ledger.dead_letter(2, &identity));
    assert!(!book.ledger.dead_letter(2, &identity));
    let totals = book.totals(2);
    assert_eq!((totals.dead_lettered, totals.lost), (1, 0));
    assert_eq!(book.ledger.outstanding(), 2);
}

#[test]
fn an_event_that_is_handled_before_its_publish_returns_is_settled_all_the_same() {
    let mut book = Book::new();
    let draft = Event::from_data("T", Topic::from_static("t"), Data::json("1"));
    let event = draft.build().unwrap();
    let kind = book.kinds.of(event.attributes(), Route::Remote);
    let record = book.ledger.open(&event, || Record::new(1, kind, None)).unwrap();
    record.start();
    book.handle(0, &event);
    assert!(book.ledger.published(&event.attributes().identity()).is_none());
    book.ledger.accept(&record);
    assert_eq!(book.ledger.outstanding(), 2);
    assert_eq!(book.ledger.timing().latencies.len(), 1);
}

#[test]
fn a_repeated_identity_is_refused_with_the_line_of_the_first() {
    let mut book = Book::new();
    let event = book.publish("1");
    let kind = book.kinds.of(event.attributes(), Route::Local);
    let refused = book.ledger.open(&event, || Record::new(2, kind, None)).unwrap_err();
    assert_eq!(refused.line, 1);
}
