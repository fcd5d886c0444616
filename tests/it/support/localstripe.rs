//! localstripe, an independent implementation of Stripe's API, installed once beside the build.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

/// Listens on the loopback interface only, at a port that the system chooses.
const SERVE: &str = "
import socket
from aiohttp import web
from localstripe.server import app
sock = socket.socket()
sock.bind(('127.0.0.1', 0))
print(sock.getsockname()[1], flush=True)
web.run_app(app, sock=sock, print=None)
";

static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();

pub struct Localstripe {
    process: Child,
    pub base: String,
}

impl Localstripe {
    /// Returns `None` if Python is not installed.
    pub async fn start() -> Option<Self> {
        let python = tokio::task::spawn_blocking(|| PYTHON.get_or_init(install).as_deref())
            .await
            .unwrap()?;
        let folder = tempfile::tempdir().unwrap();
        let mut process = Command::new(python)
            .args(["-c", SERVE])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Some(Self { process, base: format!("http://127.0.0.1:{}/", port.trim()) })
    }

    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Value {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self
            .request(reqwest::Method::POST, path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        answer(request).await
    }

    pub async fn delete(&self, path: &str) -> Value {
        answer(self.request(reqwest::Method::DELETE, path)).await
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        reqwest::Client::new()
            .request(method, format!("{}{path}", self.base))
            .bearer_auth("sk_test")
    }
}

impl Drop for Localstripe {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Value {
    let response = request.send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).unwrap_or_default()
}

fn install() -> Option<PathBuf> {
    Command::new("python3").arg("--version").output().ok()?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("localstripe");
    let python = folder.join("bin/python");
    let ran = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    if !python.exists() {
        ran(Command::new("python3").args(["-m", "venv"]).arg(&folder));
    }
    ran(Command::new(&python).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--require-hashes",
        "--requirement",
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/localstripe.txt"),
    ]));
    Some(python)
}
