//! A server in a container, for machines where a docker engine answers.

use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::error::{LaunchError, Result};
use crate::jars;
use crate::kind::Kind;
use crate::native::{LOOK_EVERY, START_LIMIT, Silence, serving};
use crate::options::Options;
use crate::ports::Ports;
use crate::recipe;

/// How long the engine may think about whether it is there.
const ENGINE_LIMIT: Duration = Duration::from_secs(10);

/// Removes a container once its input ends, which it also does when the process at the other end is killed.
const KEEPER: &str = r#"read -r word || docker rm --force --volumes "$1" >/dev/null 2>&1"#;

/// Whether servers run in containers, as `TRUNKLINE_LAUNCHER` says or because an engine answers.
pub(crate) fn wanted() -> Result<bool> {
    static ANSWERS: OnceLock<bool> = OnceLock::new();
    match std::env::var("TRUNKLINE_LAUNCHER").as_deref() {
        Ok("native") => Ok(false),
        Ok("docker") => Ok(true),
        Ok("") | Err(_) => Ok(*ANSWERS.get_or_init(engine_answers)),
        Ok(other) => Err(LaunchError::new(format!(
            "TRUNKLINE_LAUNCHER is `{other}`; it may be native or docker"
        ))),
    }
}

fn engine_answers() -> bool {
    let mut info = Command::new("docker");
    info.args(["info", "--format", "{{.ServerVersion}}"]);
    info.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = info.spawn() else { return false };
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if start.elapsed() < ENGINE_LIMIT => std::thread::sleep(LOOK_EVERY),
            _ => break,
        }
    }
    // An engine on a machine that cannot be reached keeps its client waiting.
    child.kill().and_then(|()| child.wait()).ok();
    false
}

/// A server in a container.
#[derive(Debug)]
pub(crate) struct Container {
    kind: Kind,
    name: String,
    ports: Ports,
    /// None for one that outlives its value.
    keeper: Option<Child>,
}

impl Container {
    pub(crate) fn start(kind: Kind, options: &Options, ports: Ports) -> Result<(Self, String)> {
        let name = format!("trunkline-{kind}-{}", ports.main.number());
        let mut server = Self { kind, name, ports, keeper: None };
        // A detached one that was stopped still has its data.
        let again = options.detached && docker(&["start", &server.name]).is_ok();
        if !again {
            // What an owner that was killed may have left; most often there is nothing.
            docker(&["rm", "--force", "--volumes", &server.name]).ok();
            let arguments = run_arguments(kind, &server.name, &server.ports, &options.settings);
            docker(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        if !options.detached {
            server.keeper = Some(keeper(&server.name)?);
        }
        match server.serving() {
            Ok(version) => Ok((server, version)),
            Err(error) => {
                if !options.detached {
                    server.end()?;
                }
                Err(error)
            }
        }
    }

    /// One that an earlier process started.
    pub(crate) fn found(kind: Kind, record: &str) -> Option<(Self, String)> {
        let mut words = record.split_whitespace();
        let name = words.next()?.to_owned();
        let version = words.next()?.to_owned();
        let ports: Vec<u16> = words.filter_map(|word| word.parse().ok()).collect();
        let ports = Ports::known(ports.try_into().ok()?).ok()?;
        Some((Self { kind, name, ports, keeper: None }, version))
    }

    /// What [`Container::found`] reads.
    pub(crate) fn record(&self, version: &str) -> String {
        let ports = self.ports.numbers().map(|number| number.to_string()).join(" ");
        format!("{} {version} {ports}", self.name)
    }

    pub(crate) fn ports(&self) -> &Ports {
        &self.ports
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        let pid = docker(&["inspect", "--format", "{{.State.Pid}}", &self.name]).ok()?;
        pid.parse().ok().filter(|pid| *pid != 0)
    }

    pub(crate) fn kill(&self) -> Result<()> {
        if self.pid().is_none() {
            return Ok(());
        }
        docker(&["kill", &self.name])?;
        docker(&["wait", &self.name]).map(drop)
    }

    pub(crate) fn pause(&self) -> Result<()> {
        docker(&["pause", &self.name]).map(drop)
    }

    pub(crate) fn resume(&self) -> Result<()> {
        docker(&["unpause", &self.name]).map(drop)
    }

    pub(crate) fn stop(&mut self) -> Result<()> {
        docker(&["stop", "--time", "60", &self.name]).map(drop)
    }

    pub(crate) fn restart(&mut self) -> Result<String> {
        self.stop()?;
        docker(&["start", &self.name])?;
        self.serving()
    }

    pub(crate) fn end(&mut self) -> Result<()> {
        docker(&["rm", "--force", "--volumes", &self.name])?;
        let Some(mut keeper) = self.keeper.take() else { return Ok(()) };
        if let Some(mut stdin) = keeper.stdin.take() {
            // One that is gone already has nothing left to do.
            stdin.write_all(b"done\n").ok();
        }
        keeper.wait().map(drop).map_err(LaunchError::io("cannot wait for `sh`"))
    }

    fn serving(&self) -> Result<String> {
        let alive = || match self.pid() {
            Some(_) => Ok(()),
            None => Err("it ended".to_owned()),
        };
        serving(self.kind, self.ports.main.number(), alive).map_err(|why| {
            let why = match why {
                Silence::Ended(why) => why,
                Silence::TooLong(last) => {
                    format!("it does not serve after {} s ({last})", START_LIMIT.as_secs())
                }
            };
            let log = docker(&["logs", "--tail", "30", &self.name]).unwrap_or_default();
            LaunchError::new(format!(
                "the container {} did not start: {why}; its log ends with:\n{log}",
                self.name
            ))
        })
    }
}

fn keeper(name: &str) -> Result<Child> {
    use std::os::unix::process::CommandExt as _;

    Command::new("sh")
        .args(["-c", KEEPER, "sh", name])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(LaunchError::io("cannot start `sh`"))
}

/// Runs docker to its end and answers what it printed.
fn docker(arguments: &[&str]) -> Result<String> {
    let Output { status, stdout, stderr } = Command::new("docker")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(LaunchError::io("cannot run `docker`, which TRUNKLINE_LAUNCHER asks for"))?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).trim().to_owned());
    }
    Err(LaunchError::new(format!(
        "`docker {}` failed: {}",
        arguments.first().unwrap_or(&""),
        String::from_utf8_lossy(&stderr).trim()
    )))
}

/// `docker run` for a kind; versions and settings are those of docker/compose.yaml.
fn run_arguments(
    kind: Kind,
    name: &str,
    ports: &Ports,
    settings: &[(String, String)],
) -> Vec<String> {
    let mut line = owned(&["run", "--detach", "--name", name, "--hostname", kind.name()]);
    let mut publish = |inner: u16, outer: u16| {
        line.extend(["--publish".to_owned(), format!("127.0.0.1:{outer}:{inner}")]);
    };
    publish(kind.usual_port(), ports.main.number());
    if kind == Kind::Kafka {
        publish(9093, ports.behind_proxy.number());
    }
    line.extend(match kind {
        Kind::Redis => redis(settings),
        Kind::Kafka => kafka(ports, settings),
        Kind::RabbitMq => rabbitmq(settings),
        Kind::Postgres => postgres(settings),
    });
    line
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn redis(settings: &[(String, String)]) -> Vec<String> {
    let mut line = owned(&["redis:7", "redis-server", "--appendonly", "yes", "--save", ""]);
    line.extend(owned(&["--maxmemory-policy", "noeviction"]));
    line.extend(settings.iter().flat_map(|(key, value)| [format!("--{key}"), value.clone()]));
    line
}

fn rabbitmq(settings: &[(String, String)]) -> Vec<String> {
    // The image reads settings from files only: a shell in front of its own start writes one.
    let start = "printf '%s\\n' \"$@\" >/etc/rabbitmq/conf.d/90-trunkline.conf; \
                 exec docker-entrypoint.sh rabbitmq-server";
    let arguments = recipe::rabbitmq::PASS_ON_AGAIN;
    let mut line = owned(&["--env", &format!("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS={arguments}")]);
    line.extend(owned(&["--entrypoint", "sh", "rabbitmq:3-management", "-c", start, "sh"]));
    line.extend(settings.iter().map(|(key, value)| format!("{key} = {value}")));
    line
}

fn postgres(settings: &[(String, String)]) -> Vec<String> {
    let mut line = owned(&["--env", "POSTGRES_USER=trunkline", "--env", "POSTGRES_DB=trunkline"]);
    line.extend(owned(&["--env", "POSTGRES_PASSWORD=trunkline"]));
    // As the native one: the account needs no password, and one that is given does no harm.
    line.extend(owned(&["--env", "POSTGRES_HOST_AUTH_METHOD=trust", "postgres:15", "postgres"]));
    line.extend(
        settings.iter().flat_map(|(key, value)| ["-c".to_owned(), format!("{key}={value}")]),
    );
    line
}

/// Kafka's image takes each setting as a variable.
fn kafka(ports: &Ports, settings: &[(String, String)]) -> Vec<String> {
    let advertised =
        format!("PLAIN://{},PROXIED://{}", ports.main.address(), ports.proxy.address());
    let here = [
        ("listeners", "PLAIN://:9092,PROXIED://:9093,CONTROLLER://:9094"),
        ("advertised.listeners", advertised.as_str()),
        ("controller.quorum.voters", "1@kafka:9094"),
        ("heap.opts", "-Xms256m -Xmx512m"),
    ];
    let theirs = settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let all = recipe::kafka::FIXED.iter().copied().chain(here).chain(theirs);
    let mut line = owned(&["--env", &format!("CLUSTER_ID={}", recipe::kafka::CLUSTER)]);
    for (key, value) in all {
        let variable = key.to_uppercase().replace('.', "_");
        line.extend(["--env".to_owned(), format!("KAFKA_{variable}={value}")]);
    }
    line.push(format!("apache/kafka:{}", jars::KAFKA));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: Kind, settings: &[(&str, &str)]) -> String {
        let ports = Ports::known([1001, 1002, 1003, 1004, 1005]).unwrap();
        let settings: Vec<_> =
            settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        run_arguments(kind, "name", &ports, &settings).join("|")
    }

    #[test]
    fn redis_is_as_in_the_compose_file() {
        assert_eq!(
            line(Kind::Redis, &[("maxmemory", "1mb")]),
            "run|--detach|--name|name|--hostname|redis|--publish|127.0.0.1:1001:6379|redis:7|redis-server|\
             --appendonly|yes|--save||--maxmemory-policy|noeviction|--maxmemory|1mb"
        );
    }

    #[test]
    fn kafka_has_a_second_listener_that_sends_clients_back_to_the_proxy() {
        let line = line(Kind::Kafka, &[("log.retention.ms", "5")]);
        for part in [
            "|--publish|127.0.0.1:1001:9092|--publish|127.0.0.1:1002:9093|",
            "|KAFKA_LISTENERS=PLAIN://:9092,PROXIED://:9093,CONTROLLER://:9094|",
            "|KAFKA_ADVERTISED_LISTENERS=PLAIN://127.0.0.1:1001,PROXIED://127.0.0.1:1003|",
            "|KAFKA_AUTO_CREATE_TOPICS_ENABLE=false|",
            "|KAFKA_LOG_RETENTION_MS=5|",
        ] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        assert!(line.ends_with("|apache/kafka:4.2.0"), "{line}");
    }

    #[test]
    fn rabbitmq_gets_its_settings_as_a_file() {
        let line = line(Kind::RabbitMq, &[("consumer_timeout", "60000")]);
        assert!(line.contains(
            "|127.0.0.1:1001:5672|--env|RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-rabbit \
             dead_letter_worker_publisher_confirm_timeout 10000\
             |--entrypoint|sh|rabbitmq:3-management|-c|printf '%s\\n'"
        ));
        assert!(line.ends_with("|sh|consumer_timeout = 60000"), "{line}");
    }

    #[test]
    fn postgres_gets_its_settings_as_arguments() {
        let line = line(Kind::Postgres, &[("max_connections", "9")]);
        assert!(line.contains("|127.0.0.1:1001:5432|"), "{line}");
        assert!(line.ends_with("|postgres:15|postgres|-c|max_connections=9"), "{line}");
    }
}
