//! The long texts of `--help`.

pub(crate) const DEMO: &str = "\
Publish events, handle them in two groups and a broadcast subscriber, and report what happened.

Without --input a built-in order-fulfilment scenario of typed events is published. Every event is \
published in file order per key; the demo waits until each is settled by both groups and the \
broadcast subscriber, reads the store back, and deletes its groups. Nothing has to be set up.

With --json the last line of standard output is one object: broker, store, published, rejected, \
routed_local, routed_remote, routed_both, handled, stored, replayed, lost, duplicates, \
out_of_order, dead_lettered, events_per_s, p50_us, p99_us, interrupted. A broker that is no hybrid \
counts as local when it is in memory and as remote otherwise. `lost` and `duplicates` add up over \
the groups and the subscriber.";

pub(crate) const EXAMPLES: &str = "\
Examples:
  trunkline demo
  trunkline demo --input events.ndjson --json
  trunkline publish orders.placed --key ann --data '{\"cents\":1250}' --config trunkline.toml
  trunkline subscribe 'orders.#' --group billing --json --config trunkline.toml
  trunkline lag --config trunkline.toml
  trunkline config check --config trunkline.toml
  trunkline completions bash > ~/.local/share/bash-completion/completions/trunkline

Environment:
  TRUNKLINE__SECTION__KEY  a key of the configuration, such as TRUNKLINE__BROKER__TYPE=memory
  TRUNKLINE_LOG            what is logged to standard error, such as info [default: off,trunkline=warn]
  NO_COLOR                 when set, nothing is coloured

Exit status: 0 fine, 1 failed, 2 wrong usage or configuration, 3 input lines rejected, 4 time over,
130 interrupted; each command's help says more.";

pub(crate) const DEMO_EXAMPLES: &str = "\
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

pub(crate) const CONFIG_EXAMPLES: &str = "\
Examples:
  trunkline config check --config trunkline.toml
  TRUNKLINE__STORE__TYPE=memory trunkline config check
  trunkline config check --config trunkline.toml --json

Exit status:
  0    the configuration is right; standard output is all of it, defaults included, as TOML
  2    it is not; standard error names every problem with its key, file, line and column";

pub(crate) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  trunkline completions bash > ~/.local/share/bash-completion/completions/trunkline
  trunkline completions zsh > ~/.zfunc/_trunkline
  trunkline completions fish > ~/.config/fish/completions/trunkline.fish

Exit status:
  0    the script is on standard output
  2    the shell is not known";

pub(crate) const PUBLISH: &str = "\
Publish one event, or a file of them, to the broker that the configuration names.

A hybrid's remote side is used; a broker in memory is an error, because its events stay within one \
process. The store of the configuration, if it has one, gets the events first, and the groups that \
its channels name are made before the first publish. What fails for a reason that may pass, or with \
an unknown outcome, is tried again with the same id for a minute.

One event: its id is printed when the broker has accepted it. With --ndjson every line is an event, \
published in file order per key.";

pub(crate) const PUBLISH_EXAMPLES: &str = "\
Examples:
  trunkline publish orders.placed --type OrderPlaced --key ann --data '{\"cents\":1250}'
  trunkline publish orders.placed --data @order.json --config trunkline.toml
  echo '{\"cents\":1}' | trunkline publish orders.placed --data -
  trunkline publish --ndjson events.ndjson --config trunkline.toml
  trunkline subscribe 'orders.#' --json --config here.toml | trunkline publish --ndjson - --config there.toml

An input line:
  {\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/shop\",\"type\":\"OrderPlaced\",\
\"topic\":\"orders\",\"partitionkey\":\"ann\",\"data\":{\"cents\":1250}}

Exit status:
  0    everything was accepted by the broker
  1    something was not accepted, or the run failed
  2    the command line, the input file or the configuration is wrong; nothing was published
  3    as 0, but input lines were rejected: no valid event, an identity for the second time among the
       last million, or one that the broker refuses
  130  interrupted (Ctrl-C): what had been read was published";

pub(crate) const SUBSCRIBE: &str = "\
Print the events of topics as they come.

A hybrid's remote side is used; a broker in memory is an error, because its events stay within one \
process. An event is acknowledged after its line has been written out, so that none is lost when \
whoever reads goes away; one may then come twice. A message that is no event goes to the dead \
letters and is reported on standard error.

With --group this is a member of a durable group: members share the events, and what is published \
while there is none waits. Without it every event is printed that is published while this runs.";

pub(crate) const SUBSCRIBE_EXAMPLES: &str = "\
Examples:
  trunkline subscribe 'orders.#' --config trunkline.toml
  trunkline subscribe orders.placed --group billing --count 10 --timeout 30
  trunkline subscribe '#' --from 2026-01-31T08:00:00Z --json | jq .data
  trunkline subscribe 'orders.#' --json --config here.toml | trunkline publish --ndjson - --config there.toml

Exit status:
  0    N events were printed (--count); or, without --count, stopped by Ctrl-C or SIGTERM: a clean close
  1    the run failed
  2    the command line or the configuration is wrong, or the broker lacks what an option asks for
  4    S seconds were over (--timeout)
  130  stopped before N events were printed; closed cleanly too";

pub(crate) const HEALTH_EXAMPLES: &str = "\
Examples:
  trunkline health --config trunkline.toml
  trunkline health --config trunkline.toml --json | jq -r .status

Exit status:
  0    up, or degraded: works, and the facts say what does not
  1    down, or it cannot be reached
  2    the command line or the configuration is wrong";

pub(crate) const LAG_EXAMPLES: &str = "\
Examples:
  trunkline lag --config trunkline.toml
  trunkline lag --config trunkline.toml --json | jq '.groups[] | {name, lag}'

Exit status:
  0    every group of the broker is on standard output
  1    the broker cannot be reached
  2    the command line or the configuration is wrong";

pub(crate) const METRICS_EXAMPLES: &str = "\
Examples:
  trunkline metrics --config trunkline.toml
  trunkline metrics --config trunkline.toml --json

The broker's own numbers: up, reconnects, and for each group its members, lag and events in flight. What a
service counts of itself, such as published, failed, retried and dead-lettered, is in its own process:
`EventBus::observe` there gives the same page with those.

Exit status:
  0    the metrics are on standard output
  1    the broker is down or cannot be reached
  2    the command line or the configuration is wrong";
