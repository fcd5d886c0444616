//! The program itself, as a process.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{HANG, child_process};

/// Returns the program as a command, without environment variables of this process that it would
/// read.
pub fn tenantry() -> Command {
    without_settings(Command::new(env!("CARGO_BIN_EXE_tenantry")))
}

/// Returns the program as a command that ends with this process.
pub fn tenantry_child() -> Command {
    without_settings(child_process::ending_with_parent(env!("CARGO_BIN_EXE_tenantry"), "KILL"))
}

fn without_settings(mut command: Command) -> Command {
    for (name, _) in std::env::vars() {
        if [
            "DATABASE",
            "MIGRATION",
            "JWT_",
            "SECRET_KEY",
            "ACCOUNT_LINKING",
            "PORT",
            "LISTEN",
            "TENANTRY",
            "PG",
            "RUST_LOG",
            "BILLING",
            "STRIPE",
            "SMTP",
            "ADMIN",
            "LOG_FORMAT",
            "MAX_",
            "OTEL",
            "SECRET_KEY",
            "EXPORT_KEY",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(name);
        }
    }
    command
}

/// The output and the exit code of a command that ends by itself.
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

pub fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Output {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Asserts that a command succeeded, and returns its output.
#[track_caller]
pub fn succeeded(output: &Output) -> &str {
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    &output.stdout
}

/// Asserts that a command failed with this reason in its last line, and returns its output.
#[track_caller]
pub fn failed<'a>(output: &'a Output, reason: &str) -> &'a str {
    assert_eq!(output.code, Some(1), "{}", output.stdout);
    let last = output.stderr.lines().last().unwrap_or_default();
    assert!(last.contains(reason), "{}{}", output.stdout, output.stderr);
    &output.stdout
}

/// A command that keeps running, killed at the end of the test.
pub struct Running {
    pub child: Child,
    pub stdout: String,
}

impl Running {
    /// Starts the command, and reads its output until a line contains `until`.
    pub fn start(command: &mut Command, until: &str) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut stdout = String::new();
        while !stdout.contains(until) {
            if reader.read_line(&mut stdout).unwrap() == 0 {
                let mut stderr = String::new();
                child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
                panic!("ended before it printed {until:?}: {stdout}{stderr}");
            }
        }
        // Some programs end when their output is closed.
        std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        Self { child, stdout }
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }

    /// Waits until the command ends, and returns its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < HANG, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a condition holds, and fails with `what` otherwise.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < HANG, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
