//! Steps of a [`FirstMatch`](super::FirstMatch): each decides some events and leaves the rest.

use trunkline_core::{Attributes, Decision, Pattern, Priority, Route, RouteContext};

/// Decides events of one type.
pub fn by_type(
    event_type: impl Into<String>,
    route: Route,
) -> impl Fn(&Attributes, &RouteContext) -> Option<Decision> + Send + Sync + 'static {
    let wanted = event_type.into();
    move |event, _| {
        (event.event_type() == wanted).then(|| Decision::new(route, "the type is one asked for"))
    }
}

/// Decides events whose topic matches a pattern.
pub fn by_topic(
    pattern: Pattern,
    route: Route,
) -> impl Fn(&Attributes, &RouteContext) -> Option<Decision> + Send + Sync + 'static {
    move |event, _| {
        pattern
            .matches(event.topic())
            .then(|| Decision::new(route, "the topic matches a pattern asked for"))
    }
}

/// Decides events of a priority and above.
pub fn at_or_above(
    priority: Priority,
    route: Route,
) -> impl Fn(&Attributes, &RouteContext) -> Option<Decision> + Send + Sync + 'static {
    move |event, _| {
        (event.priority() >= priority)
            .then(|| Decision::new(route, "the priority is at or above the one asked for"))
    }
}

/// Decides events by an attribute, such as `tenantid` or `projectid`, and the text of its value.
pub fn by_attribute(
    name: impl Into<String>,
    value: impl Into<String>,
    route: Route,
) -> impl Fn(&Attributes, &RouteContext) -> Option<Decision> + Send + Sync + 'static {
    let (name, wanted) = (name.into(), value.into());
    move |event, _| {
        let found = event.get(&name)?;
        (found.to_text() == wanted.as_str())
            .then(|| Decision::new(route, "an attribute has the value asked for"))
    }
}

/// Decides every event while the remote broker is down, as far as is known.
///
/// A key then moves between the sides as the remote broker comes and goes: its order is kept within
/// each side only.
pub fn while_remote_down(
    route: Route,
) -> impl Fn(&Attributes, &RouteContext) -> Option<Decision> + Send + Sync + 'static {
    move |_, context| {
        (!context.remote_healthy).then(|| Decision::new(route, "the remote broker is down"))
    }
}

/// Decides events whose data is known to be longer than `bytes`; what is not encoded yet is left.
pub fn larger_than(
    bytes: usize,
    route: Route,
) -> impl Fn(&Attributes, &RouteContext) -> Option<Decision> + Send + Sync + 'static {
    move |_, context| {
        context
            .encoded_len
            .is_some_and(|len| len > bytes)
            .then(|| Decision::new(route, "the data is longer than the limit asked for"))
    }
}
