//! A database cluster: its data directory and the operating-system user that runs its server. Each
//! major version has its own folder, which is created once and locked while in use.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::Write,
    os::unix::{
        fs::{OpenOptionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use nix::unistd::{User, geteuid};

use super::{binaries::Binaries, error::Error};

pub(super) const SUPERUSER: &str = "postgres";

/// Only part of the socket's file name; the server does not listen on TCP.
pub(super) const PORT: u16 = 5432;

/// The length of `sun_path` in a Unix socket address, without the final NUL.
const MAX_SOCKET_PATH: usize = 107;

/// How often to look whether a process has started or ended.
pub(super) const POLL: Duration = Duration::from_millis(10);

/// As root this process writes to folders of the server's user, who must not redirect it with
/// links.
const NO_LINKS: i32 = nix::libc::O_NOFOLLOW;

/// The user that runs the server. PostgreSQL refuses to run as root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account(Option<(u32, u32)>);

impl Account {
    pub(super) fn for_server() -> Result<Self, Error> {
        if !geteuid().is_root() {
            return Ok(Self(None));
        }
        let user = ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .ok_or_else(|| Error::Program {
                program: "postgres",
                output: "it does not run as root, and there is no user postgres or nobody"
                    .to_owned(),
            })?;
        Ok(Self(Some((user.uid.as_raw(), user.gid.as_raw()))))
    }

    pub(super) fn assume(self, command: &mut Command) {
        if let Self(Some((uid, gid))) = self {
            command.uid(uid).gid(gid);
        }
        command.current_dir("/");
    }

    pub(super) fn own(self, path: &Path) -> Result<(), Error> {
        let Self(Some((uid, gid))) = self else {
            return Ok(());
        };
        chown(path, Some(uid), Some(gid)).map_err(Error::system("cannot change the owner of", path))
    }
}

/// A data folder that this process uses exclusively.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) data: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) account: Account,
    log: PathBuf,
    /// Held until the end. The kernel releases it however this process ends.
    _lock: File,
}

impl Cluster {
    pub(super) fn prepare(
        folder: &Path,
        binaries: &Binaries,
        account: Account,
        lock: File,
    ) -> Result<Self, Error> {
        let version = folder.join(format!("postgresql-{}", binaries.major));
        let (data, socket) = (version.join("data"), version.join("socket"));
        make_folder(&version, account)?;
        make_folder(&socket, account)?;
        let path_length = socket.as_os_str().len() + "/.s.PGSQL.5432".len();
        if path_length > MAX_SOCKET_PATH {
            return Err(Error::Program {
                program: "postgres",
                output: format!(
                    "{} is too long for a socket path: choose a shorter --data-dir",
                    socket.display()
                ),
            });
        }
        let cluster =
            Self { data, socket, account, log: version.join("postgresql.log"), _lock: lock };
        cluster.wait_for_predecessor(binaries)?;
        if !cluster.data.join("PG_VERSION").exists() {
            cluster.initialize(binaries, &version.join("data.new"))?;
        }
        Ok(cluster)
    }

    /// Creates the data folder under a temporary name and renames it, so that an interrupted start
    /// leaves no incomplete folder.
    fn initialize(&self, binaries: &Binaries, draft: &Path) -> Result<(), Error> {
        if draft.exists() {
            fs::remove_dir_all(draft).map_err(Error::system("cannot remove", draft))?;
        }
        let mut command = Command::new(binaries.program("initdb"));
        command.arg("-D").arg(draft).args([
            "--username",
            SUPERUSER,
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        ]);
        self.account.assume(&mut command);
        run("initdb", command)?;
        let failed = Error::system("cannot rename the new data folder to", &self.data);
        fs::rename(draft, &self.data).map_err(failed)
    }

    /// Waits for a server whose parent was killed and that is shutting down. Stops it if the kernel
    /// did not signal it.
    fn wait_for_predecessor(&self, binaries: &Binaries) -> Result<(), Error> {
        let start = Instant::now();
        let file = self.data.join("postmaster.pid");
        while let Some(pid) = pid_in(&file)
            && self.is_run_by(pid)
        {
            if start.elapsed() > Duration::from_secs(2) {
                let mut command = Command::new(binaries.program("pg_ctl"));
                command.args(["stop", "--mode=fast", "--wait", "-D"]).arg(&self.data);
                self.account.assume(&mut command);
                return run("pg_ctl", command);
            }
            std::thread::sleep(POLL);
        }
        // The file of a killed server must not be mistaken for the new one's.
        let _ = fs::remove_file(file);
        Ok(())
    }

    /// Whether the process runs this data folder. Another process may have reused the id, so the
    /// command line has to contain the folder.
    fn is_run_by(&self, pid: i32) -> bool {
        if let Ok(command) = fs::read(format!("/proc/{pid}/cmdline")) {
            let data = self.data.as_os_str().as_encoded_bytes();
            return command.split(|byte| *byte == 0).any(|argument| argument == data);
        }
        // Without /proc, a socket that accepts connections proves it.
        let socket = self.socket.join(format!(".s.PGSQL.{PORT}"));
        std::os::unix::net::UnixStream::connect(socket).is_ok()
    }

    /// Whether the server accepts connections, according to line eight of its pid file
    /// (`src/include/utils/pidfile.h` of PostgreSQL).
    pub(super) fn is_ready(&self) -> bool {
        fs::read_to_string(self.data.join("postmaster.pid"))
            .is_ok_and(|text| text.lines().nth(7).is_some_and(|line| line.trim() == "ready"))
    }

    pub(super) fn open_log(&self) -> Result<File, Error> {
        let opened = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .custom_flags(NO_LINKS)
            .open(&self.log);
        opened.map_err(Error::system("cannot write", &self.log))
    }

    pub(super) fn log_tail(&self) -> String {
        tail(&fs::read_to_string(&self.log).unwrap_or_default())
    }
}

/// Locks the folder for as long as the returned file is open. Refuses a folder with other contents.
pub(super) fn lock(folder: &Path, account: Account) -> Result<File, Error> {
    let path = folder.join("lock");
    let holds_something = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if holds_something && !path.is_file() {
        return Err(Error::NotOurs(folder.to_owned()));
    }
    make_folder(folder, account)?;
    let system = Error::system("cannot lock", &path);
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .custom_flags(NO_LINKS)
        .open(&path)
        .map_err(&system)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = fs::read_to_string(&path).unwrap_or_default();
            return Err(Error::InUse { folder: folder.to_owned(), pid: pid.trim().to_owned() });
        }
        Err(TryLockError::Error(source)) => return Err(system(source)),
    }
    file.set_len(0).map_err(&system)?;
    writeln!(file, "{}", std::process::id()).map_err(system)?;
    Ok(file)
}

fn pid_in(file: &Path) -> Option<i32> {
    fs::read_to_string(file).ok()?.lines().next()?.trim().parse().ok()
}

fn run(program: &'static str, mut command: Command) -> Result<(), Error> {
    let output = command.output();
    let output = output.map_err(Error::system("cannot run", command.get_program().as_ref()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Program { program, output: tail(&String::from_utf8_lossy(&output.stderr)) })
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}

fn make_folder(path: &Path, account: Account) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(Error::system("cannot create the folder", path))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    let failed = Error::system("cannot set the permissions of the folder", path);
    fs::set_permissions(path, mode).map_err(failed)?;
    account.own(path)
}
