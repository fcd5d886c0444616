//! PgBouncer between the server and PostgreSQL.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{
    HANG, child_process,
    cluster::{Cluster, as_server, new_folder},
};

/// A running pooler, killed when dropped.
pub struct Pooler {
    folder: PathBuf,
    process: Child,
}

impl Pooler {
    /// Starts a pooler with this number of connections to PostgreSQL. Returns `None` if PgBouncer
    /// is not installed.
    pub fn start(cluster: &Cluster, connections: usize) -> Option<Self> {
        Self::start_in("transaction", cluster, connections)
    }

    /// The same in another mode.
    pub fn start_in(mode: &str, cluster: &Cluster, connections: usize) -> Option<Self> {
        let places = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/opt/homebrew/bin/pgbouncer"];
        let program = places.into_iter().find(|place| Path::new(place).is_file())?;
        let folder = new_folder();
        let shown = folder.display();
        let users = folder.join("users.txt");
        let settings = folder.join("pgbouncer.ini");
        fs::write(&users, "\"tenantry_app\" \"\"\n\"tenantry_system\" \"\"\n\"postgres\" \"\"\n")
            .unwrap();
        let text = format!(
            "[databases]\napp = host={} port=5432 dbname=app\n[pgbouncer]\nlisten_addr =\nlisten_port = 5432\n\
             unix_socket_dir = {shown}\nunix_socket_mode = 0700\npool_mode = {mode}\n\
             default_pool_size = {connections}\nmax_client_conn = 500\nauth_type = trust\nauth_file = {}\n",
            cluster.socket().display(),
            users.display(),
        );
        fs::write(&settings, text).unwrap();
        for file in [&users, &settings] {
            fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
        }
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut command = as_server(child_process::ending_with_parent(program, "KILL"));
        command.arg(&settings).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.process_group(0);
        let mut pooler = Self { folder, process: child_process::spawn(command) };
        let started = Instant::now();
        while !pooler.folder.join(".s.PGSQL.5432").exists() {
            let ended = pooler.process.try_wait().unwrap().is_some();
            assert!(!ended && started.elapsed() < HANG, "{}", pooler.log());
            thread::sleep(Duration::from_millis(10));
        }
        Some(pooler)
    }

    /// Returns the value for `DATABASE_URL`.
    pub fn url(&self) -> String {
        self.url_of("tenantry_app")
    }

    /// Returns the URL of the database for a role.
    pub fn url_of(&self, role: &str) -> String {
        let folder = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://{role}@localhost:5432/app?host={folder}")
    }

    /// Returns the pooler's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
