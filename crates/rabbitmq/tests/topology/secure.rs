//! TLS and credentials, on a server of its own.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use trunkline_core::{Broker as _, BrokerExt as _, ErrorKind};
use trunkline_launcher::{Kind, Options, Server};
use trunkline_rabbitmq::{RabbitMqBroker, RabbitMqConfig};

use crate::{SOON, Taker, connect, event, group};

/// Less than the time that `connect` gives a server that does not answer.
const AT_ONCE: Duration = Duration::from_secs(5);

/// An authority that signs certificates for `localhost`.
struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new() -> Self {
        let mut own = CertificateParams::new([]).unwrap();
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = own.self_signed(&key).unwrap().pem();
        Self(Issuer::new(own, key), pem)
    }

    /// Writes a certificate and its key into the folder.
    fn certify(&self, folder: &Path) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        std::fs::write(folder.join("server.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
        std::fs::write(folder.join("ca.pem"), &self.1).unwrap();
    }
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
    let (authority, folder) = (Authority::new(), TempDir::new().unwrap());
    authority.certify(folder.path());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let path = folder.path().to_owned();
    let server = tokio::task::spawn_blocking(move || start(&path, port)).await.unwrap();
    (server, port, authority, folder)
}

/// Fails at once, in words, and without a credential in any of them.
async fn is_refused(config: RabbitMqConfig, word: &str) {
    let begun = Instant::now();
    let error = RabbitMqBroker::connect(config).await.unwrap_err();
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
    let broker = connect(config(&url).with_ca_certificates(&authority.1)).await;
    let mut member = Taker::open(&broker, group("g", "orders")).await;
    for number in 0..10 {
        broker.publish_one(&event("orders", number)).await.unwrap();
        member.take(number).await;
    }
    member.close().await;
    broker.close(SOON).await.unwrap();

    is_refused(config(&url), "ca_file").await;
    let stranger = Authority::new().1;
    is_refused(config(&url).with_ca_certificates(stranger), "ca_file").await;
    let by_address = url.replace("localhost", "127.0.0.1");
    is_refused(config(&by_address).with_ca_certificates(&authority.1), "ca_file").await;
    let wrong = url.replace("guest:guest", "s3cret:wr0ng");
    is_refused(config(&wrong).with_ca_certificates(&authority.1), "user").await;
    let plain = format!("amqp://s3cret:wr0ng@127.0.0.1:{}/%2f", server.port());
    is_refused(config(&plain), "user").await;
}
