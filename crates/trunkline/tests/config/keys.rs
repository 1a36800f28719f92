//! Every key, its type and its default.

use std::time::Duration;

use trunkline::config::{
    BackendConfig, Backoff, BrokerConfig, Config, OnFailure, OnNoLocalSubscriber, OnRemoteDown,
    OnUnhandled, StoreConfig,
};
use trunkline_core::{AttributeValue, OnFull, Order, Priority, Route, Topic};

use super::config;

/// The block that people and scripts rely on, as the design has it.
const FIXED: &str = r##"
[bus]
enabled = true
[broker]
type = "hybrid"                    # memory | redis | kafka | rabbitmq | hybrid
[broker.local]                     # only for hybrid; default memory
type = "memory"
[broker.remote]                    # only for hybrid
type = "redis"
url = "redis://127.0.0.1:6379/1"   # kafka://host:9092,host2:9092   amqp://guest:guest@127.0.0.1:5672/%2f
[[routing.rule]]                   # tried first, in order
topic = "audit.#"
route = "both"
[routing]                          # then these, in this order
local_types = ["CriticalEvent"]
remote_types = ["AnalyticsEvent"]
local_from_priority = "high"       # this priority and above stays local
default = "remote"                 # local | remote | both
on_remote_down = "fail"            # fail | spill | local
[store]
type = "sqlite"                    # none | memory | redis | postgres | sqlite
url = "sqlite://trunkline.db"
ttl_seconds = 2592000
max_events_per_stream = 10000
[channels.security]
topics = ["security.#"]
buffer_size = 1000
consumers = ["audit-logger", "metrics-service", "alert-service"]
retry = { attempts = 3, backoff = "exponential", initial_delay_ms = 100, max_delay_ms = 5000 }
"##;

#[test]
fn the_fixed_block_sets_every_key_that_it_names() {
    let config = config(FIXED);
    assert!(config.bus.enabled);
    let BrokerConfig::Hybrid(sides) = &config.broker else { panic!("{:?}", config.broker) };
    assert!(sides.local.is_memory() && config.broker.outer() == &sides.remote);
    let BackendConfig::Redis(redis) = &sides.remote else { panic!("{sides:?}") };
    assert_eq!(redis.server.url.expose(), "redis://127.0.0.1:6379/1");

    let routing = &config.routing;
    assert_eq!(routing.rules.len(), 1);
    assert_eq!(routing.rules[0].topic.as_ref().unwrap().as_str(), "audit.#");
    assert_eq!(routing.rules[0].route, Route::Both);
    assert_eq!(routing.local_types, ["CriticalEvent"]);
    assert_eq!(routing.remote_types, ["AnalyticsEvent"]);
    assert_eq!(routing.local_from_priority, Some(Priority::High));
    assert_eq!(routing.default_route, Route::Remote);
    assert_eq!(routing.on_remote_down, OnRemoteDown::Fail);

    let StoreConfig::Sqlite(store) = &config.store else { panic!("{:?}", config.store) };
    assert_eq!(store.url.expose(), "sqlite://trunkline.db");
    assert_eq!(store.retention.ttl, Some(Duration::from_secs(2_592_000)));
    assert_eq!(store.retention.max_events_per_stream, Some(10_000));

    let channel = &config.channels[0];
    assert_eq!(channel.name, "security");
    assert_eq!(channel.topics[0].as_str(), "security.#");
    assert_eq!(channel.buffer_size, Some(1000));
    let consumers: Vec<_> = channel.consumers.iter().map(|group| group.as_str()).collect();
    assert_eq!(consumers, ["audit-logger", "metrics-service", "alert-service"]);
    assert_eq!(channel.retry.attempts, 3);
    assert_eq!(channel.retry.backoff, Backoff::Exponential);
    assert_eq!(channel.retry.initial_delay, Duration::from_millis(100));
    assert_eq!(channel.retry.max_delay, Duration::from_secs(5));
}

#[test]
fn a_channel_takes_every_other_key() {
    let config = config(
        r##"
        [channels.orders]
        topics = ["orders.*", "returns"]
        partitions = 8
        order = "none"
        concurrency = 16
        lanes = true
        on_failure = "block"
        on_full = "drop-oldest"
        lossy = true
        on_unhandled = "dead_letter"
        timeout_ms = 1500
        [channels.orders.retry]
        backoff = "linear"
        jitter = false
        "##,
    );
    let channel = &config.channels[0];
    assert_eq!((channel.partitions, channel.concurrency), (Some(8), Some(16)));
    assert_eq!((channel.order, channel.lanes), (Order::None, true));
    assert_eq!((channel.on_failure, channel.on_full), (OnFailure::Block, OnFull::DropOldest));
    assert_eq!((channel.lossy, channel.on_unhandled), (true, OnUnhandled::DeadLetter));
    assert_eq!(channel.timeout, Some(Duration::from_millis(1500)));
    assert_eq!((channel.retry.backoff, channel.retry.jitter), (Backoff::Linear, false));
    assert_eq!(channel.retry.attempts, 3);
}

#[test]
fn the_bus_and_the_memory_broker_take_their_keys() {
    let config = config(
        "[bus]\nenabled = false\nsource = \"/shop\"\nmax_event_bytes = 1024\n\
         publish_timeout_ms = 10\nclose_timeout_ms = 20\n\
         [broker]\ntype = \"memory\"\nhistory = 100\nbuffer_size = 5\n",
    );
    assert!(!config.bus.enabled);
    assert_eq!(config.bus.source.as_deref(), Some("/shop"));
    assert_eq!(config.bus.max_event_bytes, 1024);
    assert_eq!(config.bus.publish_timeout, Some(Duration::from_millis(10)));
    assert_eq!(config.bus.close_timeout, Duration::from_millis(20));
    let BrokerConfig::Single(BackendConfig::Memory(memory)) = &config.broker else {
        panic!("{:?}", config.broker)
    };
    assert_eq!((memory.history, memory.buffer_size), (100, Some(5)));
}

#[test]
fn a_rule_takes_types_priorities_tenants_and_any_attribute() {
    let config = config(
        r##"
        broker = { type = "hybrid", remote = { type = "memory" } }
        [[routing.rule]]
        type = "OrderPlaced"
        priority = "critical"
        tenant = "acme"
        projectid = "apollo"
        retries = 3
        urgent = true
        route = "local"
        [routing]
        on_remote_down = "local"
        on_no_local_subscriber = "error"
        default = "both"
        "##,
    );
    let rule = &config.routing.rules[0];
    assert_eq!(rule.event_type.as_deref(), Some("OrderPlaced"));
    assert_eq!((rule.priority, rule.tenant.as_deref()), (Some(Priority::Critical), Some("acme")));
    let attributes = [
        ("projectid".to_owned(), AttributeValue::from("apollo")),
        ("retries".to_owned(), AttributeValue::from(3)),
        ("urgent".to_owned(), AttributeValue::from(true)),
    ];
    assert_eq!(rule.attributes, attributes);
    assert_eq!(rule.route, Route::Local);
    assert_eq!(config.routing.on_remote_down, OnRemoteDown::Local);
    assert_eq!(config.routing.on_no_local_subscriber, OnNoLocalSubscriber::Error);
    assert_eq!(config.routing.default_route, Route::Both);
}

#[test]
fn nothing_configured_is_a_bus_in_memory_without_a_store() {
    let config = config("");
    assert_eq!(config, Config::default());
    assert!(matches!(config.broker, BrokerConfig::Single(BackendConfig::Memory(_))));
    assert_eq!(config.store, StoreConfig::None);
    assert_eq!(config.bus.max_event_bytes, 4_194_304);
}

#[test]
fn the_local_side_of_a_hybrid_is_in_memory_unless_it_says_otherwise() {
    let config = config("[broker]\ntype = \"hybrid\"\n[broker.remote]\ntype = \"memory\"\n");
    assert_eq!(config.broker, BrokerConfig::Hybrid(Default::default()));
    assert_eq!(config.routing.default_route, Route::Remote);
}

#[test]
fn channels_and_rules_keep_the_order_of_the_file() {
    let config = config(
        r##"
        [broker]
        type = "hybrid"
        remote.type = "memory"
        [channels.zebra]
        topics = ["a.b"]
        [[routing.rule]]
        topic = "z.#"
        route = "local"
        [channels.apple]
        topics = ["a.#"]
        [[routing.rule]]
        topic = "a.#"
        route = "both"
        [channels."Mango pie"]
        topics = ["#"]
        "##,
    );
    let names: Vec<_> = config.channels.iter().map(|channel| channel.name.as_str()).collect();
    assert_eq!(names, ["zebra", "apple", "Mango pie"]);
    let routes: Vec<_> = config.routing.rules.iter().map(|rule| rule.route).collect();
    assert_eq!(routes, [Route::Local, Route::Both]);

    let channel = |topic| config.channel_of(&Topic::from_static(topic)).unwrap().name.as_str();
    assert_eq!((channel("a.b"), channel("a.c"), channel("x")), ("zebra", "apple", "Mango pie"));
}
