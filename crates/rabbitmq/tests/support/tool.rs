//! The server's own tool, which needs no plugin.

use std::fmt::Display;
use std::process::Command;

use trunkline_core::{Error, ErrorKind, Result};

fn failed(cause: impl Display) -> Error {
    Error::new(ErrorKind::Disconnected, "test", cause.to_string())
}

/// What the tool says about the server that listens on `port`.
pub(crate) fn rabbitmqctl(port: &str, arguments: &[&str]) -> Result<String> {
    let environment = server_environment(port).ok_or_else(|| failed("no server on the port"))?;
    let answered = Command::new("/usr/lib/rabbitmq/bin/rabbitmqctl")
        .arg("-q")
        .args(arguments)
        .envs(environment)
        // Set by the server's own script, for what that starts: the tool would then load nothing.
        .env_remove("RABBITMQ_ENV_LOADED")
        .output()
        .map_err(failed)?;
    let text = String::from_utf8_lossy(&answered.stdout);
    if !answered.status.success() {
        return Err(failed(format!("{text}{}", String::from_utf8_lossy(&answered.stderr))));
    }
    Ok(text.into_owned())
}

/// The variables of the server that listens on `port`: its tool wants the same.
fn server_environment(port: &str) -> Option<Vec<(String, String)>> {
    let processes = std::fs::read_dir("/proc").ok()?;
    let environments = processes.flatten().filter_map(|entry| {
        let bytes = std::fs::read(entry.path().join("environ")).ok()?;
        let pairs = bytes.split(|byte| *byte == 0).filter_map(|pair| {
            let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        Some(pairs.collect::<Vec<_>>())
    });
    let listener = format!("127.0.0.1:{port}");
    let is_ours = |pairs: &Vec<(String, String)>| {
        let file = pairs.iter().find(|(name, _)| name == "RABBITMQ_CONFIG_FILE");
        let settings = file.and_then(|(_, path)| std::fs::read_to_string(path).ok());
        settings.is_some_and(|settings| settings.lines().any(|line| line.ends_with(&listener)))
    };
    environments.into_iter().find(is_ours)
}
