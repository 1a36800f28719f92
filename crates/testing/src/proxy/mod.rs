//! A TCP proxy that misbehaves on demand: latency, low rates, half-open connections, cuts.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use trunkline_testing::proxy::{Connections, Direction, Mode, Proxy};
//! use trunkline_testing::server::{Kind, LiveServer};
//!
//! let server = LiveServer::start(Kind::Redis).await?;
//! let proxied = server.proxied();
//! let proxy = Proxy::start(proxied.listen, proxied.upstream).await?;
//! // … a client at `proxied.url` …
//! proxy.set(Direction::ToClient, Mode::Blackhole, Connections::Existing);
//! proxy.heal();
//! proxy.cut();
//! # Ok(())
//! # }
//! ```
//!
//! Every change holds from the next byte on. It neither loses nor adds bytes of a connection that goes on.

mod carry;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::JoinSet;

/// What happens to the bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They pass at once.
    #[default]
    Pass,
    /// They arrive this much later, in order; the rate stays.
    Latency {
        /// The least delay.
        delay: Duration,
        /// How much more it is at most, another amount for each read.
        jitter: Duration,
    },
    /// At most this many bytes per second pass.
    Throttle {
        /// At least 1.
        bytes_per_second: u32,
    },
    /// Nothing passes, the end of the connection included: half-open, as when packets vanish.
    ///
    /// What was sent meanwhile passes once the mode changes, as packets that are sent again do.
    Blackhole,
    /// This many bytes pass from now on, then the connection is reset: most often in the middle of a frame.
    CutAfter {
        /// May be 0.
        bytes: u64,
    },
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From clients to the server.
    ToServer,
    /// From the server to clients.
    ToClient,
    /// Both ways.
    Both,
}

/// Which connections a mode is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// Those that are there now.
    Existing,
    /// Those that come later.
    New,
    /// All of them.
    All,
}

/// The modes of one connection.
#[derive(Clone, Copy, Debug, Default)]
struct Modes {
    to_server: Mode,
    to_client: Mode,
    cut: bool,
}

/// A TCP proxy in front of one server; connections through it end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    upstream: SocketAddr,
    state: Arc<Mutex<State>>,
    /// None while connections are refused.
    acceptor: AsyncMutex<Option<JoinSet<()>>>,
}

#[derive(Debug, Default)]
struct State {
    /// For connections that come later.
    next: Modes,
    accepted: u64,
    live: HashMap<u64, watch::Sender<Modes>>,
}

impl Proxy {
    /// Listens, and connects each client to `upstream`.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on.
    pub async fn start(listen: SocketAddr, upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let state = Arc::default();
        let acceptor = AsyncMutex::new(Some(acceptor(listener, upstream, &state)));
        Ok(Self { address, upstream, state, acceptor })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what happens to bytes.
    pub fn set(&self, direction: Direction, mode: Mode, connections: Connections) {
        let change = |modes: &mut Modes| {
            if direction != Direction::ToClient {
                modes.to_server = mode;
            }
            if direction != Direction::ToServer {
                modes.to_client = mode;
            }
        };
        let mut state = lock(&self.state);
        if connections != Connections::Existing {
            change(&mut state.next);
        }
        if connections != Connections::New {
            for modes in state.live.values() {
                modes.send_modify(change);
            }
        }
    }

    /// Lets everything pass again, on all connections.
    pub fn heal(&self) {
        self.set(Direction::Both, Mode::Pass, Connections::All);
    }

    /// Resets all live connections, on both sides; new ones are served.
    pub fn cut(&self) {
        for modes in lock(&self.state).live.values() {
            modes.send_modify(|modes| modes.cut = true);
        }
    }

    /// Closes the listener: who connects now is refused. Live connections go on.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the listener is closed or about to be.
    pub async fn refuse(&self) {
        if let Some(mut acceptor) = self.acceptor.lock().await.take() {
            acceptor.shutdown().await;
        }
    }

    /// Listens again after [`Proxy::refuse`].
    ///
    /// # Errors
    ///
    /// Another program has taken the address meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, connections are still refused.
    pub async fn accept(&self) -> io::Result<()> {
        let mut slot = self.acceptor.lock().await;
        if slot.is_none() {
            let listener = TcpListener::bind(self.address).await?;
            *slot = Some(acceptor(listener, self.upstream, &self.state));
        }
        Ok(())
    }

    /// How many connections there are now.
    #[must_use]
    pub fn live(&self) -> usize {
        lock(&self.state).live.len()
    }

    /// How many connections were accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        lock(&self.state).accepted
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // A connection task ends when its modes are gone.
        lock(&self.state).live.clear();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A task that accepts until the set is dropped.
fn acceptor(listener: TcpListener, upstream: SocketAddr, state: &Arc<Mutex<State>>) -> JoinSet<()> {
    let state = Arc::clone(state);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            match listener.accept().await {
                Ok((client, _)) => admit(client, upstream, &state),
                // Too many open files, or a client that left at once: neither is the end of the proxy.
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    });
    tasks
}

/// Starts the task of one connection, which outlives the listener.
fn admit(client: TcpStream, upstream: SocketAddr, state: &Arc<Mutex<State>>) {
    let (number, modes) = {
        let mut state = lock(state);
        state.accepted += 1;
        let (sender, modes) = watch::channel(state.next);
        let number = state.accepted;
        state.live.insert(number, sender);
        (number, modes)
    };
    let state = Arc::clone(state);
    tokio::spawn(async move {
        carry::connection(client, upstream, modes, number).await;
        lock(&state).live.remove(&number);
    });
}
