//! What a program in another language writes we read, and what we write it reads: stock Python clients and the
//! CloudEvents SDK on one side, a broker of ours on the other, a real server between them.

#![expect(
    clippy::expect_used,
    reason = "a helper of a test fails the test where it panics, and the text says what was tried"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use trunkline_core::cloudevents::{ContentMode, from_json};
use trunkline_core::{
    Broker, Event, EventId, Group, Pattern, PublishOptions, SubscribeOptions, Subscription,
    SubscriptionExt, Topic,
};
use trunkline_kafka::{KafkaBroker, KafkaConfig};
use trunkline_launcher::{Kind, Server};
use trunkline_rabbitmq::{RabbitMqBroker, RabbitMqConfig};
use trunkline_redis::{RedisBroker, RedisConfig};

/// How long one exchange of all events may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Events of every shape that both sides can say: JSON, text, bytes, no key, unicode, free attributes. The SDK
/// writes a JSON array that is all of an event's data as Python prints it, so arrays lie inside an object here. One names
/// a topic that it is not published on. No Boolean: in binary mode the SDK writes it as Python prints it.
const EVENTS: [&str; 5] = [
    r#"{"specversion":"1.0","id":"a-1","source":"/shop","type":"OrderPlaced","time":"2026-03-01T12:00:00.25Z","datacontenttype":"application/json","partitionkey":"ann","subject":"größe → 大","dataversion":2,"priority":"high","correlationid":"c-1","causationid":"c-0","tenantid":"acme","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","data":{"total":1250,"note":"naïve ☕"}}"#,
    r#"{"specversion":"1.0","id":"a-2","source":"/shop","type":"OrderPlaced","time":"2026-03-01T12:00:01Z","datacontenttype":"application/json","partitionkey":"ann","data":{"list":[1,2.5,null,true]}}"#,
    r#"{"specversion":"1.0","id":"urn:isbn:0451450523","source":"https://example.org/scanner?x=1","type":"Scan","time":"2026-03-01T12:00:02Z","datacontenttype":"application/octet-stream","data_base64":"AAECA/7/gIE="}"#,
    r#"{"specversion":"1.0","id":"a-4","source":"/shop","type":"Note","time":"2026-03-01T12:00:03Z","datacontenttype":"text/plain","partitionkey":"bob","colour":"blue","data":"plain text, ünïcode"}"#,
    r#"{"specversion":"1.0","id":"a-5","source":"/shop","type":"Ping","time":"2026-03-01T12:00:04Z","datacontenttype":"application/json","dataschema":"https://example.org/ping.json","topic":"else.where","retries":-3,"data":{}}"#,
];

#[derive(Clone, Copy)]
struct Backend {
    kind: Kind,
    server: &'static OnceLock<Server>,
}

impl Backend {
    /// The server's address; the first to ask starts it.
    fn url(self) -> String {
        let start = || Server::start(self.kind).expect("the server starts");
        self.server.get_or_init(start).url()
    }

    async fn connect(
        self,
        url: &str,
        mode: ContentMode,
    ) -> trunkline_core::Result<Arc<dyn Broker>> {
        Ok(match self.kind {
            Kind::Redis => {
                Arc::new(RedisBroker::connect(RedisConfig::new(url)?.with_mode(mode)).await?)
            }
            Kind::Kafka => {
                Arc::new(KafkaBroker::connect(KafkaConfig::new(url)?.with_mode(mode)).await?)
            }
            _ => {
                Arc::new(RabbitMqBroker::connect(RabbitMqConfig::new(url)?.with_mode(mode)).await?)
            }
        })
    }

    /// How the foreign program may write events on this broker.
    fn modes(self) -> &'static [&'static str] {
        match self.kind {
            Kind::Redis => &["binary", "structured"],
            Kind::Kafka => &["binary", "structured", "odd"],
            _ => &["binary", "structured", "cloudEvents_", "cloudEvents:"],
        }
    }
}

/// The program of another language, with its clients, in an environment of its own.
struct Foreign {
    python: PathBuf,
    program: PathBuf,
}

impl Foreign {
    fn install() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop");
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop-python");
        let run = |command: &mut Command| {
            let output = command.output().expect("python3 with venv is installed");
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{command:?} failed: {told}");
        };
        run(Command::new("python3").args(["-m", "venv"]).arg(&home));
        let python = home.join("bin/python");
        let requirements = folder.join("requirements.txt");
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
        run(Command::new(&python).args(pip).arg(requirements));
        Self { python, program: folder.join("foreign.py") }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(&self.program).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn write(&self, backend: Backend, url: &str, topic: &Topic, mode: &str, events: &[&str]) {
        let arguments = ["write", &backend.kind.to_string(), url, topic.as_str(), mode];
        let mut writer = self.command(&arguments).spawn().expect("the foreign program starts");
        let mut input = writer.stdin.take().expect("its input is a pipe");
        for event in events {
            writeln!(input, "{event}").expect("the foreign program reads its input");
        }
        drop(input);
        let output = writer.wait_with_output().expect("the foreign program ends");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the foreign program failed: {told}");
    }

    /// A reader that is ready for what is published from now on.
    fn reader(&self, backend: Backend, url: &str, topic: &Topic, mode: &str) -> Reader {
        let (kind, count) = (backend.kind.to_string(), EVENTS.len().to_string());
        let arguments = ["read", &kind, url, topic.as_str(), mode, &count];
        let mut child = self.command(&arguments).spawn().expect("the foreign program starts");
        let output = child.stdout.take().expect("its output is a pipe");
        let mut reader = Reader { child, lines: BufReader::new(output) };
        assert_eq!(reader.line(), "ready");
        reader
    }
}

struct Reader {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Reader {
    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).expect("the foreign program writes text");
        if read == 0 {
            let mut told = String::new();
            if let Some(mut errors) = self.child.stderr.take() {
                std::io::Read::read_to_string(&mut errors, &mut told).expect("its errors are text");
            }
            unreachable!("the foreign program ended early: {told}");
        }
        line.trim_end().to_owned()
    }

    fn events(mut self, topic: &Topic) -> Vec<Event> {
        let read = |line: String| from_json(line.as_bytes(), Some(topic)).expect("an event a line");
        EVENTS.iter().map(|_| read(self.line())).collect()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An event as both sides must see it: attributes by their canonical text, data by meaning.
#[derive(Debug, PartialEq)]
struct Seen {
    attributes: BTreeMap<String, String>,
    data: Meaning,
}

#[derive(Debug, PartialEq)]
enum Meaning {
    Json(serde_json::Value),
    Bytes(Vec<u8>),
}

fn seen(event: &Event) -> Seen {
    let mut attributes = BTreeMap::new();
    event.attributes().visit(|name, value| {
        attributes.insert(name.to_owned(), value.to_text().into_owned());
    });
    let data = event.data().expect("the event has its data");
    let json = event.attributes().content_type().is_none_or(|name| name.contains("json"));
    let data = match serde_json::from_slice(data.as_slice()) {
        Ok(value) if json => Meaning::Json(value),
        _ => Meaning::Bytes(data.as_slice().to_vec()),
    };
    Seen { attributes, data }
}

fn by_id(events: &[Event]) -> BTreeMap<String, Seen> {
    events.iter().map(|event| (event.id().to_string(), seen(event))).collect()
}

fn vectors(topic: &Topic) -> Vec<Event> {
    let read = |text: &&str| {
        let event = from_json(text.as_bytes(), Some(topic)).expect("a sound event");
        let moved = event.amend(|attributes| {
            attributes.set_topic(topic.clone());
            Ok(())
        });
        moved.expect("any event may be on any topic")
    };
    EVENTS.iter().map(read).collect()
}

fn new_topic() -> Topic {
    Topic::new(format!("interop.t-{}", EventId::generate())).expect("a sound topic")
}

async fn subscribe(broker: &Arc<dyn Broker>, topic: &Topic) -> Box<dyn Subscription> {
    let group = Group::new(format!("interop-{}", EventId::generate())).expect("a sound group");
    let options = SubscribeOptions::group(group, [Pattern::from(topic.clone())]);
    broker.subscribe(options).await.expect("the group is joined")
}

/// Takes all events; the first goes round once more, and so is written again by us.
async fn take(subscription: &mut Box<dyn Subscription>, topic: &Topic) -> Vec<Event> {
    let mut events = Vec::new();
    let mut is_retried = false;
    while events.len() < EVENTS.len() {
        let delivery = subscription.next().await.expect("it lives").expect("it goes on");
        assert!(delivery.defect().is_none(), "no event: {:?}", delivery.defect());
        assert_eq!(delivery.event().topic(), topic, "where it was published is where it stands");
        if !is_retried {
            is_retried = true;
            delivery.retry(Duration::from_millis(10), 1).await.expect("it is put off");
            continue;
        }
        events.push(delivery.event().clone());
        delivery.ack().await.expect("the event is acknowledged");
    }
    events
}

async fn we_read(backend: Backend, foreign: Arc<Foreign>, mode: &'static str) {
    let (url, topic) = prepare(backend).await;
    let broker = backend.connect(&url, ContentMode::Binary).await.expect("the broker connects");
    let mut subscription = subscribe(&broker, &topic).await;
    let (address, place) = (url.clone(), topic.clone());
    tokio::task::spawn_blocking(move || foreign.write(backend, &address, &place, mode, &EVENTS))
        .await
        .expect("the foreign program writes");
    let events = take(&mut subscription, &topic).await;
    assert_eq!(by_id(&events), by_id(&vectors(&topic)));
    subscription.close(LIMIT).await.expect("the member leaves");
    broker.close(LIMIT).await.expect("the broker closes");
}

async fn they_read(backend: Backend, foreign: Arc<Foreign>, mode: ContentMode) {
    let (url, topic) = prepare(backend).await;
    let broker = backend.connect(&url, mode).await.expect("the broker connects");
    let mut subscription = subscribe(&broker, &topic).await;
    let events = vectors(&topic);
    let place = topic.clone();
    let reader =
        tokio::task::spawn_blocking(move || foreign.reader(backend, &url, &place, name_of(mode)))
            .await
            .expect("the foreign program reads");
    let published = broker.publish(&events, &PublishOptions::default()).await;
    published.into_result().expect("every event is accepted");
    let place = topic.clone();
    let read = tokio::task::spawn_blocking(move || reader.events(&place))
        .await
        .expect("the foreign program reads");
    assert_eq!(by_id(&read), by_id(&events));
    assert_eq!(by_id(&take(&mut subscription, &topic).await), by_id(&events), "so do we");
    subscription.close(LIMIT).await.expect("the member leaves");
    broker.close(LIMIT).await.expect("the broker closes");
}

fn name_of(mode: ContentMode) -> &'static str {
    match mode {
        ContentMode::Binary => "binary",
        ContentMode::Structured => "structured",
    }
}

async fn prepare(backend: Backend) -> (String, Topic) {
    let url = tokio::task::spawn_blocking(move || backend.url()).await.expect("the server starts");
    (url, new_topic())
}

fn within_limit(check: impl Future<Output = ()>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the runtime starts");
    let ended = runtime.block_on(async { tokio::time::timeout(LIMIT, check).await });
    runtime.shutdown_background();
    ended.map_err(|_late| Failed::from(format!("it has not ended after {LIMIT:?}")))
}

fn main() -> ExitCode {
    static SERVERS: [OnceLock<Server>; 3] = [const { OnceLock::new() }; 3];
    let arguments = Arguments::from_args();
    let foreign = Arc::new(OnceLock::new());
    let mut trials = Vec::new();
    for (kind, server) in [Kind::Redis, Kind::Kafka, Kind::RabbitMq].into_iter().zip(&SERVERS) {
        let backend = Backend { kind, server };
        let installed = |cell: &OnceLock<Arc<Foreign>>| {
            Arc::clone(cell.get_or_init(|| Arc::new(Foreign::install())))
        };
        for &mode in backend.modes() {
            let cell = Arc::clone(&foreign);
            let name =
                format!("{kind}/interop/we_read_what_a_foreign_program_writes_in_{mode}_mode");
            trials.push(Trial::test(name, move || {
                within_limit(we_read(backend, installed(&cell), mode))
            }));
        }
        for mode in [ContentMode::Binary, ContentMode::Structured] {
            let cell = Arc::clone(&foreign);
            let how = name_of(mode);
            let name =
                format!("{kind}/interop/a_foreign_program_reads_what_we_write_in_{how}_mode");
            trials.push(Trial::test(name, move || {
                within_limit(they_read(backend, installed(&cell), mode))
            }));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
