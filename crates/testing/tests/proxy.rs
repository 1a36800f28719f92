//! Each mode of the proxy, in front of a server that sends back what it gets.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test where it panics")]

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use trunkline_testing::proxy::{Connections, Direction, Mode, Proxy};

const LONG: Duration = Duration::from_secs(10);
/// How long what must not come is looked for.
const SHORT: Duration = Duration::from_millis(100);

/// A proxy in front of a server that sends back what it gets and then closes as its client did.
async fn proxy() -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await.ok();
                to.shutdown().await.ok();
            });
        }
    });
    Proxy::start("127.0.0.1:0".parse().unwrap(), upstream).await.unwrap()
}

async fn client(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

/// Sends a word and answers how long its echo took.
async fn echo(client: &mut TcpStream, word: &[u8]) -> Duration {
    let start = Instant::now();
    client.write_all(word).await.unwrap();
    let mut back = vec![0; word.len()];
    timeout(LONG, client.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(back, word);
    start.elapsed()
}

async fn nothing_comes(client: &mut TcpStream) {
    let mut byte = [0];
    let came = timeout(SHORT, client.read(&mut byte)).await;
    assert!(came.is_err(), "{came:?}");
}

/// Reads to the end and answers how many bytes came before the connection was reset.
async fn read_to_reset(client: &mut TcpStream) -> usize {
    let mut all = Vec::new();
    let ended = timeout(LONG, client.read_to_end(&mut all)).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    all.len()
}

#[tokio::test]
async fn passes_bytes_and_the_end_of_each_side() {
    let proxy = proxy().await;
    let mut client = client(&proxy).await;
    let sent: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
    let (mut from, mut to) = client.split();
    let (written, read) = tokio::join!(
        async {
            to.write_all(&sent).await?;
            to.shutdown().await
        },
        async {
            let mut back = Vec::new();
            from.read_to_end(&mut back).await.map(|_| back)
        }
    );
    written.unwrap();
    assert!(read.unwrap() == sent);
    assert_eq!((proxy.accepted(), proxy.live() <= 1), (1, true));
}

#[tokio::test]
async fn latency_delays_and_keeps_the_order() {
    let proxy = proxy().await;
    let mut client = client(&proxy).await;
    echo(&mut client, b"there").await;
    let delay = Duration::from_millis(60);
    let jitter = Duration::from_millis(20);
    proxy.set(Direction::Both, Mode::Latency { delay, jitter }, Connections::Existing);
    for word in [b"first".as_slice(), b"second"] {
        let took = echo(&mut client, word).await;
        assert!(took >= delay * 2, "{took:?}");
    }
    // The delay is not a rate: many pieces are on their way at once.
    let start = Instant::now();
    let (mut from, mut to) = client.split();
    let send = async {
        for number in 0..50_u8 {
            to.write_all(&[number]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let mut back = [0; 50];
    let (read, ()) = tokio::join!(from.read_exact(&mut back), send);
    read.unwrap();
    assert!(back.into_iter().eq(0..50));
    assert!(start.elapsed() < delay * 50, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_throttled_direction_keeps_to_its_rate() {
    let proxy = proxy().await;
    let mut client = client(&proxy).await;
    echo(&mut client, b"there").await;
    let slow = Mode::Throttle { bytes_per_second: 1_000 };
    proxy.set(Direction::ToClient, slow, Connections::Existing);
    let throttled = echo(&mut client, &[7; 3_000]).await;
    assert!(throttled >= Duration::from_millis(2_500), "{throttled:?}");
    proxy.heal();
    let healed = echo(&mut client, &[7; 3_000]).await;
    assert!(healed < throttled / 2, "{healed:?} after {throttled:?}");
}

#[tokio::test]
async fn a_black_hole_is_silent_in_one_direction_and_loses_nothing_once_it_is_gone() {
    let proxy = proxy().await;
    let mut old = client(&proxy).await;
    echo(&mut old, b"there").await;
    proxy.set(Direction::ToClient, Mode::Blackhole, Connections::Existing);
    old.write_all(b"anybody?").await.unwrap();
    nothing_comes(&mut old).await;
    let mut new = client(&proxy).await;
    echo(&mut new, b"a new one passes").await;
    proxy.heal();
    let mut back = [0; 8];
    timeout(LONG, old.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"anybody?");
}

#[tokio::test]
async fn a_black_hole_accepts_new_connections_and_hides_that_a_side_has_ended() {
    let proxy = proxy().await;
    proxy.set(Direction::Both, Mode::Blackhole, Connections::New);
    let mut client = client(&proxy).await;
    client.write_all(b"hello").await.unwrap();
    client.shutdown().await.unwrap();
    nothing_comes(&mut client).await;
    assert_eq!(proxy.live(), 1);
    proxy.heal();
    let mut all = Vec::new();
    timeout(LONG, client.read_to_end(&mut all)).await.unwrap().unwrap();
    assert_eq!(all, b"hello");
}

#[tokio::test]
async fn a_cut_after_some_bytes_lets_exactly_those_pass() {
    let proxy = proxy().await;
    let mut old = client(&proxy).await;
    echo(&mut old, b"not counted").await;
    proxy.set(Direction::ToClient, Mode::CutAfter { bytes: 5 }, Connections::All);
    old.write_all(b"0123456789").await.unwrap();
    assert_eq!(read_to_reset(&mut old).await, 5);
    let mut new = client(&proxy).await;
    new.write_all(b"0123456789").await.unwrap();
    assert_eq!(read_to_reset(&mut new).await, 5);
}

#[tokio::test]
async fn a_cut_resets_live_connections_and_serves_new_ones() {
    let proxy = proxy().await;
    let (mut first, mut second) = (client(&proxy).await, client(&proxy).await);
    echo(&mut first, b"1").await;
    echo(&mut second, b"2").await;
    proxy.cut();
    assert_eq!(read_to_reset(&mut first).await, 0);
    assert_eq!(read_to_reset(&mut second).await, 0);
    let mut third = client(&proxy).await;
    echo(&mut third, b"3").await;
    assert_eq!(proxy.accepted(), 3);
}

#[tokio::test]
async fn refuses_new_connections_while_live_ones_go_on() {
    let proxy = proxy().await;
    let mut old = client(&proxy).await;
    echo(&mut old, b"there").await;
    proxy.refuse().await;
    let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    echo(&mut old, b"still there").await;
    proxy.accept().await.unwrap();
    let mut new = client(&proxy).await;
    echo(&mut new, b"back").await;
}

#[tokio::test]
async fn a_server_that_is_not_there_resets_its_clients() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = Proxy::start("127.0.0.1:0".parse().unwrap(), gone).await.unwrap();
    let mut client = client(&proxy).await;
    assert_eq!(read_to_reset(&mut client).await, 0);
}

#[tokio::test]
async fn connections_end_with_the_proxy() {
    let proxy = proxy().await;
    let mut client = client(&proxy).await;
    echo(&mut client, b"there").await;
    let address = proxy.address();
    drop(proxy);
    assert_eq!(read_to_reset(&mut client).await, 0);
    // The listener goes with its task, which the runtime ends at its next turn.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}
