//! How a batch is divided between the brokers.

use std::collections::HashMap;

use trunkline_core::{Event, Route, Topic};

/// What the order and the `Aborted` rule look at: events without a key have none.
pub(crate) type Key<'a> = (&'a Topic, &'a str);

/// The topic and key of an event that has a key.
pub(crate) fn key_of(event: &Event) -> Option<Key<'_>> {
    event.attributes().key().map(|key| (event.topic(), key))
}

/// Events of a batch that take the same route, sent as one inner batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Leg {
    pub(crate) route: Route,
    /// Places in the batch, ascending.
    pub(crate) places: Vec<usize>,
}

impl Leg {
    /// The whole of a batch of `len`.
    pub(crate) fn whole(route: Route, len: usize) -> Self {
        Self { route, places: (0..len).collect() }
    }
}

/// Divides a batch into legs that are sent one after the other.
///
/// An event never lands in an earlier leg than the one before it of its topic and key, so that the
/// order of a key is kept, and an event that fails holds the later ones back. Different keys share
/// legs however they are mixed: a batch whose keys each keep to one route has one leg per route.
pub(crate) fn divide(events: &[Event], routes: &[Route]) -> Vec<Leg> {
    let mut legs: Vec<Leg> = Vec::new();
    let mut newest: [Option<usize>; 3] = [None; 3];
    let mut last: HashMap<Key<'_>, usize> = HashMap::new();
    for (place, (event, &route)) in events.iter().zip(routes).enumerate() {
        let key = key_of(event);
        let floor = key.and_then(|key| last.get(&key).copied()).unwrap_or(0);
        let leg = match newest[route as usize] {
            Some(leg) if leg >= floor => leg,
            _ => {
                legs.push(Leg { route, places: Vec::new() });
                legs.len() - 1
            }
        };
        newest[route as usize] = Some(leg);
        legs[leg].places.push(place);
        if let Some(key) = key {
            last.insert(key, leg);
        }
    }
    legs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trunkline_core::Data;

    use super::*;

    fn event(key: u8) -> Event {
        let draft = Event::from_data("T", Topic::from_static("t"), Data::json("1"));
        let draft = if key == 0 { draft } else { draft.key(key.to_string()) };
        draft.build().unwrap()
    }

    fn route(number: u8) -> Route {
        [Route::Local, Route::Remote, Route::Both][usize::from(number)]
    }

    #[test]
    fn keys_that_keep_to_one_route_need_one_leg_per_route() {
        let events: Vec<Event> = [1, 2, 1, 2, 0].into_iter().map(event).collect();
        let routes = [0, 1, 0, 1, 0].map(route);
        let places: Vec<_> =
            divide(&events, &routes).into_iter().map(|leg| (leg.route, leg.places)).collect();
        assert_eq!(places, [(Route::Local, vec![0, 2, 4]), (Route::Remote, vec![1, 3])]);
    }

    proptest! {
        #[test]
        fn every_event_is_in_one_leg_of_its_route_and_keys_keep_their_order(
            drawn in proptest::collection::vec((0u8..4, 0u8..3), 0..40)
        ) {
            let events: Vec<Event> = drawn.iter().map(|(key, _)| event(*key)).collect();
            let routes: Vec<Route> = drawn.iter().map(|(_, number)| route(*number)).collect();
            let legs = divide(&events, &routes);
            let mut seen = Vec::new();
            let mut last: HashMap<Key<'_>, usize> = HashMap::new();
            for leg in &legs {
                for &place in &leg.places {
                    prop_assert_eq!(routes[place], leg.route);
                    seen.push(place);
                    if let Some(key) = key_of(&events[place]) {
                        prop_assert!(last.insert(key, place).is_none_or(|before| before < place));
                    }
                }
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..events.len()).collect::<Vec<_>>());
        }
    }
}
