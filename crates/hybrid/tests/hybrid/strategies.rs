//! Strategies decide as their configuration says.

use proptest::prelude::*;
use trunkline_core::{
    Attributes, Data, Decision, ErrorKind, Event, Pattern, Priority, Route, RouteContext,
    RoutingStrategy, Topic,
};
use trunkline_hybrid::{
    FirstMatch, KeySplit, OnRemoteDown, RoutingRules, Rule, RulesStrategy, at_or_above,
    by_attribute, by_topic, by_type, larger_than, while_remote_down,
};

const CONTEXT: RouteContext =
    RouteContext { remote_healthy: true, now: jiff::Timestamp::UNIX_EPOCH, encoded_len: None };

fn event(event_type: &str, topic: &str, priority: Priority) -> Event {
    let topic = Topic::new(topic).unwrap();
    let draft = Event::from_data(event_type, topic, Data::json("1"));
    draft.priority(priority).tenant("acme").attribute("region", "eu").build().unwrap()
}

fn decide(strategy: &impl RoutingStrategy, event: &Event) -> (Route, String) {
    let decision = strategy.route(event.attributes(), &CONTEXT);
    (decision.route, decision.reason.into_owned())
}

fn configured() -> RoutingRules {
    let audit = Rule { topic: Some(Pattern::new("audit.#").unwrap()), ..Rule::new(Route::Both) };
    RoutingRules {
        rules: vec![audit],
        local_types: vec!["CriticalEvent".into(), "Alarm".into()],
        remote_types: vec!["AnalyticsEvent".into()],
        local_from_priority: Some(Priority::High),
        default: Route::Remote,
    }
}

#[test]
fn rules_come_first_then_types_then_priority_then_the_default() {
    let strategy = RulesStrategy::new(configured()).unwrap();
    for (event_type, topic, priority, route, word) in [
        ("CriticalEvent", "audit.login", Priority::Critical, Route::Both, "routing.rule 1"),
        ("Alarm", "orders", Priority::Low, Route::Local, "routing.local_types"),
        ("AnalyticsEvent", "orders", Priority::Critical, Route::Remote, "routing.remote_types"),
        ("Other", "orders", Priority::High, Route::Local, "routing.local_from_priority"),
        ("Other", "orders", Priority::Normal, Route::Remote, "routing.default"),
    ] {
        let (taken, reason) = decide(&strategy, &event(event_type, topic, priority));
        assert_eq!(taken, route, "{event_type} on {topic}");
        assert!(reason.contains(word), "{reason}");
    }
}

#[test]
fn a_rule_matches_only_when_all_its_conditions_hold() {
    let full = Rule {
        event_type: Some("T".into()),
        topic: Some(Pattern::new("orders.*").unwrap()),
        priority: Some(Priority::Low),
        tenant: Some("acme".into()),
        attributes: vec![("region".into(), "eu".into())],
        route: Route::Local,
    };
    let matching = event("T", "orders.eu", Priority::Low);
    let route = |rule: Rule| {
        let rules = RoutingRules { rules: vec![rule], ..RoutingRules::default() };
        decide(&RulesStrategy::new(rules).unwrap(), &matching).0
    };
    assert_eq!(route(full.clone()), Route::Local);
    for broken in [
        Rule { event_type: Some("U".into()), ..full.clone() },
        Rule { topic: Some(Pattern::new("orders").unwrap()), ..full.clone() },
        Rule { priority: Some(Priority::High), ..full.clone() },
        Rule { tenant: Some("other".into()), ..full.clone() },
        Rule { attributes: vec![("region".into(), "us".into())], ..full.clone() },
        Rule { attributes: vec![("absent".into(), "eu".into())], ..full },
    ] {
        assert_eq!(route(broken.clone()), Route::Remote, "{broken:?}");
    }
}

#[test]
fn the_number_of_the_rule_that_matched_is_in_the_reason() {
    let rule =
        |number: usize| Rule { event_type: Some(format!("T{number}")), ..Rule::new(Route::Local) };
    let rules = RoutingRules { rules: (1..=12).map(rule).collect(), ..RoutingRules::default() };
    let strategy = RulesStrategy::new(rules).unwrap();
    for number in [1, 8, 9, 12] {
        let event = event(&format!("T{number}"), "t", Priority::Normal);
        assert_eq!(strategy.matching_rule(event.attributes()), Some(number));
        assert_eq!(decide(&strategy, &event).1, format!("matches routing.rule {number}"));
    }
}

#[test]
fn a_type_listed_both_ways_is_refused_by_name() {
    let mut rules = configured();
    rules.remote_types.push("Alarm".into());
    let error = RulesStrategy::new(rules).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("`Alarm` is listed in both"), "{error}");
}

#[test]
fn a_rule_that_says_nothing_or_names_an_impossible_attribute_is_refused_by_number() {
    let named =
        Rule { attributes: vec![("Tenant-Id".into(), "x".into())], ..Rule::new(Route::Local) };
    for (rule, word) in [(Rule::new(Route::Local), "routing.default"), (named, "`Tenant-Id`")] {
        let mut rules = configured();
        rules.rules.push(rule);
        let error = RulesStrategy::new(rules).unwrap_err();
        assert_eq!((error.kind(), error.context("rule")), (ErrorKind::Config, Some("2")));
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_strategy_says_what_can_split_a_key() {
    let split = |rules| RulesStrategy::new(rules).unwrap().key_split();
    let plain = RoutingRules::default();
    let topics = RoutingRules { rules: configured().rules, ..plain.clone() };
    assert_eq!(split(plain.clone()), KeySplit::Never);
    assert_eq!(split(topics), KeySplit::Never);
    // Looking at the priority splits nothing where every route is the same.
    let same_way = RoutingRules {
        local_from_priority: Some(Priority::High),
        default: Route::Local,
        ..plain.clone()
    };
    assert_eq!(split(same_way), KeySplit::Never);
    assert_eq!(split(configured()), KeySplit::Possible { by: vec!["priority", "type"] });
    let region =
        Rule { attributes: vec![("region".into(), "eu".into())], ..Rule::new(Route::Local) };
    let tenant = Rule { tenant: Some("acme".into()), ..Rule::new(Route::Both) };
    let found = split(RoutingRules { rules: vec![region, tenant], ..plain });
    assert_eq!(found, KeySplit::Possible { by: vec!["attributes", "tenant"] });
    assert!(found.to_string().contains("routes depend on attributes, tenant"));
}

#[test]
fn the_first_step_that_decides_wins_and_the_default_takes_the_rest() {
    let strategy = FirstMatch::otherwise(Route::Remote)
        .after(by_type("Alarm", Route::Local))
        .after(by_topic(Pattern::new("audit.#").unwrap(), Route::Both))
        .after(at_or_above(Priority::Critical, Route::Local))
        .after(by_attribute("region", "us", Route::Local))
        .after(|event: &Attributes, _: &RouteContext| {
            (event.user() == Some("root")).then(|| Decision::new(Route::Local, "root"))
        });
    for (event_type, topic, priority, route) in [
        ("Alarm", "audit", Priority::Normal, Route::Local),
        ("Other", "audit", Priority::Critical, Route::Both),
        ("Other", "orders", Priority::Critical, Route::Local),
        ("Other", "orders", Priority::Normal, Route::Remote),
    ] {
        assert_eq!(decide(&strategy, &event(event_type, topic, priority)).0, route);
    }
}

#[test]
fn steps_can_look_at_the_context() {
    let strategy = FirstMatch::otherwise(Route::Remote)
        .after(while_remote_down(Route::Local))
        .after(larger_than(100, Route::Both));
    let event = event("T", "t", Priority::Normal);
    let route = |context: RouteContext| strategy.route(event.attributes(), &context).route;
    assert_eq!(route(CONTEXT), Route::Remote);
    assert_eq!(route(RouteContext { encoded_len: Some(101), ..CONTEXT }), Route::Both);
    assert_eq!(route(RouteContext { remote_healthy: false, ..CONTEXT }), Route::Local);
}

#[test]
fn spilling_is_refused_as_long_as_there_is_no_outbox() {
    assert_eq!("fail".parse::<OnRemoteDown>().unwrap(), OnRemoteDown::Fail);
    assert_eq!("local".parse::<OnRemoteDown>().unwrap(), OnRemoteDown::Local);
    let spill = "spill".parse::<OnRemoteDown>().unwrap_err();
    assert_eq!(spill.kind(), ErrorKind::Unsupported);
    assert!(spill.to_string().contains("outbox"));
    assert_eq!("drop".parse::<OnRemoteDown>().unwrap_err().kind(), ErrorKind::Invalid);
}

proptest! {
    #[test]
    fn the_same_event_in_the_same_context_takes_the_same_route(
        event_type in "Alarm|CriticalEvent|AnalyticsEvent|Other",
        topic in "audit|audit\\.x|orders",
        priority in 0usize..4,
        healthy: bool,
    ) {
        let strategy = RulesStrategy::new(configured()).unwrap();
        let event = event(&event_type, &topic, Priority::ALL[priority]);
        let context = RouteContext { remote_healthy: healthy, ..CONTEXT };
        let first = strategy.route(event.attributes(), &context);
        prop_assert_eq!(&first, &strategy.route(event.attributes(), &context));
    }
}
