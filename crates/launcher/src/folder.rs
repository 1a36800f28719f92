//! Folders that servers live in, and locks between processes.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::{LaunchError, Result};

/// Where everything of a run lies: one folder per user, so that nobody trips over another's files.
pub(crate) fn scratch() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("trunkline-{}", user_id()?));
    create(&folder)?;
    Ok(folder)
}

/// The user that this process runs as; 0 is root.
pub(crate) fn user_id() -> Result<u32> {
    let process = fs::metadata("/proc/self")
        .map_err(LaunchError::io("cannot read /proc/self, which native servers need"))?;
    Ok(process.uid())
}

pub(crate) fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)
        .map_err(LaunchError::io(format!("cannot create {}", folder.display())))
}

/// Removes a folder and all in it; nothing there is fine.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LaunchError::io(format!("cannot remove {}", folder.display()))(error))
        }
        _ => Ok(()),
    }
}

pub(crate) fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, text).map_err(LaunchError::io(format!("cannot write {}", path.display())))
}

/// A file for locking, made when it is not there.
pub(crate) fn lock_file(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(LaunchError::io(format!("cannot open {}", path.display())))
}

/// Waits until this process alone holds the lock; it is given back when the file is dropped or the process ends.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let file = lock_file(path)?;
    file.lock().map_err(LaunchError::io(format!("cannot lock {}", path.display())))?;
    Ok(file)
}
