//! `tenantry serve` as a process, over any database.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{HANG, app, child_process, cluster, process};

/// A running server, killed when dropped.
pub struct ServerProcess {
    pub base: String,
    /// The base URL of the operators' listener.
    pub admin: String,
    process: Child,
    folder: PathBuf,
}

impl ServerProcess {
    /// Starts a server, and returns when it serves.
    pub fn start(database_url: &str, settings: &[(&str, &str)]) -> Self {
        let folder = cluster::new_folder();
        let log = folder.join("log");
        let mut command = process::tenantry_child();
        command
            .arg("serve")
            .env("DATABASE_URL", database_url)
            .env("JWT_SECRET", app::SECRET)
            .env("SECRET_KEY", app::SECRET)
            .env("LISTEN_ADDR", "127.0.0.1:0")
            .env("ADMIN_ADDR", "127.0.0.1:0")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .process_group(0);
        let (base, admin) = (String::new(), String::new());
        let mut served = Self { base, admin, process: child_process::spawn(command), folder };
        let started = Instant::now();
        while served.base.is_empty() {
            let wait_for_exit = served.exit_code().is_some();
            assert!(!wait_for_exit && started.elapsed() < HANG, "{}", served.log());
            thread::sleep(Duration::from_millis(10));
            let log = served.log();
            // The operators' address is logged before.
            if let Some(address) = logged(&log, "serving address=") {
                served.admin = logged(&log, "serving operators address=").unwrap();
                served.base = address;
            }
        }
        served
    }

    /// Returns the server's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Sends the signal to stop.
    pub fn terminate(&self) {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
    }

    /// Returns the exit code if the process has ended; -1 for a signal.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.process.try_wait().unwrap().map(|status| status.code().unwrap_or(-1))
    }

    /// Waits until the process ends, and returns its exit code.
    pub async fn wait_for_exit(&mut self) -> i32 {
        let started = Instant::now();
        loop {
            if let Some(code) = self.exit_code() {
                return code;
            }
            assert!(started.elapsed() < HANG, "it does not end: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Returns the URL with the address after this text, once it is completely logged.
fn logged(log: &str, text: &str) -> Option<String> {
    let address = log.split(text).nth(1)?;
    let end = address.find(char::is_whitespace)?;
    Some(format!("http://{}", &address[..end]))
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}
