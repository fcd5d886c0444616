//! Counterparts from npm, installed once beside the build, so that the tree stays as it was checked out.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();

/// The folder with the scripts of `tests/node` and their packages; `None` where npm is missing.
pub async fn packages() -> Option<&'static Path> {
    tokio::task::spawn_blocking(|| FOLDER.get_or_init(install).as_deref()).await.unwrap()
}

fn install() -> Option<PathBuf> {
    Command::new("npm").arg("--version").output().ok()?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node");
    std::fs::create_dir_all(&folder).unwrap();
    for entry in std::fs::read_dir(source).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
    let install = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund"])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(install.status.success(), "{}", String::from_utf8_lossy(&install.stderr));
    Some(folder)
}
