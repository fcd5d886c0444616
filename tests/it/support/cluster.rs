//! A separate PostgreSQL for a test, which the test may stop, kill and copy. It is durable, unlike
//! the server that the other tests share. Each starts as a copy of one template with several
//! tenants.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use embedded_postgres::{Embedded, Options};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, geteuid},
};
use pg::{Client, ConnectOptions, FromRow};

use super::{child_process, database, dedicated};

/// The tenants of every cluster, each with an owner `{slug}-owner`.
pub const TENANTS: [&str; 4] = ["acme", "globex", "initech", "hooli"];

/// Two more tenants than the demo, plans without limits, and rows that name their tenant.
const TENANT_ROWS: &str = include_str!("tenants.sql");

static TEMPLATE: OnceLock<Template> = OnceLock::new();
static NEXT: AtomicU32 = AtomicU32::new(0);

struct Template {
    folder: PathBuf,
    data: PathBuf,
    programs: PathBuf,
    /// While locked, other runs do not remove the directory.
    _lock: File,
}

/// A cluster in its own directory and its server, both removed when dropped.
pub struct Cluster {
    pub folder: PathBuf,
    data: PathBuf,
    settings: Vec<String>,
    server: Option<Child>,
}

impl Cluster {
    /// Starts a cluster with these settings besides PostgreSQL's defaults.
    pub fn start(settings: &[&str]) -> Self {
        let folder = new_folder();
        Self::start_in(folder.clone(), folder.join("data"), settings)
    }

    /// Starts a cluster with its data in a directory that does not exist yet.
    pub fn start_in(folder: PathBuf, data: PathBuf, settings: &[&str]) -> Self {
        copy(&template().data, &data);
        let mut cluster = Self::at(folder, data, settings);
        cluster.resume();
        cluster
    }

    fn at(folder: PathBuf, data: PathBuf, settings: &[&str]) -> Self {
        make_folder(&folder.join("socket"));
        let settings = settings.iter().map(ToString::to_string).collect();
        Self { folder, data, settings, server: None }
    }

    /// Starts a standby of this cluster, with a name for `synchronous_standby_names`.
    pub fn standby(&self, name: &str) -> Self {
        let folder = new_folder();
        let mut standby = Self::at(folder.clone(), folder.join("data"), &[]);
        let mut backup = as_server(Command::new(program("pg_basebackup")));
        backup
            .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "-D"])
            .arg(&standby.data)
            .arg("-d")
            .arg(format!("host={} user=postgres application_name={name}", self.socket().display()));
        let output = backup.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        standby.resume();
        standby
    }

    /// Starts the server again, and returns when it accepts connections.
    pub fn resume(&mut self) {
        let _ = fs::remove_file(self.data.join("postmaster.pid"));
        let mut command = as_server(child_process::ending_with_parent(program("postgres"), "QUIT"));
        command.arg("-D").arg(&self.data).arg("-k").arg(self.socket());
        command.args(["-c", "listen_addresses=", "-c", "unix_socket_permissions=0700"]);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command.process_group(0);
        self.server = Some(child_process::spawn(command));
        let started = Instant::now();
        while !self.is_ready() {
            let ended = self.server.as_mut().unwrap().try_wait().unwrap().is_some();
            assert!(!ended && started.elapsed() < Duration::from_mins(1), "{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Reads the eighth line of the pid file, which has the state.
    fn is_ready(&self) -> bool {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        text.lines().nth(7).is_some_and(|line| ["ready", "standby"].contains(&line.trim()))
    }

    /// Returns whether the server is running.
    pub fn is_running(&mut self) -> bool {
        self.server.as_mut().is_some_and(|server| server.try_wait().unwrap().is_none())
    }

    /// Stops with a fast shutdown: sessions end, and everything is written.
    pub fn stop(&mut self) {
        self.end(Signal::SIGINT);
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut server) = self.server.take() else { return };
        let _ = kill(pid(&server), signal);
        let started = Instant::now();
        while server.try_wait().unwrap().is_none() {
            if started.elapsed() > Duration::from_secs(10) {
                kill_with_children(&mut server);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills the server and its child processes, so that nothing more is written or sent.
    pub fn kill(&mut self) {
        kill_with_children(&mut self.server.take().unwrap());
    }

    /// Promotes the standby to primary.
    pub fn promote(&self) {
        let mut command = as_server(Command::new(program("pg_ctl")));
        command.args(["promote", "--wait", "-D"]).arg(&self.data);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Returns the directory of the socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// Returns the file of the socket.
    pub fn socket_file(&self) -> PathBuf {
        self.socket().join(".s.PGSQL.5432")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("postgresql.log")
    }

    /// Returns the server's log.
    pub fn log(&self) -> String {
        let mut text = String::new();
        let _ = File::open(self.log_file()).and_then(|mut log| log.read_to_string(&mut text));
        text
    }

    /// Returns the value for `DATABASE_URL`, through the socket.
    pub fn url(&self) -> String {
        self.url_of("app", "tenantry_app")
    }

    /// Returns the URL of a database for a role.
    pub fn url_of(&self, database: &str, role: &str) -> String {
        let socket = self.socket().display().to_string().replace('/', "%2F");
        format!("postgres://{role}@localhost:5432/{database}?host={socket}")
    }

    /// Creates another database, migrated and dedicated under its name, without organizations.
    pub async fn dedicate(&self, name: &str) {
        let admin = self.admin();
        dedicated::create_migrated(&admin, name).await;
        let mut there = Client::connect(&admin.with("dbname", name)).await.unwrap();
        dedicated::dedicate(&mut self.connect_admin().await, &mut there, name).await;
    }

    /// Returns the superuser's connection options.
    pub fn admin(&self) -> ConnectOptions {
        admin_at(&self.socket()).with("dbname", "app")
    }

    pub async fn connect_admin(&self) -> Client {
        Client::connect(&self.admin()).await.unwrap()
    }

    /// Runs SQL as the superuser, each statement separately, as `ALTER SYSTEM` requires.
    pub async fn execute(&self, statements: &[&str]) {
        let connection = self.connect_admin().await;
        for sql in statements {
            connection.batch(sql).await.unwrap();
        }
    }

    /// Returns the only value of a query as the superuser.
    pub async fn value<T: FromRow>(&self, sql: &str) -> T {
        self.value_in("app", sql).await
    }

    /// Returns the only value of a query in another database.
    pub async fn value_in<T: FromRow>(&self, database: &str, sql: &str) -> T {
        let admin = self.admin().with("dbname", database);
        let connection = Client::connect(&admin).await.unwrap();
        connection.query_one(sql, &[]).await.unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end(Signal::SIGQUIT);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn admin_at(socket: &Path) -> ConnectOptions {
    let url = format!("postgres://postgres@localhost/postgres?host={}", socket.display());
    url.parse().unwrap()
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

/// Kills the server and its child processes. The server is stopped first, so that it starts no
/// more.
fn kill_with_children(server: &mut Child) {
    let parent = pid(server);
    let _ = kill(parent, Signal::SIGSTOP);
    for child in children_of(parent) {
        let _ = kill(child, Signal::SIGKILL);
    }
    let _ = kill(parent, Signal::SIGKILL);
    server.wait().unwrap();
}

fn children_of(parent: Pid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let of_parent = |process: &i32| {
        // The name may hold any character and ends with the last parenthesis. State and parent
        // follow.
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        rest.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    processes.filter(of_parent).map(Pid::from_raw).collect()
}

/// Returns the account for PostgreSQL and its companions when the tests run as root, which
/// PostgreSQL does not allow.
pub fn server_account() -> Option<(u32, u32)> {
    let user = || User::from_name("postgres").ok().flatten().or(User::from_name("nobody").ok()?);
    geteuid().is_root().then(user).flatten().map(|user| (user.uid.as_raw(), user.gid.as_raw()))
}

/// Sets a command to run as PostgreSQL's account.
pub fn as_server(mut command: Command) -> Command {
    if let Some((user, group)) = server_account() {
        command.uid(user).gid(group);
    }
    command.current_dir("/");
    command
}

/// Creates a directory that only PostgreSQL's account may enter.
pub fn make_folder(path: &Path) {
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    if let Some((user, group)) = server_account() {
        chown(path, Some(user), Some(group)).unwrap();
    }
}

/// Creates a directory for one cluster, beside the template. A later run removes it if this one
/// cannot.
pub fn new_folder() -> PathBuf {
    let folder = template().folder.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
    make_folder(&folder);
    folder
}

fn program(name: &str) -> PathBuf {
    template().programs.join(name)
}

fn copy(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    command.args(["-a", "--reflink=auto"]).arg(from).arg(to);
    assert!(command.status().unwrap().success());
}

fn template() -> &'static Template {
    TEMPLATE.get_or_init(|| thread::spawn(make_template).join().unwrap())
}

fn make_template() -> Template {
    database::remove_leftovers();
    let folder = tempfile::Builder::new().prefix(database::FOLDER).tempdir().unwrap().keep();
    database::open_to_server(&folder);
    // A later run looks for leftovers here.
    fs::create_dir(folder.join("postgres")).unwrap();
    let lock = File::create(folder.join("postgres/lock")).unwrap();
    lock.lock().unwrap();
    let options = Options { folder: folder.join("template"), throwaway: true };
    let server = Embedded::start(&options).unwrap();
    let programs = server.program("postgres").parent().unwrap().to_owned();
    let admin: ConnectOptions = server.admin_url().parse().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(fill(admin));
    // The server stops cleanly, so that the copied data is consistent.
    drop(server);
    let entries = fs::read_dir(&options.folder).unwrap().filter_map(Result::ok);
    let mut versions = entries.map(|entry| entry.path().join("data"));
    let data = versions.find(|data| data.join("PG_VERSION").exists()).unwrap();
    Template { folder, data, programs, _lock: lock }
}

async fn fill(admin: ConnectOptions) {
    let connection = Client::connect(&admin).await.unwrap();
    connection.batch("CREATE DATABASE app").await.unwrap();
    let app = admin.with("dbname", "app");
    migration::migrate(app.clone(), None).await.unwrap();
    let connection = Client::connect(&app).await.unwrap();
    connection.batch(database::ROWS).await.unwrap();
    connection.batch(TENANT_ROWS).await.unwrap();
    connection.close().await;
}
