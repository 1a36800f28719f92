//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use trunkline::{Group, Pattern, Priority, StartAt, Topic};

use crate::help;

/// One typed event API; where an event travels is a line of configuration.
#[derive(Debug, Parser)]
#[command(name = "trunkline", version, after_help = help::EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publish events, handle them in two groups and a broadcast subscriber, and report what happened
    #[command(long_about = help::DEMO, after_help = help::DEMO_EXAMPLES)]
    Demo(DemoOptions),
    /// Publish one event, or a file of them, to the broker that the configuration names
    #[command(long_about = help::PUBLISH, after_help = help::PUBLISH_EXAMPLES)]
    Publish(PublishOptions),
    /// Print the events of topics as they come
    #[command(long_about = help::SUBSCRIBE, after_help = help::SUBSCRIBE_EXAMPLES)]
    Subscribe(SubscribeOptions),
    /// Say how the broker is
    #[command(after_help = help::HEALTH_EXAMPLES)]
    Health(LookOptions),
    /// Say how many events wait for each group
    #[command(after_help = help::LAG_EXAMPLES)]
    Lag(LookOptions),
    /// Print what the broker knows as numbers, in the text format of Prometheus
    #[command(after_help = help::METRICS_EXAMPLES)]
    Metrics(LookOptions),
    /// Look at configurations
    #[command(after_help = help::CONFIG_EXAMPLES)]
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print a completion script for a shell
    #[command(after_help = help::COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell to write for
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the configuration in effect, or everything that is wrong with it
    #[command(after_help = help::CONFIG_EXAMPLES)]
    Check(CheckOptions),
}

/// What `trunkline demo` is asked to do.
#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// Events to publish: CloudEvents JSON, one a line, with a `topic`; `-` is standard input
    #[arg(long, value_name = "FILE|-")]
    pub(crate) input: Option<PathBuf>,
    /// The configuration [default: two in-memory brokers, a SQLite store in a temporary file]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// End standard output with one JSON object instead of the report for people
    #[arg(long)]
    pub(crate) json: bool,
    /// Events that each group member handles at a time
    // Enough that keys run beside each other, few enough that the log of a run can be followed.
    #[arg(long, value_name = "N", default_value_t = 4,
        value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) concurrency: u16,
    /// Start so many publishes a second [default: as fast as they are accepted]
    #[arg(long, value_name = "EVENTS_PER_S", value_parser = rate)]
    pub(crate) rate: Option<f64>,
}

/// What `trunkline publish` is asked to do.
#[derive(Debug, Args)]
pub(crate) struct PublishOptions {
    /// The topic, such as orders.placed
    #[arg(required_unless_present = "ndjson", conflicts_with = "ndjson")]
    pub(crate) topic: Option<Topic>,
    /// The CloudEvents type
    #[arg(long = "type", value_name = "T", default_value = "Message", conflicts_with = "ndjson")]
    pub(crate) event_type: String,
    /// The ordering key: events of one topic and key are handled in order
    #[arg(long, value_name = "K", conflicts_with = "ndjson")]
    pub(crate) key: Option<String>,
    /// The priority: low, normal, high or critical
    #[arg(long, value_name = "P", conflicts_with = "ndjson")]
    pub(crate) priority: Option<Priority>,
    /// The data: JSON, a file of JSON, or standard input [default: an event without data]
    #[arg(long, value_name = "JSON|@FILE|-", conflicts_with = "ndjson")]
    pub(crate) data: Option<String>,
    /// Publish these events: CloudEvents JSON, one a line, with a `topic`; `-` is standard input
    #[arg(long, value_name = "FILE|-")]
    pub(crate) ndjson: Option<PathBuf>,
    /// The configuration [default: none, the environment over the defaults]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `trunkline subscribe` is asked to do.
#[derive(Debug, Args)]
pub(crate) struct SubscribeOptions {
    /// The topics: `*` is one word, `#` at the end is zero or more
    pub(crate) pattern: Pattern,
    /// Join this durable group, whose members share its events [default: every event, as long as
    /// this program runs]
    #[arg(long, value_name = "G")]
    pub(crate) group: Option<Group>,
    /// Where to begin: beginning, latest, a time such as 2026-01-31T08:00:00Z, or the position of an
    /// event as its delivery told it, such as kafka:orders/3/1042@1769846400000 [default: beginning
    /// for a new group, else latest]; a group that exists goes on where it was
    #[arg(long, value_name = "beginning|latest|TIME|POSITION", value_parser = start)]
    pub(crate) from: Option<StartAt>,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End with status 4 when so many seconds in all are over
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
    /// Print each event as one CloudEvents JSON object a line, with its `topic`
    #[arg(long)]
    pub(crate) json: bool,
    /// The configuration [default: none, the environment over the defaults]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// What the verbs are told that only look.
#[derive(Debug, Args)]
pub(crate) struct LookOptions {
    /// The configuration [default: none, the environment over the defaults]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `trunkline config check` is asked to do.
#[derive(Debug, Args)]
pub(crate) struct CheckOptions {
    /// The file [default: none, the environment over the defaults]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// The slowest rate: one event in some eleven days; below it times no longer fit a clock.
const SLOWEST: f64 = 1e-6;

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate >= SLOWEST => Ok(rate),
        _ => Err("a rate is a number of events per second above 0, such as 500 or 0.5".to_owned()),
    }
}

/// A year: longer than anybody waits, and short of every timer's overflow.
const LONGEST: f64 = 366.0 * 24.0 * 60.0 * 60.0;

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= LONGEST => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("a time is a number of seconds above 0, at most a year".to_owned()),
    }
}

fn start(text: &str) -> Result<StartAt, String> {
    match text {
        "beginning" => Ok(StartAt::Beginning),
        "latest" => Ok(StartAt::Latest),
        _ => match text.parse() {
            Ok(position) => Ok(StartAt::Position(position)),
            Err(_) => text.parse().map(StartAt::Time).map_err(|error| {
                format!(
                    "neither `beginning` nor `latest`, nor a time such as 2026-01-31T08:00:00Z, nor \
                     a position: {error}"
                )
            }),
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_rate_is_a_number_above_zero() {
        assert_eq!(rate("0.5"), Ok(0.5));
        for bad in ["0", "-1", "inf", "NaN", "many", ""] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_start_is_a_word_a_time_or_a_position() {
        assert_eq!(start("beginning"), Ok(StartAt::Beginning));
        assert_eq!(start("latest"), Ok(StartAt::Latest));
        assert!(matches!(start("2026-01-31T08:00:00Z"), Ok(StartAt::Time(_))));
        let position = start("kafka:orders/3/1042@1769846400000");
        assert!(matches!(position, Ok(StartAt::Position(_))));
        assert!(start("yesterday").is_err());
    }

    #[test]
    fn a_time_limit_is_a_number_of_seconds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "-1", "inf", "NaN", "soon", ""] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
