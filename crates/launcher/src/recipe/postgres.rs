//! Debian's PostgreSQL.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Place, Recipe, lines};
use crate::error::{LaunchError, Result};
use crate::folder;
use crate::install;

/// Debian's package makes it, and uses it for nothing but the server.
const ACCOUNT: &str = "postgres";

pub(super) fn prepare(place: Place<'_>) -> Result<Recipe> {
    let program = install::found_or_installed("postgres", "postgresql", newest)?;
    let user = user(place.folder)?;
    let data = place.folder.join("data");
    if !data.join("PG_VERSION").is_file() {
        create(&program, &data, user)?;
    }
    let ours = [
        ("listen_addresses", "'127.0.0.1'".to_owned()),
        ("port", place.ports.main.number().to_string()),
        // No socket file: its folder would have to be another shared place.
        ("unix_socket_directories", "''".to_owned()),
        ("logging_collector", "off".to_owned()),
        // In the data folder, where a SIGKILL leaves nothing that only a restart of the machine removes.
        ("dynamic_shared_memory_type", "mmap".to_owned()),
    ];
    let config = place.folder.join("postgresql.conf");
    folder::write(&config, lines(&ours, place.settings, " = "))?;
    let mut recipe = Recipe::new(program, place.folder);
    recipe.arguments = vec![
        "-D".to_owned(),
        data.display().to_string(),
        "-c".to_owned(),
        format!("config_file={}", config.display()),
    ];
    recipe.user = user;
    // Ends open sessions instead of waiting for them.
    recipe.stop = "INT";
    Ok(recipe)
}

/// The newest installed version; Debian keeps each in a folder of its own.
fn newest() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let numbers = folders.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let program = |number| PathBuf::from(format!("/usr/lib/postgresql/{number}/bin/postgres"));
    numbers.filter(|number| program(*number).is_file()).max().map(program)
}

/// Who to run as: PostgreSQL refuses to be root.
fn user(folder: &Path) -> Result<Option<(u32, u32)>> {
    if folder::user_id()? != 0 {
        return Ok(None);
    }
    let account = (id("-u")?, id("-g")?);
    std::os::unix::fs::chown(folder, Some(account.0), Some(account.1))
        .map_err(LaunchError::io(format!("cannot give {} to {ACCOUNT}", folder.display())))?;
    let mut look = Command::new("test");
    look.arg("-w").arg(folder).current_dir("/").uid(account.0).gid(account.1);
    if look.status().is_ok_and(|status| status.success()) {
        return Ok(Some(account));
    }
    Err(LaunchError::new(format!(
        "the account `{ACCOUNT}`, which PostgreSQL runs as instead of root, cannot reach {}; \
         choose a folder that everybody may enter",
        folder.display()
    )))
}

fn id(flag: &str) -> Result<u32> {
    let output = Command::new("id")
        .args([flag, ACCOUNT])
        .output()
        .map_err(LaunchError::io("cannot start `id`"))?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok().ok_or_else(|| {
        LaunchError::new(format!(
            "there is no account `{ACCOUNT}`, and PostgreSQL refuses to run as root; \
             install it with: apt-get install postgresql"
        ))
    })
}

/// A new data folder with the account and the database of [`Kind::url`](crate::Kind).
fn create(server: &Path, data: &Path, user: Option<(u32, u32)>) -> Result<()> {
    // What is left of an attempt that was killed half way.
    folder::remove(data)?;
    let mut initdb = Command::new(server.with_file_name("initdb"));
    initdb.args([
        "--username=trunkline",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
    ]);
    initdb.arg("-D").arg(data);
    run_as(&mut initdb, user, "")?;
    let mut single = Command::new(server);
    single.args(["--single", "-D"]).arg(data).arg("postgres");
    run_as(&mut single, user, "CREATE DATABASE trunkline;\n")
}

fn run_as(command: &mut Command, user: Option<(u32, u32)>, input: &str) -> Result<()> {
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    let name = command.get_program().display().to_string();
    let failed = || format!("cannot run {name}");
    command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(LaunchError::io(failed()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(LaunchError::io(failed()))?;
    }
    let output = child.wait_with_output().map_err(LaunchError::io(failed()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(LaunchError::new(format!("{name} failed:\n{}", String::from_utf8_lossy(&output.stderr))))
}
