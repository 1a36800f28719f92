//! Publishing: decide, and hand a batch that goes one way straight to its broker.

use jiff::Timestamp;
use trunkline_core::{BatchResult, ErrorKind, Event, PublishOptions, Publishing, Route};

use crate::broker::Inner;
use crate::config::{OnNoLocalSubscriber, OnRemoteDown};
use crate::dispatch::Dispatch;
use crate::plan::{Leg, divide};

pub(crate) fn publish<'a>(
    hybrid: &'a Inner,
    events: &'a [Event],
    options: &'a PublishOptions,
) -> Publishing<'a> {
    if let Err(error) = hybrid.check_open("publish") {
        return Publishing::Ready(BatchResult::failed(events.len(), &error));
    }
    if let Err(error) = hybrid.capabilities.check_publish(options) {
        return Publishing::Ready(BatchResult::failed(events.len(), &error));
    }
    if hybrid.remote_state.check_is_due() {
        return Publishing::waiting(async move {
            hybrid.check_remote().await;
            route(hybrid, events, options).await
        });
    }
    route(hybrid, events, options)
}

/// The routes of a batch; most batches, and every single event, go one way and allocate nothing.
enum Routes {
    Uniform(Route),
    Mixed(Vec<Route>),
}

fn route<'a>(
    hybrid: &'a Inner,
    events: &'a [Event],
    options: &'a PublishOptions,
) -> Publishing<'a> {
    let legs = match decide(hybrid, events) {
        Routes::Uniform(Route::Local) => return all_local(hybrid, events, options),
        Routes::Uniform(Route::Remote) if events.iter().all(has_no_origin) => {
            return all_remote(hybrid, events, options);
        }
        Routes::Uniform(route) => vec![Leg::whole(route, events.len())],
        Routes::Mixed(routes) => divide(events, &routes),
    };
    Publishing::waiting(Dispatch::new(hybrid, events, options).run(legs))
}

/// Decides every event of a batch in one snapshot of the time.
fn decide(hybrid: &Inner, events: &[Event]) -> Routes {
    let now = Timestamp::now();
    let mut routes = events.iter().map(|event| hybrid.decide(event, now).route);
    let Some(first) = routes.next() else { return Routes::Uniform(Route::Local) };
    let mut alike = 1;
    while let Some(route) = routes.next() {
        if route != first {
            let mut mixed = vec![first; alike];
            mixed.push(route);
            mixed.extend(routes);
            return Routes::Mixed(mixed);
        }
        alike += 1;
    }
    Routes::Uniform(first)
}

fn all_local<'a>(
    hybrid: &'a Inner,
    events: &'a [Event],
    options: &'a PublishOptions,
) -> Publishing<'a> {
    match hybrid.local.publish(events, options) {
        Publishing::Ready(outcome) if !may_go_remote(hybrid, &outcome) => {
            hybrid.counters.accepted(Route::Local, events.len() - outcome.failures().len());
            Publishing::Ready(outcome)
        }
        local => Publishing::waiting(async move {
            let outcome = local.await;
            Dispatch::new(hybrid, events, options).finish_local(outcome).await
        }),
    }
}

fn all_remote<'a>(
    hybrid: &'a Inner,
    events: &'a [Event],
    options: &'a PublishOptions,
) -> Publishing<'a> {
    match hybrid.remote.publish(events, options) {
        Publishing::Ready(outcome) if !may_go_local(hybrid, &outcome) => {
            hybrid.remote_state.learn(&outcome, events.len());
            hybrid.counters.accepted(Route::Remote, events.len() - outcome.failures().len());
            Publishing::Ready(outcome)
        }
        remote => Publishing::waiting(async move {
            let outcome = remote.await;
            Dispatch::new(hybrid, events, options).finish_remote(outcome).await
        }),
    }
}

fn may_go_remote(hybrid: &Inner, outcome: &BatchResult) -> bool {
    hybrid.config.on_no_local_subscriber == OnNoLocalSubscriber::Remote
        && outcome.failures().any(|(_, error)| error.kind() == ErrorKind::Unroutable)
}

fn may_go_local(hybrid: &Inner, outcome: &BatchResult) -> bool {
    hybrid.config.on_remote_down == OnRemoteDown::Local
        && outcome.failures().any(|(_, error)| error.kind() == ErrorKind::Disconnected)
}

/// An origin that an event brought from an earlier hop must not travel on: the process that it names
/// would take this event for the echo of that one.
pub(crate) fn has_no_origin(event: &Event) -> bool {
    event.attributes().origin().is_none()
}
