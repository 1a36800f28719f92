//! What a bus counts while it works, what waits at its server, and what a restart of the server changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use trunkline::prelude::*;
use trunkline::{ConsumerMetrics, GroupInfo, HealthStatus, Observation};
use trunkline_launcher::{Kind, Server};

use super::scene::{at, finish, own};

/// Longer than a server takes to serve again, and a client to find it.
const PATIENCE: Duration = Duration::from_secs(90);

struct Scene {
    bus: EventBus,
    runtime: tokio::runtime::Runtime,
}

impl Scene {
    fn start(server: &Server) -> Self {
        let text = format!(
            "[broker]\ntype = \"{}\"\nurl = \"{}\"\n[channels.test]\ntopics = [\"count.#\"]\n\
             consumers = [\"count\"]\nconcurrency = 4\n\
             retry = {{ attempts = 2, initial_delay_ms = 1, max_delay_ms = 1 }}\n\
             [bus]\npublish_timeout_ms = 60000\n",
            server.kind().name(),
            server.url(),
        );
        let config = Config::from_str(&text, "test.toml").unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let bus = runtime.block_on(EventBus::from_config(&config)).unwrap();
        Self { bus, runtime }
    }

    /// Publishes events of these keys, which say what their handler does.
    fn publish(&self, keys: &[&str]) {
        let event = |key: &&str| {
            let draft = Event::from_data("Counted", Topic::from_static("count.a"), Data::json("1"));
            draft.key(*key).build().unwrap()
        };
        let events: Vec<_> = keys.iter().map(event).collect();
        self.runtime.block_on(self.bus.publish_many(&events)).into_result().unwrap();
    }

    /// Handles as the keys say: `held` waits for a permit.
    fn consume(&self, permits: &Arc<Semaphore>) {
        let permits = Arc::clone(permits);
        let handler = move |event: Event, context: Context| {
            let permits = Arc::clone(&permits);
            async move {
                let key = event.attributes().key().unwrap_or_default().to_owned();
                match key.as_str() {
                    "held" => permits.acquire().await.map(|permit| permit.forget())?,
                    "never" => return Err(HandlerError::new("no good")),
                    "second" if context.attempt() == 1 => return Err(HandlerError::new("not yet")),
                    _ => {}
                }
                Ok::<_, HandlerError>(())
            }
        };
        let consumer = Consumer::group("count").topics(["count.#"]).on(handler);
        self.runtime.block_on(self.bus.subscribe(consumer)).unwrap();
    }

    /// Looks until what is seen is as expected.
    #[track_caller]
    fn until(&self, what: &str, is_so: impl Fn(&Observation) -> bool) -> Observation {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.runtime.block_on(self.bus.observe());
            if is_so(&seen) {
                return seen;
            }
            assert!(Instant::now() < deadline, "not {what}: {seen:#?}");
            // A look asks the server; a scraper does not come oftener either.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn group(seen: &Observation) -> Option<&GroupInfo> {
    seen.groups.iter().find(|group| group.name.as_str() == "count")
}

/// Lag and what is in flight of the group.
fn waits(seen: &Observation) -> Option<(u64, u64)> {
    group(seen).map(|group| (group.lag, group.in_flight))
}

fn consumer(seen: &Observation) -> &ConsumerMetrics {
    let mut consumers = seen.metrics.consumers.iter();
    consumers.find(|consumer| consumer.name == "count").expect("the consumer is counted")
}

pub(super) fn everything_is_counted_also_through_a_restart_of_the_server(kind: Kind) {
    let server = own(kind);
    let scene = Scene::start(&server);
    scene.publish(&["a", "b", "c"]);
    let seen = scene.until("three wait", |seen| waits(seen) == Some((3, 0)));
    assert_eq!((seen.status, seen.reconnects), (HealthStatus::Up, 0), "{seen:#?}");
    assert_eq!((seen.metrics.published, group(&seen).unwrap().members), (3, 0), "{seen:#?}");

    let permits = Arc::new(Semaphore::new(0));
    scene.consume(&permits);
    scene.publish(&["a", "second", "never", "held"]);
    let seen = scene.until("one is held and nothing waits", |seen| {
        let of = consumer(seen);
        let done = (of.handled, of.dead_lettered, of.in_flight) == (5, 1, 1);
        done && waits(seen) == Some((0, 1))
    });
    let of = consumer(&seen);
    assert_eq!((seen.metrics.published, of.delivered), (7, 7), "{seen:#?}");
    assert_eq!((of.failed, of.retried, of.settle_failed), (3, 2, 0), "{seen:#?}");
    assert_eq!(group(&seen).unwrap().members, 1, "{seen:#?}");
    permits.add_permits(1);
    let seen = scene.until("all is done", |seen| waits(seen) == Some((0, 0)));
    assert_eq!((consumer(&seen).handled, consumer(&seen).in_flight), (6, 0), "{seen:#?}");

    server.kill().unwrap();
    let seen = scene.until("the connection is away", |seen| seen.status != HealthStatus::Up);
    assert!(seen.problem.is_some(), "the groups of a server that is away are not known: {seen:#?}");
    server.restart().unwrap();
    let seen = scene.until("it is up again", |seen| {
        seen.status == HealthStatus::Up && waits(seen) == Some((0, 0))
    });
    assert!(seen.reconnects > 0, "{seen:#?}");
    let before = consumer(&seen).handled;
    scene.publish(&["a", "b"]);
    let seen = scene.until("it goes on", |seen| {
        consumer(seen).handled >= before + 2 && waits(seen) == Some((0, 0))
    });
    assert_eq!((seen.metrics.published, consumer(&seen).dead_lettered), (9, 1), "{seen:#?}");

    let text = seen.to_prometheus();
    let program = finish(at(&server, "count.#", &["count"]).arg("metrics"));
    for (text, line) in [
        (&text, "trunkline_published_total 9"),
        (&text, "trunkline_failed_total{consumer=\"count\"} 3"),
        (&text, "trunkline_retried_total{consumer=\"count\"} 2"),
        (&text, "trunkline_dead_lettered_total{consumer=\"count\"} 1"),
        (&text, "trunkline_in_flight{consumer=\"count\"} 0"),
        // Another process knows what the server knows.
        (&program.ends_with(0).stdout, "trunkline_published_total 0"),
        (&program.stdout, "trunkline_group_lag{group=\"count\"} 0"),
        (&program.stdout, "trunkline_group_members{group=\"count\"} 1"),
    ] {
        assert!(text.lines().any(|known| known == line), "{line} in {text}");
    }
    scene.runtime.block_on(scene.bus.close(PATIENCE)).unwrap();
}
