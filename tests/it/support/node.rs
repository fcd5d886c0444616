//! Programs from npm, installed once beside the build, so that the checkout stays unchanged.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();

/// Returns the directory with the scripts of `tests/node` and their packages, or `None` if npm is
/// not installed.
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

/// A script that reads commands as lines of JSON, and writes one line for each.
pub struct Script {
    process: Child,
    commands: ChildStdin,
    responses: BufReader<ChildStdout>,
}

impl Script {
    /// Returns `None` if npm is not installed.
    pub async fn start(name: &str) -> Option<Self> {
        let mut process = Command::new("node")
            .arg(name)
            .current_dir(packages().await?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = process.stdin.take().unwrap();
        let responses = BufReader::new(process.stdout.take().unwrap());
        Some(Self { process, commands, responses })
    }

    pub fn ask(&mut self, command: &Value) -> Value {
        writeln!(self.commands, "{command}").unwrap();
        let mut line = String::new();
        self.responses.read_line(&mut line).unwrap();
        let response: Value = serde_json::from_str(&line).unwrap();
        assert!(response.get("error").is_none(), "{command}: {response}");
        response["ok"].clone()
    }

    pub fn text(&mut self, command: &Value) -> String {
        self.ask(command).as_str().unwrap().to_owned()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
