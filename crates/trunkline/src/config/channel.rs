//! `[channels.<name>]`: a set of topics with its buffer, consumers and policies.

use std::time::Duration;

use trunkline_bus::OnUnhandled;
use trunkline_core::{Group, OnFull, Order, Pattern, Topic};

use super::describe::Page;
use super::read::{Choice, Item, Section};
use super::retry::RetryConfig;
use super::tree::key_text;

/// One `[channels.<name>]`; where a setting is absent, the broker or the bus has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelConfig {
    /// The name of the channel.
    pub name: String,
    /// The topics of the channel.
    pub topics: Vec<Pattern>,
    /// In memory the undelivered events per group, remotely prefetch plus unconfirmed publishes.
    pub buffer_size: Option<usize>,
    /// Durable groups that are declared when the bus starts, before its first publish.
    pub consumers: Vec<Group>,
    /// Into how many partitions a topic is divided where the broker has partitions.
    pub partitions: Option<u32>,
    /// Whether the order of a key is kept.
    pub order: Order,
    /// How many handlers of one member run at a time, each on a key of its own.
    pub concurrency: Option<usize>,
    /// Whether more urgent events overtake less urgent ones.
    pub lanes: bool,
    /// What happens to the later events of a key while one of them fails.
    pub on_failure: OnFailure,
    /// What happens when the buffer is full.
    pub on_full: OnFull,
    /// Whether events may be dropped; `on_full = "drop-oldest"` needs this said.
    pub lossy: bool,
    /// What happens to an event that its group has no handler for.
    pub on_unhandled: OnUnhandled,
    /// How long one run of a handler may take.
    pub timeout: Option<Duration>,
    /// How often a failed event is run again, and how long the waits are.
    pub retry: RetryConfig,
}

/// What happens to the later events of a key while one of them fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// They wait, and other keys flow; when the attempts are used up the event is dead-lettered.
    #[default]
    Block,
}

const ORDERS: [Choice<Order>; 2] = [("key", Some(Order::PerKey)), ("none", Some(Order::None))];
const FAILURES: [Choice<OnFailure>; 3] =
    [("block", Some(OnFailure::Block)), ("park", None), ("skip", None)];
const FULL: [Choice<OnFull>; 3] = [
    ("block", Some(OnFull::Block)),
    ("error", Some(OnFull::Error)),
    ("drop-oldest", Some(OnFull::DropOldest)),
];
const UNHANDLED: [Choice<OnUnhandled>; 2] =
    [("ack", Some(OnUnhandled::Ack)), ("dead_letter", Some(OnUnhandled::DeadLetter))];

impl ChannelConfig {
    /// A channel of `topics` that leaves everything else as it is.
    #[must_use]
    pub fn new(name: impl Into<String>, topics: impl IntoIterator<Item = Pattern>) -> Self {
        Self {
            name: name.into(),
            topics: topics.into_iter().collect(),
            buffer_size: None,
            consumers: Vec::new(),
            partitions: None,
            order: Order::default(),
            concurrency: None,
            lanes: false,
            on_failure: OnFailure::default(),
            on_full: OnFull::default(),
            lossy: false,
            on_unhandled: OnUnhandled::default(),
            timeout: None,
            retry: RetryConfig::default(),
        }
    }

    /// Whether one of the channel's patterns matches `topic`.
    #[must_use]
    pub fn takes(&self, topic: &Topic) -> bool {
        self.topics.iter().any(|pattern| pattern.matches(topic))
    }

    pub(super) fn read(item: &Item<'_>) -> Option<Self> {
        let mut section = item.section()?;
        if let Some(item) = section.get("default_consumer") {
            let instead = "give the group's consumer a handler of `Event`, which takes every type \
                           that has no handler of its own";
            item.wrong(format!("it is not available in this version: {instead}"));
        }
        let channel = Self {
            name: item.key.to_owned(),
            topics: read_topics(&mut section),
            buffer_size: section.number("buffer_size", 1),
            consumers: read_consumers(&mut section),
            partitions: section.number("partitions", 1),
            order: section.choice("order", "order", &ORDERS).unwrap_or_default(),
            concurrency: section.number("concurrency", 1),
            lanes: section.boolean("lanes").unwrap_or_default(),
            on_failure: section.choice("on_failure", "on_failure", &FAILURES).unwrap_or_default(),
            on_full: section.choice("on_full", "on_full", &FULL).unwrap_or_default(),
            lossy: section.boolean("lossy").unwrap_or_default(),
            on_unhandled: section
                .choice("on_unhandled", "on_unhandled", &UNHANDLED)
                .unwrap_or_default(),
            timeout: section.millis("timeout_ms"),
            retry: section.section("retry").map(RetryConfig::read).unwrap_or_default(),
        };
        if channel.on_full == OnFull::DropOldest && !channel.lossy {
            let why = "`drop-oldest` loses events: write `lossy = true` beside it to allow that";
            section.get("on_full")?.wrong(why);
        }
        section.finish();
        Some(channel)
    }

    pub(super) fn describe(&self, page: &mut Page) {
        page.header(&format!("[channels.{}]", key_text(&self.name)));
        page.list("topics", &self.topics);
        page.number_or_note("buffer_size", self.buffer_size, "the broker's");
        page.list("consumers", &self.consumers);
        page.number_or_note("partitions", self.partitions, "the broker's default");
        page.choice("order", self.order, &ORDERS);
        page.number_or_note("concurrency", self.concurrency, "the bus's default");
        page.set("lanes", self.lanes);
        page.choice("on_failure", self.on_failure, &FAILURES);
        page.choice("on_full", self.on_full, &FULL);
        page.set("lossy", self.lossy);
        page.choice("on_unhandled", self.on_unhandled, &UNHANDLED);
        page.millis_or_note("timeout_ms", self.timeout, "no limit");
        self.retry.describe(page);
    }
}

fn read_topics(section: &mut Section<'_>) -> Vec<Pattern> {
    let Some(item) = section.get("topics") else {
        section.missing("topics", "a channel needs its topics, such as `topics = [\"orders.#\"]`");
        return Vec::new();
    };
    let items = item.items();
    if items.as_ref().is_some_and(Vec::is_empty) {
        item.wrong("a channel needs at least one topic pattern");
    }
    items.unwrap_or_default().iter().filter_map(Item::parse).collect()
}

fn read_consumers(section: &mut Section<'_>) -> Vec<Group> {
    let items = section.get("consumers").and_then(|item| item.items()).unwrap_or_default();
    let mut groups: Vec<Group> = Vec::new();
    for item in &items {
        match item.parse() {
            Some(group) if groups.contains(&group) => {
                item.wrong(format!("the group `{group}` stands here twice"));
            }
            Some(group) => groups.push(group),
            None => {}
        }
    }
    groups
}
