//! TLS and credentials, on a server of its own.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use trunkline_core::{Broker as _, BrokerExt as _, ErrorKind};
use trunkline_launcher::{Kind, Options, Server};
use trunkline_rabbitmq::{RabbitMqBroker, RabbitMqConfig};
use trunkline_testing::{Authority, Certified};

use crate::{SOON, Taker, connect, event, group};

/// How long `connect` tries a server that does not answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Far less than that, and far more than a busy machine takes for one answer.
const AT_ONCE: Duration = Duration::from_secs(30);

/// Writes a certificate and its key into the folder.
fn certify(authority: &Authority, folder: &Path) {
    let Certified { certificate, key } = authority.certify().unwrap();
    std::fs::write(folder.join("server.pem"), certificate).unwrap();
    std::fs::write(folder.join("server.key"), key).unwrap();
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
}

fn start(folder: &Path, port: u16) -> Server {
    let file = |name: &str| folder.join(name).display().to_string();
    let options = Options::default()
        .native()
        .with_setting("listeners.ssl.local", format!("127.0.0.1:{port}"))
        .with_setting("ssl_options.cacertfile", file("ca.pem"))
        .with_setting("ssl_options.certfile", file("server.pem"))
        .with_setting("ssl_options.keyfile", file("server.key"))
        .with_setting("ssl_options.verify", "verify_none");
    Server::start_with(Kind::RabbitMq, options).unwrap()
}

/// A server with a port for TLS, and who certified it.
async fn secured() -> (Server, u16, Authority, TempDir) {
    let (authority, folder) = (Authority::new().unwrap(), TempDir::new().unwrap());
    certify(&authority, folder.path());
    let port = free_port();
    let path = folder.path().to_owned();
    let server = tokio::task::spawn_blocking(move || start(&path, port)).await.unwrap();
    (server, port, authority, folder)
}

/// A port that nobody listens at, below those of the launcher and of outgoing connections: the system
/// gives it to nobody until the server takes it.
fn free_port() -> u16 {
    let start = u16::try_from(std::process::id() * 37 % 4_000).unwrap();
    let mut ports = (0..4_000).map(|step| 10_000 + (start + step) % 4_000);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

/// Fails at once, in words, and without a credential in any of them.
async fn is_refused(config: RabbitMqConfig, word: &str) {
    let begun = Instant::now();
    let error = RabbitMqBroker::connect(config.with_connect_timeout(PATIENCE)).await.unwrap_err();
    assert!(begun.elapsed() < AT_ONCE, "it was tried again for {:?}", begun.elapsed());
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    assert!(error.to_string().contains(word), "{error}");
    let shown = format!("{error} {error:?} {error:#?}");
    assert!(!shown.contains("s3cret") && !shown.contains("wr0ng"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_used_and_what_is_not_trusted_is_refused_at_once() {
    let (server, port, authority, _folder) = secured().await;
    let url = format!("amqps://guest:guest@localhost:{port}/%2f");
    let config = |url: &str| RabbitMqConfig::new(url).unwrap().with_partitions(1);
    let broker = connect(config(&url).with_ca_certificates(authority.pem())).await;
    let mut member = Taker::open(&broker, group("g", "orders")).await;
    for number in 0..10 {
        broker.publish_one(&event("orders", number)).await.unwrap();
        member.take(number).await;
    }
    member.close().await;
    broker.close(SOON).await.unwrap();

    is_refused(config(&url), "ca_file").await;
    let stranger = Authority::new().unwrap();
    is_refused(config(&url).with_ca_certificates(stranger.pem()), "ca_file").await;
    let by_address = url.replace("localhost", "127.0.0.1");
    is_refused(config(&by_address).with_ca_certificates(authority.pem()), "ca_file").await;
    let wrong = url.replace("guest:guest", "s3cret:wr0ng");
    is_refused(config(&wrong).with_ca_certificates(authority.pem()), "user").await;
    let plain = format!("amqp://s3cret:wr0ng@127.0.0.1:{}/%2f", server.port());
    is_refused(config(&plain), "user").await;
}
