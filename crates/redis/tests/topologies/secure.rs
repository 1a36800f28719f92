//! A server that asks for TLS and an account: its certificate, the account and the database are all in use.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use trunkline_core::{Broker as _, BrokerExt as _, ErrorKind, Health};
use trunkline_redis::{RedisBroker, RedisConfig};
use trunkline_testing::{Authority, Certified};

use crate::nodes::{Node, PASSWORD, free_port};
use crate::{config, event, round_trip, subscribe};

/// Writes a certificate and its key into the folder; returns what makes a server use them.
fn certify(authority: &Authority, folder: &Path) -> String {
    let Certified { certificate, key } = authority.certify().unwrap();
    let write = |name: &str, pem: &str| -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    std::fs::create_dir_all(folder).unwrap();
    format!(
        "tls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients no\n",
        write("server.pem", &certificate).display(),
        write("server.key", &key).display(),
        write("authority.pem", authority.pem()).display(),
    )
}

/// A server with an account `ann`, its port for TLS, and who certified it.
async fn secured() -> (Node, u16, Authority) {
    let (authority, port) = (Authority::new().unwrap(), free_port());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("redis-tls-{port}"));
    let certified = certify(&authority, &folder);
    let account = "user ann on >s3cret ~* &* +@all\n";
    let node = Node::start(&format!("tls-port {port}\n{certified}{account}")).await;
    // It has read them.
    std::fs::remove_dir_all(&folder).unwrap();
    (node, port, authority)
}

async fn keys(node: &Node, database: u8) -> usize {
    let url = format!("redis://:{PASSWORD}@{}/{database}", node.address());
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("DBSIZE").query_async(&mut connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_an_account_and_a_database_are_used_also_after_a_reconnect() {
    let (node, port, authority) = secured().await;
    let url = format!("rediss://ann:s3cret@localhost:{port}/3");
    let trusting = config(&url).with_ca_certificates(authority.pem()).unwrap();
    let broker = RedisBroker::connect(trusting).await.unwrap();
    round_trip(&broker).await;
    assert_eq!(keys(&node, 0).await, 0, "nothing is outside the database of the URL");
    assert!(keys(&node, 3).await > 10);
    let clients = node.ask("CLIENT", &["LIST"]).await;
    assert!(clients.contains("user=ann") && clients.contains("db=3"), "{clients}");

    let mut group = subscribe(&broker).await;
    node.ask("CLIENT", &["KILL", "USER", "ann"]).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    // What a connection that ends leaves open may have arrived: the same event is published again.
    while let Err(error) = broker.publish_one(&event(1_000)).await {
        assert!(Instant::now() < deadline, "{error}");
    }
    group.take([1_000]).await;
    let health: Health = broker.health().await;
    assert!(health.reconnects > 0, "{health:?}");
    assert_eq!(keys(&node, 0).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_trusted_and_who_is_refused_are_errors_that_show_no_credential() {
    let (_node, port, authority) = secured().await;
    let (host, address) = (format!("localhost:{port}"), format!("127.0.0.1:{port}"));
    let by = |url: &str| config(url).with_connect_timeout(Duration::from_secs(60));
    let trusting = |url: &str| by(url).with_ca_certificates(authority.pem()).unwrap();
    let stranger = Authority::new().unwrap();
    for (config, text) in [
        // The usual roots do not know the authority, nor does another one.
        (by(&format!("rediss://ann:s3cret@{host}")), "`ca_file`"),
        (
            by(&format!("rediss://ann:s3cret@{host}"))
                .with_ca_certificates(stranger.pem())
                .unwrap(),
            "`ca_file`",
        ),
        // Its certificate is for another name.
        (trusting(&format!("rediss://ann:s3cret@{address}")), "the name that stands in it"),
        (trusting(&format!("rediss://ann:hunter3@{host}")), "the password of the URL"),
        (trusting(&format!("rediss://s3cret-bob:s3cret@{host}")), "the password of the URL"),
        (trusting(&format!("rediss://{host}")), "the password of the URL"),
    ] {
        let begun = Instant::now();
        let error = RedisBroker::connect(config).await.unwrap_err();
        // Nothing that waiting could mend is waited for.
        assert!(begun.elapsed() < Duration::from_secs(30), "{error}");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        let shown = format!("{error} {error:?} {error:#?}");
        assert!(shown.contains(text), "{shown}");
        assert!(!shown.contains("s3cret") && !shown.contains("hunter"), "{shown}");
    }
}

#[test]
fn certificates_to_trust_need_a_url_with_tls_and_sound_text() {
    let authority = Authority::new().unwrap();
    let pem = authority.pem();
    let trust = |url: &str, pem: &str| RedisConfig::new(url).unwrap().with_ca_certificates(pem);
    assert!(trust("rediss+cluster://a,b", pem).is_ok());
    let broken = "-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n";
    for (url, pem) in
        [("redis://ann:hunter2@a", pem), ("rediss://ann:hunter2@a", ""), ("rediss://a", broken)]
    {
        let error = trust(url, pem).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}
