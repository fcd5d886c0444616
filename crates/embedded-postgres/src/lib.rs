//! Embedded PostgreSQL for development and tests: a real server on a Unix socket that only this
//! user can reach.
//!
//! The server stops with the process that started it, even if that is killed: the kernel signals it
//! (`setpriv --pdeathsig`). The signal depends on the *thread* that called [`Embedded::start`], so
//! that thread must live as long as the server.

mod binaries;
mod cluster;
mod error;

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use binaries::{Binaries, on_path};
use cluster::{Account, Cluster, POLL};

pub use error::Error;

const READY_WAIT: Duration = Duration::from_mins(1);
const STOP_WAIT: Duration = Duration::from_secs(10);

/// How to run the server.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder for all files; created if missing.
    pub folder: PathBuf,
    /// Turns durability off, for data that need not survive a crash.
    pub throwaway: bool,
}

/// A running server; dropping it stops it.
#[derive(Debug)]
pub struct Embedded {
    child: Child,
    cluster: Cluster,
    binaries: Binaries,
}

impl Embedded {
    /// Starts a server, and creates its data folder first if there is none.
    ///
    /// # Errors
    ///
    /// When the programs are missing, the folder is in use, or the server does not become ready.
    pub fn start(options: &Options) -> Result<Self, Error> {
        let account = Account::for_server()?;
        let lock = cluster::lock(&options.folder, account)?;
        let binaries = Binaries::find(&options.folder)?;
        let cluster = Cluster::prepare(&options.folder, &binaries, account, lock)?;
        let child = launch(&binaries, &cluster, options.throwaway)?;
        let mut server = Self { child, cluster, binaries };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// The path of a PostgreSQL program of the server's version.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.binaries.program(name)
    }

    /// The process id of the server.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The URL of a database for a role.
    #[must_use]
    pub fn url(&self, role: &str, database: &str) -> String {
        let socket = self.cluster.socket.to_string_lossy();
        let socket = utf8_percent_encode(&socket, NON_ALPHANUMERIC);
        format!("postgres://{role}@localhost:{}/{database}?host={socket}", cluster::PORT)
    }

    /// The URL of the database `postgres` for the superuser.
    #[must_use]
    pub fn admin_url(&self) -> String {
        self.url(cluster::SUPERUSER, "postgres")
    }

    fn wait_until_ready(&mut self) -> Result<(), Error> {
        let start = Instant::now();
        loop {
            if self.cluster.is_ready() {
                return Ok(());
            }
            let ended = self.child.try_wait().ok().flatten().is_some();
            if ended || start.elapsed() > READY_WAIT {
                return Err(Error::Program {
                    program: "postgres",
                    output: self.cluster.log_tail(),
                });
            }
            std::thread::sleep(POLL);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // The server may have ended already.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // "Fast shutdown" (PostgreSQL manual, section 19.5): rolls running transactions back.
        self.signal(Signal::SIGINT);
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > STOP_WAIT {
                self.signal(Signal::SIGQUIT);
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

fn launch(binaries: &Binaries, cluster: &Cluster, throwaway: bool) -> Result<Child, Error> {
    let mut command = match on_path("setpriv") {
        // Requests a fast shutdown when the parent ends.
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "INT", "--"]).arg(binaries.program("postgres"));
            command
        }
        None => Command::new(binaries.program("postgres")),
    };
    command.arg("-D").arg(&cluster.data).arg("-k").arg(&cluster.socket);
    let mut settings =
        vec!["listen_addresses=", "unix_socket_permissions=0700", "max_connections=300"];
    if throwaway {
        settings.extend(["fsync=off", "synchronous_commit=off", "full_page_writes=off"]);
    }
    for setting in settings {
        command.args(["-c", setting]);
    }
    let log = cluster.open_log()?;
    let errors = log.try_clone();
    let errors =
        errors.map_err(Error::system("cannot duplicate the log file of", &cluster.data))?;
    cluster.account.assume(&mut command);
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    // A terminal sends Ctrl-C to its process group. The server stops later, after tenantry has
    // finished its requests.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().map_err(Error::system("cannot run", &binaries.program("postgres")))
}
