//! Composition: the first step that decides.

use std::fmt;

use trunkline_core::{Attributes, Decision, Route, RouteContext, RoutingStrategy};

/// One step of a [`FirstMatch`]: decides an event, or leaves it to the next.
///
/// Like the whole strategy it must be pure in both arguments.
pub type Step = Box<dyn Fn(&Attributes, &RouteContext) -> Option<Decision> + Send + Sync>;

/// A strategy of steps, tried in order, that ends in a default.
///
/// ```
/// use trunkline_core::{Decision, Pattern, Route};
/// use trunkline_hybrid::{FirstMatch, by_attribute, by_topic, while_remote_down};
///
/// let strategy = FirstMatch::otherwise(Route::Remote)
///     .after(by_topic(Pattern::new("audit.#")?, Route::Both))
///     .after(by_attribute("tenantid", "acme", Route::Local))
///     .after(while_remote_down(Route::Local))
///     .after(|event, _| {
///         event.key().is_none().then(|| Decision::new(Route::Local, "it has no key"))
///     });
/// # let _ = strategy;
/// # Ok::<(), trunkline_core::Error>(())
/// ```
pub struct FirstMatch {
    steps: Vec<Step>,
    default: Route,
}

impl FirstMatch {
    /// A strategy without steps: everything takes this route.
    #[must_use]
    pub fn otherwise(route: Route) -> Self {
        Self { steps: Vec::new(), default: route }
    }

    /// Tries `step` after the steps so far and before the default.
    #[must_use]
    pub fn after<F>(mut self, step: F) -> Self
    where
        F: Fn(&Attributes, &RouteContext) -> Option<Decision> + Send + Sync + 'static,
    {
        self.steps.push(Box::new(step));
        self
    }
}

impl RoutingStrategy for FirstMatch {
    fn route(&self, event: &Attributes, context: &RouteContext) -> Decision {
        let mut decisions = self.steps.iter().filter_map(|step| step(event, context));
        decisions
            .next()
            .unwrap_or_else(|| Decision::new(self.default, "no step decided, so it is the default"))
    }
}

impl fmt::Debug for FirstMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstMatch")
            .field("steps", &self.steps.len())
            .field("default", &self.default)
            .finish()
    }
}
