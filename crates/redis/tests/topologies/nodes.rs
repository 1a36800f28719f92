//! Plain `redis-server` processes of this machine, which find each other at fixed ports.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Ends the server once the other end of its input is closed, also when this process is killed.
const OWNER: &str = r#""$@" & child=$!; read -r end; kill -9 $child; wait $child"#;

/// What servers ask for.
pub(crate) const PASSWORD: &str = "hunter2";

/// A server that ends with this, together with its files.
pub(crate) struct Node {
    pub(crate) port: u16,
    /// Whether it asks for no password.
    is_open: bool,
    folder: PathBuf,
    owner: Mutex<Option<Child>>,
}

impl Node {
    /// Starts a server for data that asks for the password.
    pub(crate) async fn start(settings: &str) -> Self {
        let port = free_port();
        let config = format!(
            "{settings}\nappendonly yes\nappendfsync no\nsave \"\"\nmaxmemory-policy noeviction\n\
             repl-diskless-sync-delay 0\nrequirepass {PASSWORD}\nmasterauth {PASSWORD}\n"
        );
        Self::run(port, &config, None).await
    }

    pub(crate) async fn replica_of(primary: &Node) -> Self {
        let replica = Self::start(&format!("replicaof 127.0.0.1 {}\n", primary.port)).await;
        replica.wait_until("the replica follows", "INFO", &["replication"], "link_status:up").await;
        replica
    }

    /// Starts a sentinel that knows the primary as `main`, and waits until it knows a replica.
    pub(crate) async fn sentinel(primary: &Node, settings: &str) -> Self {
        let config = format!(
            "{settings}\nsentinel monitor main 127.0.0.1 {} 1\nsentinel auth-pass main {PASSWORD}\n\
             sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n",
            primary.port
        );
        let sentinel = Self::run(free_port(), &config, Some("--sentinel")).await;
        let known = "num-slaves\", \"1";
        sentinel.wait_until("it knows the replica", "SENTINEL", &["MASTER", "main"], known).await;
        sentinel
    }

    async fn run(port: u16, config: &str, mode: Option<&str>) -> Self {
        let folder =
            std::env::temp_dir().join(format!("trunkline-node-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("redis.conf");
        let ours = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nlogfile server.log\n{config}",
            folder.display()
        );
        std::fs::write(&file, ours).unwrap();
        let server = trunkline_launcher::program("redis-server", "redis-server").unwrap();
        let owner = Command::new("sh")
            .args(["-c", OWNER, "sh"])
            .arg(server)
            .arg(&file)
            .args(mode)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell starts redis-server");
        let node = Self {
            port,
            is_open: !config.contains("requirepass"),
            folder,
            owner: Mutex::new(Some(owner)),
        };
        node.wait_until("it serves", "PING", &[], "PONG").await;
        node
    }

    /// Ends the process at once; what it has not sent to anybody is lost.
    pub(crate) fn kill(&self) {
        let Some(mut owner) = self.owner.lock().unwrap().take() else { return };
        drop(owner.stdin.take());
        owner.wait().unwrap();
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The answer of one command, or the error, as text.
    pub(crate) async fn ask(&self, command: &str, arguments: &[&str]) -> String {
        let login = if self.is_open { String::new() } else { format!(":{PASSWORD}@") };
        let client = redis::Client::open(format!("redis://{login}{}", self.address())).unwrap();
        let mut question = redis::cmd(command);
        question.arg(arguments);
        // The driver's own limits are shorter than a busy machine may take.
        let patient = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(crate::SOON))
            .set_response_timeout(Some(crate::SOON));
        let answer = match client.get_multiplexed_async_connection_with_config(&patient).await {
            Ok(mut connection) => question.query_async::<redis::Value>(&mut connection).await,
            Err(error) => Err(error),
        };
        answer.map_or_else(|error| error.to_string(), |value| text_of(&value))
    }

    /// Asks again and again until the answer holds `wanted`.
    pub(crate) async fn wait_until(
        &self,
        what: &str,
        command: &str,
        arguments: &[&str],
        wanted: &str,
    ) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let answer = self.ask(command, arguments).await;
            if answer.contains(wanted) {
                return;
            }
            let log = || std::fs::read_to_string(self.folder.join("server.log"));
            assert!(Instant::now() < deadline, "{what}: {answer}\n{:?}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        // It is only a folder under the system's own for such.
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

fn text_of(value: &redis::Value) -> String {
    match value {
        redis::Value::Array(values) => {
            format!("{:?}", values.iter().map(text_of).collect::<Vec<_>>()).replace('\\', "")
        }
        value => redis::from_redis_value_ref(value).unwrap_or_else(|_| format!("{value:?}")),
    }
}

/// A port that nobody listens at, below those of the launcher and of outgoing connections.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() * 37 % 4_000).unwrap();
    loop {
        let port = 10_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 4_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
