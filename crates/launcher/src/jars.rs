//! Kafka's jars, fetched once and kept.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{LaunchError, Result};
use crate::folder;
use crate::install;

/// The version of Kafka that is run.
pub(crate) const KAFKA: &str = "4.2.0";

/// A complete account of what is needed to run it: the logging is not part of Kafka's own list.
const POM: &str = r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>trunkline</groupId>
  <artifactId>kafka-server</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>KAFKA</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-core</artifactId>
      <version>2.25.2</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>2.25.2</version>
    </dependency>
  </dependencies>
</project>
"#;
const GOAL: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies";

/// The folder with the jars, which are fetched when they are not there.
pub(crate) fn kafka() -> Result<PathBuf> {
    let home = cache()?.join(format!("kafka-{KAFKA}"));
    folder::create(&home)?;
    let jars = home.join("jars");
    // Whoever comes second waits here and finds the work done.
    let _only_one = folder::lock(&home.join("lock"))?;
    if !jars.is_dir() {
        fetch(&home, &jars)?;
    }
    Ok(jars)
}

fn fetch(home: &Path, jars: &Path) -> Result<()> {
    let maven = install::program("mvn", "maven")?;
    folder::write(&home.join("pom.xml"), POM.replace("KAFKA", KAFKA))?;
    let partial = home.join("jars.partial");
    folder::remove(&partial)?;
    let output = Command::new(maven)
        .args(["-q", "-B", GOAL, "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", partial.display()))
        .current_dir(home)
        .stdin(Stdio::null())
        .output()
        .map_err(LaunchError::io("cannot start mvn"))?;
    if !output.status.success() {
        return Err(LaunchError::new(format!(
            "Kafka {KAFKA} could not be fetched from Maven Central; mvn said:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    std::fs::rename(&partial, jars)
        .map_err(LaunchError::io(format!("cannot rename {}", partial.display())))
}

/// Where downloads are kept: as told, in the workspace this was built in, or in the user's cache.
fn cache() -> Result<PathBuf> {
    if let Some(told) = std::env::var_os("TRUNKLINE_SERVERS_DIR") {
        return Ok(told.into());
    }
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = package.ancestors().nth(2).filter(|root| root.join("Cargo.lock").is_file());
    if let Some(root) = workspace {
        return Ok(root.join("target/servers"));
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    cache.or_else(home).map(|cache| cache.join("trunkline/servers")).ok_or_else(|| {
        LaunchError::new("no place to keep Kafka's jars: set TRUNKLINE_SERVERS_DIR to a folder")
    })
}
