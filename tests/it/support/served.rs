//! `tenantry serve` as a process, over whatever database it is given.

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

use super::{app, cluster, keeper, process};

/// A running server; killed with the drop.
pub struct Served {
    pub base: String,
    /// Where operators look.
    pub admin: String,
    process: Child,
    folder: PathBuf,
}

impl Served {
    /// Returns when it serves.
    pub fn start(database_url: &str, settings: &[(&str, &str)]) -> Self {
        let folder = cluster::new_folder();
        let log = folder.join("log");
        let mut command = process::kept_tenantry();
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
        let mut served = Self { base, admin, process: keeper::spawn(command), folder };
        let begun = Instant::now();
        while served.base.is_empty() {
            let ended = served.exit_code().is_some();
            assert!(!ended && begun.elapsed() < Duration::from_secs(30), "{}", served.told());
            thread::sleep(Duration::from_millis(10));
            let told = served.told();
            // The other address is logged before.
            if let Some(address) = logged(&told, "serving address=") {
                served.admin = logged(&told, "for operators address=").unwrap();
                served.base = address;
            }
        }
        served
    }

    /// What it has logged.
    pub fn told(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
    }

    /// The exit code, where it has ended; -1 for a signal.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.process.try_wait().unwrap().map(|status| status.code().unwrap_or(-1))
    }

    /// The exit code, once it has ended.
    pub async fn ended(&mut self, within: Duration) -> i32 {
        let begun = Instant::now();
        loop {
            if let Some(code) = self.exit_code() {
                return code;
            }
            assert!(begun.elapsed() < within, "it does not end: {}", self.told());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The address behind this text, once the log has the whole of it.
fn logged(log: &str, text: &str) -> Option<String> {
    let address = log.split(text).nth(1)?;
    let end = address.find(char::is_whitespace)?;
    Some(format!("http://{}", &address[..end]))
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}
