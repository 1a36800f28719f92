//! A real server behind the proxy, steered from async code.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test where it panics")]

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use trunkline_testing::proxy::{Connections, Direction, Mode, Proxy};
use trunkline_testing::server::{Kind, LiveServer};

const LONG: Duration = Duration::from_secs(10);
/// How long what must not come is looked for.
const SHORT: Duration = Duration::from_millis(100);

async fn ask(stream: &mut TcpStream, command: &str, answer: &str) {
    stream.write_all(command.as_bytes()).await.unwrap();
    hear(stream, answer).await;
}

async fn hear(stream: &mut TcpStream, answer: &str) {
    let mut heard = vec![0; answer.len()];
    timeout(LONG, stream.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&heard), answer);
}

#[tokio::test]
async fn a_server_is_reached_through_the_proxy_and_survives_every_step() {
    let server = LiveServer::start(Kind::Redis).await.unwrap();
    let proxied = server.proxied();
    let proxy = Proxy::start(proxied.listen, proxied.upstream).await.unwrap();
    assert!(proxied.url.contains(&proxy.address().to_string()));

    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    ask(&mut client, "SET key value\r\n", "+OK\r\n").await;
    proxy.set(Direction::ToServer, Mode::Blackhole, Connections::Existing);
    client.write_all(b"PING\r\n").await.unwrap();
    assert!(timeout(SHORT, client.read_u8()).await.is_err());
    proxy.heal();
    hear(&mut client, "+PONG\r\n").await;

    server.pause().await.unwrap();
    client.write_all(b"PING\r\n").await.unwrap();
    assert!(timeout(SHORT, client.read_u8()).await.is_err());
    server.resume().await.unwrap();
    hear(&mut client, "+PONG\r\n").await;

    server.kill().await.unwrap();
    let end = timeout(LONG, client.read_u8()).await.expect("an end").unwrap_err();
    assert!(matches!(end.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{end}");
    server.restart().await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    ask(&mut client, "GET key\r\n", "$5\r\nvalue\r\n").await;
}
