//! TLS and SASL against a real server.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use tokio::time::timeout;
use trunkline_core::{
    Broker as _, BrokerExt as _, Data, Error, ErrorKind, Event, EventId, Group, HealthStatus,
    Pattern, SubscribeOptions, SubscriptionExt as _, Topic,
};
use trunkline_kafka::{KafkaBroker, KafkaConfig};
use trunkline_launcher::{Kind, Options, Server};

/// One server for most of them; it ends with the test binary.
static SECURED: LazyLock<Secured> = LazyLock::new(|| Secured::start(Ports::free(), PASSWORD));

const USER: &str = "alice";
const PASSWORD: &str = "correct-horse";
const WRONG: &str = "battery-staple";
/// Longer than anything here needs.
const SOON: Duration = Duration::from_secs(20);

/// What the server listens on: without security, with TLS, with a login, with both, and for itself.
#[derive(Clone, Copy)]
struct Ports {
    plain: u16,
    tls: u16,
    login: u16,
    both: u16,
    controller: u16,
}

impl Ports {
    /// Ports below those that launchers and the system hand out.
    fn free() -> Self {
        static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
            AtomicU16::new(10_000 + u16::try_from(std::process::id() % 4_000).unwrap())
        });
        let next = || loop {
            let port = NEXT.fetch_add(1, Ordering::Relaxed);
            assert!(port < 15_000, "no port is free");
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return port;
            }
        };
        Self { plain: next(), tls: next(), login: next(), both: next(), controller: next() }
    }
}

struct Secured {
    ports: Ports,
    _server: Server,
}

impl Secured {
    fn start(ports: Ports, password: &str) -> Self {
        let address = |name: &str, port: u16| format!("{name}://127.0.0.1:{port}");
        let advertised = [
            address("PLAIN", ports.plain),
            address("TLS", ports.tls),
            address("LOGIN", ports.login),
            address("BOTH", ports.both),
        ]
        .join(",");
        let users = format!(
            "org.apache.kafka.common.security.plain.PlainLoginModule required \
             user_{USER}=\"{password}\";"
        );
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
        let protocols =
            "PLAIN:PLAINTEXT,TLS:SSL,LOGIN:SASL_PLAINTEXT,BOTH:SASL_SSL,CONTROLLER:PLAINTEXT";
        let options = Options::default()
            .native()
            .with_port(ports.plain)
            .with_setting("--add-scram", format!("SCRAM-SHA-256=[name={USER},password={password}]"))
            .with_setting(
                "listeners",
                format!("{advertised},{}", address("CONTROLLER", ports.controller)),
            )
            .with_setting("advertised.listeners", advertised)
            .with_setting("listener.security.protocol.map", protocols)
            .with_setting("controller.quorum.voters", format!("1@127.0.0.1:{}", ports.controller))
            .with_setting("ssl.keystore.type", "PKCS12")
            .with_setting("ssl.keystore.location", CERTIFICATES.path("server.p12"))
            .with_setting("ssl.keystore.password", STORE_PASSWORD)
            .with_setting("listener.name.login.sasl.enabled.mechanisms", "PLAIN")
            .with_setting("listener.name.login.plain.sasl.jaas.config", users.as_str())
            .with_setting("listener.name.both.sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256")
            .with_setting("listener.name.both.plain.sasl.jaas.config", users.as_str())
            .with_setting("listener.name.both.scram-sha-256.sasl.jaas.config", scram);
        let server = Server::start_with(Kind::Kafka, options).unwrap();
        Self { ports, _server: server }
    }

    fn config(&self, port: u16, properties: &[(&str, &str)]) -> KafkaConfig {
        let config = KafkaConfig::new(&format!("kafka://127.0.0.1:{port}")).unwrap();
        let config = config
            .with_prefix(format!("{}.", EventId::generate()))
            .unwrap()
            .with_partitions(1)
            .with_replication(1);
        properties
            .iter()
            .fold(config, |config, (name, value)| config.with_property(*name, *value).unwrap())
    }

    fn tls(&self, authority: &str) -> KafkaConfig {
        let authority = CERTIFICATES.path(authority);
        let properties = [("security.protocol", "ssl"), ("ssl.ca.location", authority.as_str())];
        self.config(self.ports.tls, &properties)
    }

    fn login(&self, password: &str) -> KafkaConfig {
        let properties = [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", USER),
            ("sasl.password", password),
        ];
        self.config(self.ports.login, &properties)
    }

    fn both(&self, mechanism: &str, password: &str) -> KafkaConfig {
        let authority = CERTIFICATES.path("server.pem");
        let properties = [
            ("security.protocol", "sasl_ssl"),
            ("ssl.ca.location", authority.as_str()),
            ("sasl.mechanism", mechanism),
            ("sasl.username", USER),
            ("sasl.password", password),
        ];
        self.config(self.ports.both, &properties)
    }
}

const STORE_PASSWORD: &str = "of-the-key-store";

/// A key store and a certificate of the server, and those of another authority, in a folder of their own.
struct Certificates(PathBuf);

static CERTIFICATES: LazyLock<Certificates> = LazyLock::new(|| {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = home.join("kafka-certificates");
    if !folder.is_dir() {
        let partial = home.join(format!("kafka-certificates-{}", std::process::id()));
        std::fs::create_dir_all(&partial).unwrap();
        ["server", "stranger"].iter().for_each(|name| make_certificate(&partial, name));
        // Another run may have been faster: its are as good.
        if std::fs::rename(&partial, &folder).is_err() {
            std::fs::remove_dir_all(&partial).unwrap();
        }
    }
    Certificates(folder)
});

impl Certificates {
    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

/// Makes a key whose certificate is its own authority, for 127.0.0.1.
fn make_certificate(folder: &Path, name: &str) {
    let store = folder.join(format!("{name}.p12")).display().to_string();
    let certificate = folder.join(format!("{name}.pem")).display().to_string();
    let common = ["-alias", name, "-keystore", &store, "-storepass", STORE_PASSWORD];
    let dname = format!("CN={name}");
    let made = ["-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1", "-validity", "36500"];
    let about = ["-storetype", "PKCS12", "-ext", "SAN=ip:127.0.0.1", "-dname", &dname];
    keytool(&[&made[..], &about, &common].concat());
    keytool(&[&["-exportcert", "-rfc", "-file", &certificate][..], &common].concat());
}

fn keytool(arguments: &[&str]) {
    // It comes with the Java that runs Kafka.
    let output = Command::new("keytool").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

async fn publish_and_consume(config: KafkaConfig) {
    let broker = KafkaBroker::connect(config).await.unwrap();
    let topic = Topic::from_static("orders");
    let group = SubscribeOptions::group(Group::from_static("g"), [Pattern::from(topic.clone())]);
    let mut member = broker.subscribe(group).await.unwrap();
    let event = Event::from_data("t", topic, Data::json("1".to_owned())).key("k").build().unwrap();
    broker.publish_one(&event).await.unwrap();
    let delivery = timeout(SOON, member.next()).await.expect("a delivery comes soon");
    let delivery = delivery.unwrap().expect("the subscription goes on");
    assert_eq!(delivery.event().id(), event.id());
    delivery.ack().await.map_err(|unsettled| unsettled.error).unwrap();
    assert_eq!(broker.health().await.status, HealthStatus::Up);
    broker.close(SOON).await.unwrap();
}

/// Connecting fails, soon, and for good; gives all that is said about it.
async fn turned_away(config: KafkaConfig) -> String {
    let begun = Instant::now();
    let shown = format!("{config:?}");
    let error = KafkaBroker::connect(config).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let said = format!("{shown} {error:?} {}", chain(&error));
    for secret in [PASSWORD, WRONG] {
        assert!(!said.contains(secret), "{said}");
    }
    said
}

fn chain(error: &Error) -> String {
    let mut said = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        said = format!("{said}: {cause}");
        source = cause.source();
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn events_travel_over_tls_and_every_login() {
    publish_and_consume(SECURED.tls("server.pem")).await;
    publish_and_consume(SECURED.login(PASSWORD)).await;
    publish_and_consume(SECURED.both("PLAIN", PASSWORD)).await;
    publish_and_consume(SECURED.both("SCRAM-SHA-256", PASSWORD)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_a_config_error_that_says_what_to_check_and_shows_no_credential() {
    let configs =
        [SECURED.login(WRONG), SECURED.both("PLAIN", WRONG), SECURED.both("SCRAM-SHA-256", WRONG)];
    for config in configs {
        let said = turned_away(config).await;
        assert!(said.contains("sasl.password"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mechanism_that_the_server_lacks_is_a_config_error() {
    let config = SECURED.both("SCRAM-SHA-512", PASSWORD);
    let said = turned_away(config).await;
    assert!(said.contains("sasl.mechanism"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_authority_is_a_config_error_that_names_the_setting() {
    let said = turned_away(SECURED.tls("stranger.pem")).await;
    assert!(said.contains("ssl.ca.location"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_when_the_login_is_refused_later_and_when_it_is_taken_again() {
    let ports = Ports::free();
    let first = Secured::start(ports, PASSWORD);
    let broker = KafkaBroker::connect(first.login(PASSWORD)).await.unwrap();
    drop(first);
    let other = Secured::start(ports, WRONG);
    let reason = wait_for(&broker, HealthStatus::Down, "sasl.password").await;
    assert!(!reason.contains(PASSWORD) && !reason.contains(WRONG), "{reason}");
    drop(other);
    let _again = Secured::start(ports, PASSWORD);
    wait_for(&broker, HealthStatus::Up, "").await;
    broker.close(SOON).await.unwrap();
}

/// Waits until health has a status and says something; gives all that it says.
async fn wait_for(broker: &KafkaBroker, status: HealthStatus, part: &str) -> String {
    let deadline = Instant::now() + SOON;
    loop {
        let health = broker.health().await;
        let said = format!("{health:?}");
        if health.status == status && said.contains(part) {
            return said;
        }
        assert!(Instant::now() < deadline, "not {status:?} with `{part}`: {said}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
