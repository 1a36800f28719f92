//! The default strategy: rules, then types, then priority, then the default.

use std::borrow::Cow;
use std::collections::BTreeSet;

use trunkline_core::{
    Attributes, Decision, Error, ErrorKind, Pattern, Priority, Result, Route, RouteContext,
    RoutingStrategy,
};

use super::KeySplit;

/// The `[routing]` table of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutingRules {
    /// Tried first, in order.
    pub rules: Vec<Rule>,
    /// Event types that stay local.
    pub local_types: Vec<String>,
    /// Event types that go to the remote broker.
    pub remote_types: Vec<String>,
    /// This priority and above stays local.
    pub local_from_priority: Option<Priority>,
    /// The route of what nothing else matches.
    pub default: Route,
}

impl Default for RoutingRules {
    /// Everything goes to the remote broker, where every process sees it.
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            local_types: Vec::new(),
            remote_types: Vec::new(),
            local_from_priority: None,
            default: Route::Remote,
        }
    }
}

/// One `[[routing.rule]]`: matches when every condition that it states holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The event type.
    pub event_type: Option<String>,
    /// The topics.
    pub topic: Option<Pattern>,
    /// The priority, exactly.
    pub priority: Option<Priority>,
    /// The tenant.
    pub tenant: Option<String>,
    /// Attributes by their CloudEvents names, and the text of their values.
    pub attributes: Vec<(String, String)>,
    /// The route of what matches.
    pub route: Route,
}

impl Rule {
    /// A rule without conditions yet; a strategy refuses it as it is.
    #[must_use]
    pub fn new(route: Route) -> Self {
        Self {
            event_type: None,
            topic: None,
            priority: None,
            tenant: None,
            attributes: Vec::new(),
            route,
        }
    }

    fn matches(&self, event: &Attributes) -> bool {
        self.event_type.as_deref().is_none_or(|wanted| wanted == event.event_type())
            && self.topic.as_ref().is_none_or(|pattern| pattern.matches(event.topic()))
            && self.priority.is_none_or(|wanted| wanted == event.priority())
            && self.tenant.as_deref().is_none_or(|wanted| Some(wanted) == event.tenant())
            && self.attributes.iter().all(|(name, wanted)| {
                event.get(name).is_some_and(|value| value.to_text() == wanted.as_str())
            })
    }

    fn check(&self, number: usize) -> Result<()> {
        let refuse = |message: String| {
            Err(Error::new(ErrorKind::Config, "configure", message).with("rule", number))
        };
        if *self == Self::new(self.route) {
            return refuse(
                "a `routing.rule` without a condition matches everything: use `routing.default`"
                    .to_owned(),
            );
        }
        let legal = |name: &str| {
            let mut bytes = name.bytes();
            !name.is_empty() && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        match self.attributes.iter().find(|(name, _)| !legal(name)) {
            Some((name, _)) => refuse(format!(
                "`{name}` in a `routing.rule` is no attribute name: use lower-case letters and digits"
            )),
            None => Ok(()),
        }
    }

    /// What the rule looks at beside topic and key.
    fn looks_at(&self) -> impl Iterator<Item = &'static str> {
        let attributes = self.attributes.iter().filter_map(|(name, _)| match name.as_str() {
            "topic" | "partitionkey" => None,
            "type" => Some("type"),
            "priority" => Some("priority"),
            "tenantid" => Some("tenant"),
            _ => Some("attributes"),
        });
        attributes
            .chain(self.event_type.is_some().then_some("type"))
            .chain(self.priority.is_some().then_some("priority"))
            .chain(self.tenant.is_some().then_some("tenant"))
    }
}

/// The default strategy: rules in order, then local types, remote types, priority and the default.
///
/// Its decisions depend on the attributes alone, and making one allocates nothing, save for the
/// reason of a rule after the eighth and for comparing attributes that are not text.
///
/// ```
/// use trunkline_core::{Pattern, Route};
/// use trunkline_hybrid::{RoutingRules, Rule, RulesStrategy};
///
/// let audit = Rule { topic: Some(Pattern::new("audit.#")?), ..Rule::new(Route::Both) };
/// let strategy = RulesStrategy::new(RoutingRules {
///     rules: vec![audit],
///     local_types: vec!["CriticalEvent".into()],
///     ..RoutingRules::default()
/// })?;
/// assert!(strategy.key_split().to_string().contains("routes depend on type"));
/// # Ok::<(), trunkline_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RulesStrategy {
    rules: Box<[Rule]>,
    /// Sorted: a binary search of a short list is quicker than hashing a name.
    local_types: Box<[String]>,
    remote_types: Box<[String]>,
    local_from: Option<Priority>,
    default: Route,
}

impl RulesStrategy {
    /// Checks the rules and makes them a strategy.
    ///
    /// # Errors
    /// `Config` when a type is listed both local and remote, and for a rule without a condition or
    /// with an attribute name that cannot exist; the message names it.
    pub fn new(rules: RoutingRules) -> Result<Self> {
        for (index, rule) in rules.rules.iter().enumerate() {
            rule.check(index + 1)?;
        }
        let (local_types, remote_types) = (sorted(rules.local_types), sorted(rules.remote_types));
        if let Some(twice) = local_types.iter().find(|name| listed(&remote_types, name)) {
            let message = format!(
                "the type `{twice}` is listed in both `routing.local_types` and \
                 `routing.remote_types`: remove it from one of them, or use a `routing.rule` with \
                 route \"both\""
            );
            return Err(Error::new(ErrorKind::Config, "configure", message));
        }
        Ok(Self {
            rules: rules.rules.into_boxed_slice(),
            local_types,
            remote_types,
            local_from: rules.local_from_priority,
            default: rules.default,
        })
    }

    /// The number, from 1 in configuration order, of the first rule that matches.
    #[must_use]
    pub fn matching_rule(&self, event: &Attributes) -> Option<usize> {
        self.rules.iter().position(|rule| rule.matches(event)).map(|index| index + 1)
    }

    /// Whether events of one topic and key can take different routes.
    #[must_use]
    pub fn key_split(&self) -> KeySplit {
        let types_local = (!self.local_types.is_empty()).then_some(Route::Local);
        let types_remote = (!self.remote_types.is_empty()).then_some(Route::Remote);
        let by_priority = self.local_from.map(|_| Route::Local);
        let mut routes = self.rules.iter().map(|rule| rule.route);
        let mut listed = [types_local, types_remote, by_priority].into_iter().flatten();
        let one_way =
            routes.all(|route| route == self.default) && listed.all(|route| route == self.default);
        let mut by: BTreeSet<&'static str> = self.rules.iter().flat_map(Rule::looks_at).collect();
        by.extend(types_local.or(types_remote).map(|_| "type"));
        by.extend(by_priority.map(|_| "priority"));
        if one_way || by.is_empty() {
            return KeySplit::Never;
        }
        KeySplit::Possible { by: by.into_iter().collect() }
    }
}

impl RoutingStrategy for RulesStrategy {
    fn route(&self, event: &Attributes, _context: &RouteContext) -> Decision {
        if let Some(number) = self.matching_rule(event) {
            return Decision::new(self.rules[number - 1].route, rule_reason(number));
        }
        let name = event.event_type();
        if listed(&self.local_types, name) {
            return Decision::new(Route::Local, "the type is listed in routing.local_types");
        }
        if listed(&self.remote_types, name) {
            return Decision::new(Route::Remote, "the type is listed in routing.remote_types");
        }
        if self.local_from.is_some_and(|least| event.priority() >= least) {
            return Decision::new(
                Route::Local,
                "the priority is at or above routing.local_from_priority",
            );
        }
        Decision::new(self.default, "nothing else matches, so it is routing.default")
    }
}

fn sorted(mut types: Vec<String>) -> Box<[String]> {
    types.sort_unstable();
    types.dedup();
    types.into_boxed_slice()
}

fn listed(types: &[String], name: &str) -> bool {
    types.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
}

/// The first few are ready-made, so that an ordinary configuration allocates no reasons.
fn rule_reason(number: usize) -> Cow<'static, str> {
    const READY: [&str; 8] = [
        "matches routing.rule 1",
        "matches routing.rule 2",
        "matches routing.rule 3",
        "matches routing.rule 4",
        "matches routing.rule 5",
        "matches routing.rule 6",
        "matches routing.rule 7",
        "matches routing.rule 8",
    ];
    match READY.get(number - 1) {
        Some(reason) => Cow::Borrowed(reason),
        None => Cow::Owned(format!("matches routing.rule {number}")),
    }
}
