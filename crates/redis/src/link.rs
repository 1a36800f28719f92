//! Connections to the server that are made again whenever they are lost.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, Value};
use smol_str::SmolStr;
use trunkline_core::Result;

use crate::config::RedisConfig;
use crate::error::{Remedy, from_driver, remedy, remedy_of_code};
use crate::resolve::{self, Target};
use crate::{lock, scripts};

/// The first wait before another attempt, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// So many time-outs in a row, and the connection is taken for dead: an answer may be late once.
const TIMEOUTS: u32 = 2;

/// How the connections of a broker are, for its health.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    /// How often a lost connection was made again.
    pub(crate) reconnects: AtomicU64,
    /// Whether the last attempt to reach the server failed.
    pub(crate) is_away: AtomicBool,
    /// Acknowledgements that were refused, because another member owned the partition.
    pub(crate) fenced: AtomicU64,
    /// Pending events that were gone from their stream when they were taken over.
    pub(crate) lost: AtomicU64,
}

/// One connection that is made again whenever it is lost; shared by everyone who has this.
pub(crate) struct Link {
    target: Target,
    /// Some key of the deployment: in a cluster all are where this one is.
    key: SmolStr,
    connect_timeout: Duration,
    response_timeout: Duration,
    vitals: Arc<Vitals>,
    current: Mutex<Option<Connection>>,
    connecting: tokio::sync::Mutex<Attempts>,
    timeouts: AtomicU32,
    client_id: AtomicI64,
}

#[derive(Clone)]
struct Connection {
    generation: u64,
    inner: MultiplexedConnection,
}

#[derive(Debug, Default)]
struct Attempts {
    /// Failed ones since the last that succeeded.
    failed: u32,
    generation: u64,
}

impl Link {
    pub(crate) fn new(
        config: &RedisConfig,
        response_timeout: Duration,
        vitals: &Arc<Vitals>,
    ) -> Self {
        install_tls();
        Self {
            target: config.target.clone(),
            key: config.physical_prefix(),
            connect_timeout: config.connect_timeout.min(Duration::from_secs(5)),
            response_timeout,
            vitals: Arc::clone(vitals),
            current: Mutex::new(None),
            connecting: tokio::sync::Mutex::default(),
            timeouts: AtomicU32::new(0),
            client_id: AtomicI64::new(0),
        }
    }

    /// Runs a pipeline once; an answer that is an error stands among the values.
    pub(crate) async fn run(&self, pipe: &Pipeline) -> std::result::Result<Vec<Value>, RedisError> {
        self.send(pipe).await.map_err(|failed| failed.error)
    }

    /// The connection itself, for what depends on staying with the same one.
    pub(crate) async fn pin(&self) -> std::result::Result<Pinned, RedisError> {
        self.connection().await.map(Pinned)
    }

    /// Runs a pipeline on that connection and no other.
    pub(crate) async fn send_on(
        &self,
        pinned: &mut Pinned,
        pipe: &Pipeline,
    ) -> std::result::Result<Vec<Value>, RedisError> {
        let Connection { inner, generation } = &mut pinned.0;
        let answer = inner.send_packed_commands(pipe, 0, pipe.len()).await;
        self.examine(*generation, &answer);
        answer
    }

    /// As [`Link::run`], and tells whether the server may have got what failed.
    pub(crate) async fn send(&self, pipe: &Pipeline) -> std::result::Result<Vec<Value>, Failed> {
        let connection = self.connection().await;
        let mut connection = connection.map_err(|error| Failed { error, sent: false })?;
        let answer = connection.inner.send_packed_commands(pipe, 0, pipe.len()).await;
        self.examine(connection.generation, &answer);
        answer.map_err(|error| Failed { error, sent: true })
    }

    /// Runs one command once.
    pub(crate) async fn one(&self, operation: &'static str, command: Cmd) -> Result<Value> {
        let mut pipe = Pipeline::with_capacity(1);
        pipe.add_command(command);
        let values = self.run(&pipe).await.map_err(|e| from_driver(operation, e, true))?;
        let value = values.into_iter().next().unwrap_or(Value::Nil);
        value.extract_error().map_err(|e| from_driver(operation, e, false))
    }

    /// Runs commands once; the first answer that is an error fails the call.
    pub(crate) async fn all(&self, operation: &'static str, pipe: &Pipeline) -> Result<Vec<Value>> {
        if pipe.is_empty() {
            return Ok(Vec::new());
        }
        let values = self.run(pipe).await.map_err(|e| from_driver(operation, e, true))?;
        let checked = values.into_iter().map(Value::extract_error);
        checked.collect::<std::result::Result<_, _>>().map_err(|e| from_driver(operation, e, false))
    }

    fn examine(&self, generation: u64, answer: &std::result::Result<Vec<Value>, RedisError>) {
        let is_dead = match answer {
            Ok(values) => {
                self.timeouts.store(0, Ordering::Relaxed);
                values.iter().any(is_for_later)
            }
            Err(error) => match remedy(error) {
                Remedy::TimedOut => self.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS,
                Remedy::Reconnect | Remedy::Later => true,
                Remedy::NoGroup | Remedy::Fail => false,
            },
        };
        if is_dead {
            let mut current = lock(&self.current);
            if current.as_ref().is_some_and(|known| known.generation == generation) {
                *current = None;
            }
        }
    }

    async fn connection(&self) -> std::result::Result<Connection, RedisError> {
        if let Some(connection) = lock(&self.current).clone() {
            return Ok(connection);
        }
        let mut attempts = self.connecting.lock().await;
        // Another caller may have connected while this one waited for its turn.
        if let Some(connection) = lock(&self.current).clone() {
            return Ok(connection);
        }
        if attempts.failed > 0 {
            tokio::time::sleep(backoff(attempts.failed)).await;
        }
        match self.connect().await {
            Ok(inner) => {
                if attempts.generation > 0 {
                    self.vitals.reconnects.fetch_add(1, Ordering::Relaxed);
                }
                self.vitals.is_away.store(false, Ordering::Relaxed);
                self.timeouts.store(0, Ordering::Relaxed);
                attempts.failed = 0;
                attempts.generation += 1;
                let connection = Connection { generation: attempts.generation, inner };
                *lock(&self.current) = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                self.vitals.is_away.store(true, Ordering::Relaxed);
                attempts.failed += 1;
                Err(error)
            }
        }
    }

    async fn connect(&self) -> std::result::Result<MultiplexedConnection, RedisError> {
        let primary = self.target.primary(&self.key).await?;
        let client = Client::open(primary.set_tcp_settings(tcp_settings(self.response_timeout)))?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(self.response_timeout))
            // The default of 50 makes callers wait for each other.
            .set_pipeline_buffer_size(2_000);
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut setup = scripts::load_all();
        setup.cmd("CLIENT").arg("ID");
        self.target.add_check(&mut setup, &self.key);
        let answers = connection.send_packed_commands(&setup, 0, setup.len()).await?;
        for answer in answers {
            let answer = answer.extract_error()?;
            resolve::check(&answer)?;
            if let Value::Int(id) = answer {
                self.client_id.store(id, Ordering::Relaxed);
            }
        }
        Ok(connection)
    }

    /// The number by which the server knows the connection, once there is one.
    pub(crate) fn client_id(&self) -> Option<i64> {
        Some(self.client_id.load(Ordering::Relaxed)).filter(|id| *id > 0)
    }
}

/// One connection, which is not made again.
pub(crate) struct Pinned(Connection);

/// A pipeline that was not answered.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: RedisError,
    /// Whether the server may have got it.
    pub(crate) sent: bool,
}

/// Whether the server answered that it cannot serve this now.
pub(crate) fn is_for_later(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if remedy_of_code(error.code()) == Remedy::Later)
}

/// A wait that doubles with each attempt up to a limit, less a random part so that many clients do
/// not come at once.
pub(crate) fn backoff(attempt: u32) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << attempt.min(10));
    let longest = doubled.min(LONGEST_WAIT);
    longest.mul_f64(0.5 + 0.5 * random_fraction())
}

/// A random number from 0 up to 1.
pub(crate) fn random_fraction() -> f64 {
    f64::from(random() >> 16) / f64::from(u32::MAX >> 16)
}

/// 32 random bits; the standard library seeds each of its hashers with some.
pub(crate) fn random() -> u32 {
    let bits = RandomState::new().hash_one(0_u8);
    u32::try_from(bits >> 32).unwrap_or_default()
}

/// A dead peer is noticed by the kernel too.
fn tcp_settings(response_timeout: Duration) -> TcpSettings {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(5));
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(response_timeout * 2);
    settings
}

/// The driver panics at its first TLS connection where the process has chosen no provider.
fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error says that the program has chosen one before, which is as good.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    });
}
