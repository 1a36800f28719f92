//! Apache Kafka: one node that is broker and controller, without `ZooKeeper`.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{Place, Recipe, lines};
use crate::error::{LaunchError, Result};
use crate::folder;
use crate::install;
use crate::jars;

/// Every server may have the same: none ever meets another.
pub(crate) const CLUSTER: &str = "dHJ1bmtsaW5lLWRldi0wMQ";
/// The files that make a folder a Kafka node's; who finds the last one finds all of them.
const FORMATTED: [&str; 2] = ["bootstrap.checkpoint", "meta.properties"];
/// 4 MiB of data and 64 KiB for the headers around it.
const MESSAGE_BYTES: &str = "4259840";

pub(super) fn prepare(place: Place<'_>) -> Result<Recipe> {
    let java = install::program("java", "openjdk-17-jre-headless")?;
    let jars = jars::kafka()?;
    let config = place.folder.join("server.properties");
    let (of_format, of_server): (Vec<_>, Vec<_>) =
        place.settings.iter().cloned().partition(|(key, _)| key.starts_with("--"));
    folder::write(&config, lines(&settings(place), &of_server, "="))?;
    let logging = place.folder.join("log4j2.properties");
    folder::write(&logging, LOGGING)?;
    let java_line = |heap: &[&str]| -> Vec<String> {
        let mut line: Vec<String> = heap.iter().map(|text| (*text).to_owned()).collect();
        line.extend([
            "-XX:+UseSerialGC".to_owned(),
            format!("-Dlog4j2.configurationFile={}", logging.display()),
            format!("-Dkafka.logs.dir={}", place.folder.display()),
            "-cp".to_owned(),
            format!("{}/*", jars.display()),
        ]);
        line
    };
    let data = place.folder.join("data");
    if !data.join(FORMATTED[1]).is_file() {
        let mut format = Command::new(&java);
        format.args(java_line(&["-XX:TieredStopAtLevel=1"]));
        format.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"]).arg(&config);
        if of_format.is_empty() {
            lay_out(&data, &jars, &mut format)?;
        } else {
            format.args(of_format.iter().flat_map(|(key, value)| [key, value]));
            folder::create(&data)?;
            run(&mut format)?;
        }
    }
    let mut recipe = Recipe::new(java, place.folder);
    recipe.arguments = java_line(&["-Xms256m", "-Xmx512m"]);
    recipe.arguments.extend(["kafka.Kafka".to_owned(), config.display().to_string()]);
    Ok(recipe)
}

fn settings(place: Place<'_>) -> Vec<(&'static str, String)> {
    let [controller, _] = &place.ports.inner;
    let (main, behind, proxy) = (&place.ports.main, &place.ports.behind_proxy, &place.ports.proxy);
    let data = place.folder.join("data");
    let fixed = FIXED.iter().map(|(key, value)| (*key, (*value).to_owned()));
    let mut all: Vec<_> = fixed.collect();
    all.extend([
        ("controller.quorum.voters", format!("1@{}", controller.address())),
        (
            "listeners",
            format!(
                "PLAIN://{},PROXIED://{},CONTROLLER://{}",
                main.address(),
                behind.address(),
                controller.address()
            ),
        ),
        // A client goes on with the address that is advertised: one that came through the proxy has to
        // be sent back to it.
        (
            "advertised.listeners",
            format!("PLAIN://{},PROXIED://{}", main.address(), proxy.address()),
        ),
        ("log.dirs", data.display().to_string()),
    ]);
    all
}

/// What does not depend on ports and folders.
pub(crate) const FIXED: &[(&str, &str)] = &[
    ("process.roles", "broker,controller"),
    ("node.id", "1"),
    ("listener.security.protocol.map", "PLAIN:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT"),
    ("controller.listener.names", "CONTROLLER"),
    ("inter.broker.listener.name", "PLAIN"),
    ("auto.create.topics.enable", "false"),
    ("num.partitions", "4"),
    ("offsets.topic.num.partitions", "3"),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.min.session.timeout.ms", "1000"),
    ("group.consumer.min.session.timeout.ms", "1000"),
    ("group.consumer.min.heartbeat.interval.ms", "100"),
    ("unclean.leader.election.enable", "false"),
    // A node that was killed serves again once its own old registration has expired: after 5 s with
    // these two, after 13 to 16 s without.
    ("broker.session.timeout.ms", "2000"),
    ("broker.heartbeat.interval.ms", "500"),
    ("message.max.bytes", MESSAGE_BYTES),
    ("replica.fetch.max.bytes", MESSAGE_BYTES),
    ("replica.fetch.response.max.bytes", MESSAGE_BYTES),
];

const LOGGING: &str = "\
rootLogger.level=INFO
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %m (%c)%n%ex
";

/// Makes the data folder of a new node, from an earlier one's when there was one: formatting starts a
/// Java machine of its own, and only writes the same few lines again.
fn lay_out(data: &Path, jars: &Path, format: &mut Command) -> Result<()> {
    let template = jars.with_file_name("formatted");
    folder::create(data)?;
    let copied =
        FORMATTED.iter().all(|name| std::fs::copy(template.join(name), data.join(name)).is_ok());
    if copied {
        return Ok(());
    }
    folder::remove(data)?;
    folder::create(data)?;
    run(format)?;
    let _only_one = folder::lock(&jars.with_file_name("formatted.lock"))?;
    folder::create(&template)?;
    for name in FORMATTED {
        // Whole or not at all, for those who copy without the lock.
        let partial = template.join(format!("{name}.partial"));
        std::fs::copy(data.join(name), &partial)
            .and_then(|_| std::fs::rename(&partial, template.join(name)))
            .map_err(LaunchError::io(format!("cannot keep {name} in {}", template.display())))?;
    }
    Ok(())
}

fn run(format: &mut Command) -> Result<()> {
    let output = format
        .stdin(Stdio::null())
        .output()
        .map_err(LaunchError::io("cannot start java to format Kafka's folder"))?;
    if !output.status.success() {
        return Err(LaunchError::new(format!(
            "Kafka's folder could not be formatted:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    Ok(())
}
