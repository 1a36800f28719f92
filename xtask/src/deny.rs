//! The licence, ban and source rules of `deny.toml`.

use std::path::PathBuf;
use std::process::Stdio;

use crate::workspace::{Failure, Workspace};

/// The version that `deny.toml` is written for.
const VERSION: &str = "0.20.2";

/// Where the tool goes when the machine has none: inside the clone, so that nothing outside of it changes.
const TOOLS: &str = "target/tools";

/// Checks `deny.toml`, installing cargo-deny (about two minutes) where it is missing.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    let program = find_or_install(workspace)?;
    // The offline check reads the manifests of every platform's crates; a build fetches only its own platform's.
    workspace.finish(
        &mut workspace.cargo("fetch --locked"),
        "the lock file must be committed and the registry reachable once",
    )?;
    let mut check = workspace.command(program);
    check.args(["--offline", "--all-features", "check", "bans", "licenses", "sources"]);
    workspace.finish(
        &mut check,
        "drop the dependency that it names, or change deny.toml and say there why",
    )
}

fn find_or_install(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let installed = workspace
        .path(TOOLS)
        .join("bin")
        .join(format!("cargo-deny{}", std::env::consts::EXE_SUFFIX));
    let candidates = [PathBuf::from("cargo-deny"), installed.clone()];
    for program in candidates {
        let mut probe = workspace.command(&program);
        probe.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        // An error means only that this candidate is not there.
        if probe.status().is_ok_and(|status| status.success()) {
            return Ok(program);
        }
    }
    println!("cargo-deny is not installed: building {VERSION} into {TOOLS}, about two minutes");
    let mut install = workspace.cargo("install cargo-deny --locked --version");
    install.args([VERSION, "--root"]).arg(workspace.path(TOOLS));
    workspace
        .finish(&mut install, "install cargo-deny by hand, anywhere on PATH, and start again")?;
    Ok(installed)
}
