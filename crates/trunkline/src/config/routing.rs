//! `[routing]`: which of a hybrid's two brokers takes an event.

use trunkline_core::{AttributeValue, Pattern, Priority, Route};

use super::describe::Page;
use super::nearest::distance;
use super::read::{Choice, Item, Section};
use super::tree::Value;

/// `[routing]`: the rules, in the order in which they are tried.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RoutingConfig {
    /// `[[routing.rule]]`: tried first, in file order; the first that fits decides.
    pub rules: Vec<RuleConfig>,
    /// Event types that stay local.
    pub local_types: Vec<String>,
    /// Event types that go remote.
    pub remote_types: Vec<String>,
    /// This priority and above stays local.
    pub local_from_priority: Option<Priority>,
    /// `default`: where everything else goes.
    pub default_route: Route,
    /// What happens to an event for the remote broker while that is down.
    pub on_remote_down: OnRemoteDown,
    /// What happens to an event that stays local and that nobody here takes.
    pub on_no_local_subscriber: OnNoLocalSubscriber,
}

/// One `[[routing.rule]]`: an event that fits every condition takes the route.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RuleConfig {
    /// `type`: the event's type is this one.
    pub event_type: Option<String>,
    /// The event's topic matches.
    pub topic: Option<Pattern>,
    /// The event's priority is this one.
    pub priority: Option<Priority>,
    /// The event's tenant is this one.
    pub tenant: Option<String>,
    /// Every other key: the attribute of that name has this value.
    pub attributes: Vec<(String, AttributeValue)>,
    /// Where the event goes.
    pub route: Route,
}

/// What happens to an event for the remote broker while that is down; never silent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnRemoteDown {
    /// Publish returns the error.
    #[default]
    Fail,
    /// The event stays in this process, counted.
    Local,
}

/// What happens to an event that stays local and that nobody here takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnNoLocalSubscriber {
    /// It goes remote, counted.
    #[default]
    Remote,
    /// Publish returns `Unroutable`.
    Error,
}

const ROUTES: [Choice<Route>; 3] =
    [("local", Some(Route::Local)), ("remote", Some(Route::Remote)), ("both", Some(Route::Both))];
const REMOTE_DOWN: [Choice<OnRemoteDown>; 3] =
    [("fail", Some(OnRemoteDown::Fail)), ("spill", None), ("local", Some(OnRemoteDown::Local))];
const NO_LOCAL: [Choice<OnNoLocalSubscriber>; 2] =
    [("remote", Some(OnNoLocalSubscriber::Remote)), ("error", Some(OnNoLocalSubscriber::Error))];

impl Default for RoutingConfig {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            local_types: Vec::new(),
            remote_types: Vec::new(),
            local_from_priority: None,
            // An event that stays here by mistake is lost to the others; one too many sent is not.
            default_route: Route::Remote,
            on_remote_down: OnRemoteDown::default(),
            on_no_local_subscriber: OnNoLocalSubscriber::default(),
        }
    }
}

impl RoutingConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let usual = Self::default();
        let rules = section.get("rule").and_then(|rules| rules.items()).unwrap_or_default();
        let routing = Self {
            rules: rules.iter().filter_map(RuleConfig::read).collect(),
            local_types: section.texts("local_types").unwrap_or_default(),
            remote_types: section.texts("remote_types").unwrap_or_default(),
            local_from_priority: section.parse("local_from_priority"),
            default_route: section
                .choice("default", "route", &ROUTES)
                .unwrap_or(usual.default_route),
            on_remote_down: section
                .choice("on_remote_down", "on_remote_down", &REMOTE_DOWN)
                .unwrap_or_default(),
            on_no_local_subscriber: section
                .choice("on_no_local_subscriber", "on_no_local_subscriber", &NO_LOCAL)
                .unwrap_or_default(),
        };
        let twice = routing.remote_types.iter().find(|name| routing.local_types.contains(name));
        if let (Some(name), Some(item)) = (twice, section.get("remote_types")) {
            item.wrong(format!("`{name}` stands in `local_types` too, which wins: keep one"));
        }
        section.finish();
        routing
    }

    pub(super) fn describe(&self, page: &mut Page) {
        for rule in &self.rules {
            rule.describe(page);
        }
        page.header("[routing]");
        page.list("local_types", &self.local_types);
        page.list("remote_types", &self.remote_types);
        let from = self.local_from_priority.map(|priority| priority.to_string());
        page.set_or_note("local_from_priority", from, "none");
        page.choice("default", self.default_route, &ROUTES);
        page.choice("on_remote_down", self.on_remote_down, &REMOTE_DOWN);
        page.choice("on_no_local_subscriber", self.on_no_local_subscriber, &NO_LOCAL);
    }
}

impl RuleConfig {
    /// The keys with a meaning of their own; every other is an attribute.
    const KEYS: [&'static str; 5] = ["type", "topic", "priority", "tenant", "route"];

    /// A rule without conditions yet, which fits every event.
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

    fn read(item: &Item<'_>) -> Option<Self> {
        let mut section = item.section()?;
        let others = section.entries().filter(|entry| !Self::KEYS.contains(&entry.key));
        let attributes: Vec<_> = others.filter_map(|entry| attribute(&entry)).collect();
        let conditions = section.entries().filter(|entry| entry.key != "route").count();
        if conditions == 0 {
            item.wrong("the rule fits every event: add a condition, or use `routing.default`");
        }
        let rule = Self {
            event_type: section.text("type").map(str::to_owned),
            topic: section.parse("topic"),
            priority: section.parse("priority"),
            tenant: section.text("tenant").map(str::to_owned),
            attributes,
            route: match section.get("route") {
                Some(route) => route.choice("route", &ROUTES)?,
                None => {
                    section.missing("route", "a rule needs its route: `local`, `remote` or `both`");
                    return None;
                }
            },
        };
        Some(rule)
    }

    fn describe(&self, page: &mut Page) {
        page.header("[[routing.rule]]");
        page.set_if("type", self.event_type.clone());
        page.set_if("topic", self.topic.as_ref().map(ToString::to_string));
        page.set_if("priority", self.priority.map(|priority| priority.to_string()));
        page.set_if("tenant", self.tenant.clone());
        for (name, value) in &self.attributes {
            match value {
                AttributeValue::Boolean(boolean) => page.set(name, *boolean),
                AttributeValue::Integer(number) => page.set(name, i64::from(*number)),
                other => page.set(name, other.to_text().into_owned()),
            }
        }
        page.choice("route", self.route, &ROUTES);
    }
}

/// A key without a meaning of its own, as the condition on an attribute.
fn attribute(item: &Item<'_>) -> Option<(String, AttributeValue)> {
    // One letter off a word of ours is a slip, and as a condition it would never be met.
    let slip = RuleConfig::KEYS.iter().any(|known| distance(item.key, known) == 1);
    let named = item.key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if slip || !named || item.key.is_empty() || item.key == "data" {
        item.unknown(&RuleConfig::KEYS);
        return None;
    }
    let value = match item.value() {
        Value::Boolean(boolean) => AttributeValue::Boolean(*boolean),
        Value::Integer(_) => {
            // CloudEvents integers have 32 bits.
            AttributeValue::Integer(item.number(i32::MIN.into()..=i32::MAX.into())?)
        }
        _ => AttributeValue::from(item.text()?),
    };
    Some((item.key.to_owned(), value))
}
