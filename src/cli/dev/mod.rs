//! `tenantry dev`: PostgreSQL, a demo and the server in one process, on 127.0.0.1 only.

pub(super) mod demo;

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use embedded_postgres::{Embedded, Options};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::{
    Failure, runtime, say,
    server::{ServerConfig, serve_operators, stop_signal},
};
use crate::{auth::EmailVerified, config::parse_database_url, http, telemetry, tenancy::Databases};

const SECRET_FILE: &str = "jwt-secret";

/// The settings of another database or of several issuers.
const REFUSED: [&str; 6] = [
    "database_url",
    "system_database_url",
    "database_listen_url",
    "database_replica_url",
    "databases",
    "jwt_issuers",
];

/// Short, because a development server should stop quickly.
const GRACE: Duration = Duration::from_secs(2);

/// Run PostgreSQL, a demo and GraphiQL on 127.0.0.1 for development. The default command.
///
/// Signs the tokens of the demo's users itself. With JWT_JWKS_URL, JWT_ISSUER and JWT_AUDIENCE it
/// accepts those of an identity provider instead.
#[derive(Debug, clap::Parser)]
pub(super) struct Dev {
    /// The port on 127.0.0.1.
    #[arg(long, env, default_value_t = 4000)]
    port: u16,

    #[command(flatten)]
    data: DataFolder,

    /// Delete the data of earlier runs first.
    #[arg(long)]
    reset: bool,

    /// Address and port for operators only: /metrics, /readyz, /healthz. Without it the server
    /// exposes no metrics.
    #[arg(long, env)]
    admin_addr: Option<SocketAddr>,

    #[command(flatten)]
    server: ServerConfig,
}

/// The folder of the development database.
#[derive(Debug, clap::Args)]
pub(super) struct DataFolder {
    /// The folder for data, which is kept between starts [default: /var/lib/tenantry for root,
    /// otherwise ~/.local/share/tenantry]
    #[arg(long, env = "TENANTRY_DATA_DIR", value_name = "TENANTRY_DATA_DIR")]
    data_dir: Option<PathBuf>,
}

impl DataFolder {
    fn path(&self) -> Result<PathBuf, Failure> {
        let folder = self.data_dir.clone().unwrap_or_else(default_folder);
        Ok(std::path::absolute(folder)?)
    }

    /// Returns the secret that signs the demo's tokens.
    pub(super) fn secret(&self) -> Result<String, Failure> {
        let folder = self.path()?;
        fs::read_to_string(folder.join(SECRET_FILE)).map_err(|_| {
            let folder = folder.display();
            Failure::new(format!("there is no demo in {folder}. Start it with `tenantry dev`."))
        })
    }

    /// The argument that leads other commands to this folder.
    fn argument(&self) -> String {
        let folder =
            self.data_dir.as_ref().map(|folder| format!(" --data-dir {}", folder.display()));
        folder.unwrap_or_default()
    }
}

impl Dev {
    pub(super) fn run(mut self) -> Result<(), Failure> {
        self.check_settings()?;
        let _telemetry = telemetry::start(&self.server.log, "warn")?;
        // Bind first, so that a port in use fails before PostgreSQL starts.
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let listener = std::net::TcpListener::bind(address).map_err(|error| {
            let port = self.port;
            Failure::new(format!(
                "port {port}: {error}. Choose another: set PORT, or run tenantry dev --port."
            ))
        })?;
        let folder = self.data.path()?;
        eprintln!("Starting PostgreSQL in {} …", folder.display());
        // On the main thread, which lives as long as the process: see `embedded_postgres`.
        let server = Embedded::start(&Options { folder: folder.clone(), throwaway: false })?;
        let jwt = &mut self.server.jwt;
        let secret = match jwt.jwt_secret {
            Some(_) => jwt.secret()?.to_owned(),
            None => secret_in(&folder.join(SECRET_FILE))?,
        };
        // The prefix keeps the key of invitations apart from the key of tokens.
        self.server.business.secret_key.get_or_insert_with(|| format!("invitations:{secret}"));
        // Without an identity provider, this process signs the demo's tokens.
        if jwt.jwt_jwks_url.is_none() {
            jwt.jwt_secret.get_or_insert(secret);
            jwt.jwt_issuer = None;
            jwt.jwt_audience = None;
            "sub".clone_into(&mut jwt.jwt_subject_claim);
            jwt.jwt_email_verified = EmailVerified::Claim("email_verified".to_owned());
        }
        let runtime = runtime()?;
        let outcome = runtime.block_on(self.serve(listener, &server, &folder));
        // Close connections before PostgreSQL stops.
        runtime.shutdown_background();
        eprintln!("Stopping PostgreSQL …");
        drop(server);
        outcome
    }

    /// Leaves settings that [`check_settings`](Self::check_settings) refuses out of the help.
    pub(super) fn without_refused(command: clap::Command) -> clap::Command {
        command.mut_args(|argument| {
            let is_refused = REFUSED.contains(&argument.get_id().as_str());
            argument.hide(is_refused)
        })
    }

    /// Refuses settings that would have no effect.
    fn check_settings(&self) -> Result<(), Failure> {
        let config = &self.server.database;
        let set = [
            ("DATABASE_URL", &config.database_url),
            ("SYSTEM_DATABASE_URL", &config.system_database_url),
            ("DATABASE_LISTEN_URL", &config.database_listen_url),
            ("DATABASE_REPLICA_URL", &config.database_replica_url),
            ("DATABASES", &config.databases),
        ];
        if self.server.jwt.jwt_issuers.is_some() {
            return Err(Failure::new(
                "JWT_ISSUERS is set, but `tenantry dev` accepts one issuer. Unset it, or set JWT_JWKS_URL.",
            ));
        }
        match set.iter().find(|(_, value)| value.is_some()) {
            None => Ok(()),
            Some((name, _)) => Err(Failure::new(format!(
                "{name} is set, but `tenantry dev` runs its own PostgreSQL. Unset it, or run `tenantry serve`."
            ))),
        }
    }

    async fn serve(
        &self,
        listener: std::net::TcpListener,
        postgres: &Embedded,
        folder: &Path,
    ) -> Result<(), Failure> {
        let admin = parse_database_url("the embedded server", &postgres.admin_url())?;
        demo::create_database(&admin, self.reset).await?;
        let owner = admin.clone().with("dbname", demo::DATABASE);
        let report = migration::migrate(owner.clone(), None).await.map_err(|error| {
            let folder = folder.display();
            Failure::new(format!(
                "the data in {folder} cannot be used: {error}. To start over: tenantry dev --reset{}",
                self.data.argument()
            ))
        })?;
        if !report.applied.is_empty() {
            eprintln!("Migrated the database.");
        }
        for (schema, reason) in &report.schemas.failed {
            eprintln!("The schema {schema} was not migrated: {reason}.");
        }
        demo::load(&owner).await?;
        let app = owner.with("user", migration::APP_ROLE);
        let databases = Databases::shared(&self.server.database.with_connect(app))?;
        let users = match self.server.jwt.jwt_jwks_url {
            Some(_) => Vec::new(),
            None => demo::users(self.server.jwt.secret()?)?,
        };
        let ready = self.server.build(databases, users).await?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        serve_operators(self.admin_addr, &ready.server).await?;
        let stop = stop_signal()?;
        if let Some(reason) = http::missing_page() {
            eprintln!("GraphiQL is not built in: {reason}.");
        }
        say(demo::Welcome {
            base: format!("http://{address}"),
            program: program(),
            data_dir: self.data.argument(),
            folder,
            socket: admin.host().to_owned(),
            issuer: self
                .server
                .jwt
                .jwt_jwks_url
                .as_ref()
                .and(self.server.jwt.jwt_issuer.as_deref()),
        });
        ready.serve(listener, stop, GRACE).await
    }
}

/// How the user started this program.
fn program() -> String {
    let name = std::env::args_os().next();
    name.map_or_else(|| "tenantry".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Returns the secret in the data folder, so that tokens remain valid after a restart. Creates it
/// on the first start, readable by this user only.
fn secret_in(file: &Path) -> Result<String, Failure> {
    let unreadable = |error| Failure::new(format!("{}: {error}", file.display()));
    match fs::read_to_string(file) {
        Ok(secret) => return Ok(secret.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(unreadable(error)),
    }
    let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let mut options = fs::OpenOptions::new();
    let mut created =
        options.write(true).create_new(true).mode(0o600).open(file).map_err(unreadable)?;
    created.write_all(secret.as_bytes()).map_err(unreadable)?;
    Ok(secret)
}

/// The default folder of development data. As root it is not in the home folder, which the server's
/// user cannot enter.
fn default_folder() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/var/lib/tenantry");
    }
    let data =
        std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share"));
    data.or_else(home).unwrap_or_else(std::env::temp_dir).join("tenantry")
}
