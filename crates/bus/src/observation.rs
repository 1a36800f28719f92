//! One look at a bus: what it did, what waits at the broker, and how the connection is.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};

use serde::Serialize;
use trunkline_core::{GroupInfo, HealthStatus};

use crate::bus::EventBus;
use crate::metrics::{ConsumerMetrics, Metrics};

/// What a bus did since it started, what waits at its broker now, and how the connection is.
///
/// The counters are this process's own. The groups are the broker's: their lag and what they have in
/// flight count every process. It serialises as one flat object, and
/// [`Observation::to_prometheus`] writes what a scraper reads.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Observation {
    /// The broker's name.
    pub broker: &'static str,
    /// How the broker, its connection, the store and the consumers are.
    pub status: HealthStatus,
    /// How often a lost connection was made again.
    pub reconnects: u64,
    /// What is behind the status, by name.
    pub facts: BTreeMap<String, String>,
    /// What the bus has done.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// The groups that the broker has, each with its lag; none while `problem` says why.
    pub groups: Vec<GroupInfo>,
    /// Why the groups are not known, where they are not: the broker cannot be reached, or has none.
    pub problem: Option<String>,
}

impl EventBus {
    /// Looks at everything that is counted: [`EventBus::metrics`], [`EventBus::health`] and the groups
    /// of the broker, in one call.
    ///
    /// It never fails: what cannot be had is said in the observation. It asks the server, so call it
    /// as often as a scraper does and not for each event.
    ///
    /// # Cancel safety
    /// Safe: it changes nothing.
    pub async fn observe(&self) -> Observation {
        let health = self.health().await;
        let (groups, problem) = match self.broker().admin() {
            Some(admin) => match admin.groups().await {
                Ok(groups) => (groups, None),
                Err(error) => (Vec::new(), Some(error.to_string())),
            },
            None => (Vec::new(), Some("the broker has no operations tools".to_owned())),
        };
        Observation {
            broker: self.broker().capabilities().name,
            status: health.status,
            reconnects: health.reconnects,
            facts: health.facts.into_iter().collect(),
            metrics: self.metrics(),
            groups,
            problem,
        }
    }
}

type OfConsumer = fn(&ConsumerMetrics) -> u64;

/// What is counted of each consumer: the name, what it is, and where it stands.
const CONSUMER_COUNTERS: [(&str, &str, OfConsumer); 10] = [
    ("consumed", "Deliveries that came from the broker.", |c| c.delivered),
    ("handled", "Events whose handler succeeded.", |c| c.handled),
    ("failed", "Attempts that ended in an error, a panic or a time-out.", |c| c.failed),
    ("retried", "Attempts after the first.", |c| c.retried),
    ("panicked", "Attempts that ended in a panic.", |c| c.panicked),
    ("timed_out", "Attempts that ended in a time-out.", |c| c.timed_out),
    ("dead_lettered", "Events that were moved to the dead letters.", |c| c.dead_lettered),
    ("unhandled", "Events that no handler of the group takes.", |c| c.unhandled),
    ("settle_failed", "Settlements that the broker refused.", |c| c.settle_failed),
    ("revoked", "Events given up because another member may have them.", |c| c.revoked),
];

type OfGroup = fn(&GroupInfo) -> u64;

const GROUP_GAUGES: [(&str, &str, OfGroup); 3] = [
    ("members", "Live members of the group.", |g| g.members as u64),
    ("lag", "Events that wait to be delivered to the group.", |g| g.lag),
    ("in_flight", "Events that are delivered and not settled.", |g| g.in_flight),
];

impl Observation {
    /// The observation in the text format that Prometheus scrapes.
    ///
    /// Names begin with `trunkline_`; a consumer is a label `consumer`, a group a label `group`.
    #[must_use]
    pub fn to_prometheus(&self) -> String {
        let mut page = Page(String::new());
        let broker = [("broker", self.broker)];
        let up = u64::from(self.status == HealthStatus::Up);
        page.family("up", "gauge", "1 while everything works, else 0.");
        page.sample("up", &broker, up);
        page.family("reconnects_total", "counter", "Lost connections that were made again.");
        page.sample("reconnects_total", &broker, self.reconnects);
        for (name, help, count) in [
            ("published", "Events that the broker accepted.", self.metrics.published),
            ("rejected", "Events that were refused before acceptance.", self.metrics.rejected),
            ("stored", "Events that the store appended, or had.", self.metrics.stored),
        ] {
            page.family(&format!("{name}_total"), "counter", help);
            page.sample(&format!("{name}_total"), &[], count);
        }
        self.write_consumers(&mut page);
        self.write_groups(&mut page);
        page.0
    }

    fn write_consumers(&self, page: &mut Page) {
        let consumers = &self.metrics.consumers;
        if consumers.is_empty() {
            return;
        }
        for (name, help, of) in CONSUMER_COUNTERS {
            let name = format!("{name}_total");
            page.family(&name, "counter", help);
            for consumer in consumers {
                page.sample(&name, &[("consumer", &consumer.name)], of(consumer));
            }
        }
        page.family("in_flight", "gauge", "Events that are with a handler now.");
        for consumer in consumers {
            page.sample("in_flight", &[("consumer", &consumer.name)], consumer.in_flight);
        }
    }

    fn write_groups(&self, page: &mut Page) {
        if self.groups.is_empty() {
            return;
        }
        for (name, help, of) in GROUP_GAUGES {
            let name = format!("group_{name}");
            page.family(&name, "gauge", help);
            for group in &self.groups {
                page.sample(&name, &[("group", group.name.as_str())], of(group));
            }
        }
        let name = "group_dropped_total";
        page.family(name, "counter", "Events that a full buffer has dropped.");
        for group in &self.groups {
            page.sample(name, &[("group", group.name.as_str())], group.dropped);
        }
    }
}

/// The text format, line by line.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP trunkline_{name} {help}"));
        self.line(format_args!("# TYPE trunkline_{name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels: Vec<_> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", Escaped(value))).collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        self.line(format_args!("trunkline_{name}{labels} {value}"));
    }

    fn line(&mut self, line: impl Display) {
        // Writing into a string cannot fail.
        writeln!(self.0, "{line}").unwrap_or_default();
    }
}

/// The value of a label: a consumer's name may be any text.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_break_out_of_its_quotes() {
        let mut page = Page(String::new());
        page.sample("x", &[("consumer", "a\"b\\c\nd")], 1);
        assert_eq!(page.0, "trunkline_x{consumer=\"a\\\"b\\\\c\\nd\"} 1\n");
    }
}
