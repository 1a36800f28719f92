//! The kinds of events that a run published, for its report.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use trunkline::{Attributes, Route, Topic};

/// Events of one type and topic that take one route.
#[derive(Debug)]
pub(super) struct Kind {
    /// The CloudEvents type.
    pub(super) event_type: String,
    /// The topic.
    pub(super) topic: Topic,
    /// The route.
    pub(super) route: Route,
    published: AtomicU64,
}

impl Kind {
    /// Counts an event that was published.
    pub(super) fn count(&self) {
        self.published.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were published.
    pub(super) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }
}

/// Every kind that was seen, in the order of the input.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    known: HashMap<(String, Topic, Route), Arc<Kind>>,
    in_order: Vec<Arc<Kind>>,
}

impl Kinds {
    /// The kind of an event.
    pub(super) fn of(&mut self, attributes: &Attributes, route: Route) -> Arc<Kind> {
        let event_type = attributes.event_type().to_owned();
        let key = (event_type, attributes.topic().clone(), route);
        if let Some(kind) = self.known.get(&key) {
            return Arc::clone(kind);
        }
        let (event_type, topic, route) = key.clone();
        let kind = Arc::new(Kind { event_type, topic, route, published: AtomicU64::new(0) });
        self.in_order.push(Arc::clone(&kind));
        self.known.insert(key, Arc::clone(&kind));
        kind
    }

    /// All of them, in the order in which their first event came.
    pub(super) fn all(&self) -> &[Arc<Kind>] {
        &self.in_order
    }
}
