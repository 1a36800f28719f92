//! Programs that servers need, installed when they are missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{LaunchError, Result};
use crate::folder;

/// Debian's packages start the servers that they install unless this program says no.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what the C parts of the workspace build with, where it is missing: OpenSSL's headers, which
/// librdkafka's TLS links, and the programs that find and build it.
///
/// # Errors
/// When something is missing and cannot be installed; the text is the command to type.
pub fn build_tools() -> Result<()> {
    for (name, package) in [("make", "make"), ("cc", "gcc"), ("pkg-config", "pkg-config")] {
        program(name, package)?;
    }
    let openssl = || {
        let mut probe = Command::new("pkg-config");
        let found =
            probe.args(["--exists", "openssl"]).status().is_ok_and(|status| status.success());
        found.then(PathBuf::new)
    };
    found_or_installed("OpenSSL for pkg-config", "libssl-dev", openssl).map(drop)
}

/// Where a program is, given its name or its full path; Debian's package of it is installed first if need be.
///
/// # Errors
/// When it is missing and cannot be installed; the text is the command to type.
pub fn program(name: &str, package: &str) -> Result<PathBuf> {
    found_or_installed(name, package, || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Debian keeps servers in sbin, which is not on everybody's path.
        let system = ["/usr/sbin", "/usr/bin"].map(PathBuf::from);
        // Joining a full path to a folder gives that path.
        std::env::split_paths(&path)
            .chain(system)
            .map(|folder| folder.join(name))
            .find(|path| path.is_file())
    })
}

/// As [`program`], for one that `find` knows where to look for.
pub(crate) fn found_or_installed(
    name: &str,
    package: &str,
    find: impl Fn() -> Option<PathBuf>,
) -> Result<PathBuf> {
    if let Some(found) = find() {
        return Ok(found);
    }
    // One at a time: another test binary may be installing the same at this moment.
    let _only_one = folder::lock(&folder::scratch()?.join("install.lock"))?;
    if let Some(found) = find() {
        return Ok(found);
    }
    install(name, package)?;
    find().ok_or_else(|| {
        LaunchError::new(format!("{name} is still missing after apt-get installed {package}"))
    })
}

fn install(name: &str, package: &str) -> Result<()> {
    if folder::user_id()? != 0 {
        return Err(LaunchError::new(format!(
            "{name} is missing; install it with: sudo apt-get install --no-install-recommends {package}"
        )));
    }
    let _quiet = Quiet::new()?;
    if apt(&["install", "-y", "--no-install-recommends", package]).is_ok() {
        return Ok(());
    }
    // The list of packages may be missing or too old.
    apt(&["update"])?;
    apt(&["install", "-y", "--no-install-recommends", package])
}

fn apt(arguments: &[&str]) -> Result<()> {
    let shown = format!("apt-get {}", arguments.join(" "));
    let output = Command::new("apt-get")
        .args(["-q", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .map_err(LaunchError::io(format!("cannot run `{shown}`, which native servers need")))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(LaunchError::new(format!("`{shown}` failed:\n{text}")))
}

/// Keeps packages from starting their servers on the usual ports while this lives.
struct Quiet {
    /// None when the machine has a policy of its own.
    policy: Option<&'static Path>,
}

impl Quiet {
    fn new() -> Result<Self> {
        let path = Path::new(POLICY);
        if path.exists() {
            return Ok(Self { policy: None });
        }
        folder::write(path, "#!/bin/sh\nexit 101\n")?;
        use_as_program(path)?;
        Ok(Self { policy: Some(path) })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let Some(path) = self.policy else { return };
        if let Err(error) = std::fs::remove_file(path) {
            eprintln!("cannot remove {}: {error}; remove it by hand", path.display());
        }
    }
}

fn use_as_program(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .map_err(LaunchError::io(format!("cannot make {} a program", path.display())))
}
