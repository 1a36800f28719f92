//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

/// One typed event API; where an event travels is a line of configuration.
#[derive(Debug, Parser)]
#[command(name = "trunkline", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publish events, handle them in two groups and a broadcast subscriber, and report what happened
    #[command(long_about = DEMO, after_help = DEMO_EXAMPLES)]
    Demo(DemoOptions),
    /// Look at configurations
    #[command(after_help = CONFIG_EXAMPLES)]
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell to write for
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the configuration in effect, or everything that is wrong with it
    #[command(after_help = CONFIG_EXAMPLES)]
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

const DEMO: &str = "\
Publish events, handle them in two groups and a broadcast subscriber, and report what happened.

Without --input a built-in order-fulfilment scenario of typed events is published. Every event is \
published in file order per key; the demo waits until each is settled by both groups and the \
broadcast subscriber, reads the store back, and deletes its groups. Nothing has to be set up.

With --json the last line of standard output is one object: broker, store, published, rejected, \
routed_local, routed_remote, routed_both, handled, stored, replayed, lost, duplicates, \
out_of_order, dead_lettered, events_per_s, p50_us, p99_us, interrupted. A broker that is no hybrid \
counts as local when it is in memory and as remote otherwise. `lost` and `duplicates` add up over \
the groups and the subscriber.";

const EXAMPLES: &str = "\
Examples:
  trunkline demo
  trunkline demo --input events.ndjson --json
  trunkline config check --config trunkline.toml
  trunkline completions bash > ~/.local/share/bash-completion/completions/trunkline

Environment:
  TRUNKLINE__SECTION__KEY  a key of the configuration, such as TRUNKLINE__BROKER__TYPE=memory
  TRUNKLINE_LOG            what is logged to standard error, such as info [default: warn]
  NO_COLOR                 when set, nothing is coloured

Exit status: 0 fine, 1 failed, 2 wrong usage or configuration; each command's help says more.";

const DEMO_EXAMPLES: &str = "\
Examples:
  trunkline demo
  trunkline demo --input events.ndjson
  trunkline demo --input events.ndjson --config trunkline.toml --json | tail -n 1
  generate-events | trunkline demo --input - --concurrency 16 --rate 500

An input line:
  {\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/shop\",\"type\":\"OrderPlaced\",\
\"topic\":\"orders\",\"partitionkey\":\"ann\",\"data\":{\"cents\":1250}}

Exit status:
  0    every event was settled once and in order by everyone
  1    events were lost, handled twice or out of order, or the run failed
  2    the command line, the input file or the configuration is wrong; nothing was published
  3    as 0, but input lines were rejected: no valid event, or an identity for the second time
  130  interrupted (Ctrl-C): closed cleanly, the report says what was done until then";

const CONFIG_EXAMPLES: &str = "\
Examples:
  trunkline config check --config trunkline.toml
  TRUNKLINE__STORE__TYPE=memory trunkline config check
  trunkline config check --config trunkline.toml --json

Exit status:
  0    the configuration is right; standard output is all of it, defaults included, as TOML
  2    it is not; standard error names every problem with its key, file, line and column";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  trunkline completions bash > ~/.local/share/bash-completion/completions/trunkline
  trunkline completions zsh > ~/.zfunc/_trunkline
  trunkline completions fish > ~/.config/fish/completions/trunkline.fish

Exit status:
  0    the script is on standard output
  2    the shell is not known";

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
}
