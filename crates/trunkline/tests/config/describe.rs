//! The configuration in effect, as it is printed.

use trunkline::config::Config;

use super::config;

#[test]
fn the_defaults_are_written_out() {
    let expected = "\
[bus]
enabled = true
# source: each event's own
max_event_bytes = 4194304
# publish_timeout_ms: the broker's default
close_timeout_ms = 25000

[broker]
type = \"memory\"
history = 0
# buffer_size: the broker's default

[store]
type = \"none\"
";
    assert_eq!(Config::default().describe(), expected);
}

#[test]
fn what_is_printed_reads_back_as_the_same_configuration() {
    let full = config(
        r##"
        [bus]
        source = "/shop \"quoted\" \\ path"
        [broker]
        type = "hybrid"
        local = { type = "memory", buffer_size = 5 }
        remote = { type = "memory", history = 7 }
        [[routing.rule]]
        type = "A"
        topic = "a.#"
        priority = "low"
        tenant = "t"
        projectid = "p"
        size = -3
        hot = true
        route = "both"
        [routing]
        local_types = ["X"]
        remote_types = ["Y", "Z"]
        local_from_priority = "critical"
        default = "local"
        on_remote_down = "local"
        on_no_local_subscriber = "error"
        [store]
        type = "sqlite"
        url = "sqlite://trunkline.db"
        ttl_seconds = 60
        max_events_per_stream = 9
        [channels."odd name"]
        topics = ["a", "b.*"]
        buffer_size = 1
        consumers = ["g"]
        partitions = 2
        order = "none"
        concurrency = 3
        lanes = true
        on_full = "drop-oldest"
        lossy = true
        on_unhandled = "dead_letter"
        timeout_ms = 4
        retry = { attempts = 1, backoff = "fixed", initial_delay_ms = 2, max_delay_ms = 3, jitter = false }
        [channels.aa]
        topics = ["#"]
        "##,
    );
    for original in [Config::default(), full] {
        let printed = original.describe();
        assert_eq!(config(&printed), original, "{printed}");
    }
}
