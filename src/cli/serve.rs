//! `tenantry serve`: the production server. It does not start if the self-check finds a fault.

use std::{sync::Arc, time::Duration};

use tokio::net::TcpListener;

use super::{
    Failure, runtime,
    server::{build, serve_operators, stop_signal},
};
use crate::{
    background::Background,
    config::{BusinessConfig, DatabaseConfig, HttpConfig, JwtConfig, ListenConfig, LogConfig},
    http, telemetry,
    tenancy::{Databases, Severity},
};

/// Run the production server.
///
/// It refuses to start if the self-check of tenant isolation finds a fault. Requires DATABASE_URL,
/// SECRET_KEY, and JWT_SECRET, JWT_JWKS_URL or JWT_ISSUERS.
#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    #[command(flatten)]
    listen: ListenConfig,
    #[command(flatten)]
    database: DatabaseConfig,
    #[command(flatten)]
    jwt: JwtConfig,
    #[command(flatten)]
    http: HttpConfig,
    #[command(flatten)]
    business: BusinessConfig,
    #[command(flatten)]
    log: LogConfig,
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        let _telemetry = telemetry::start(&self.log, "info").map_err(Failure::new)?;
        let options = self.database.options().map_err(Failure::new)?;
        for finding in options.transport_findings() {
            tracing::warn!(%finding, "a connection to PostgreSQL is not protected");
        }
        runtime()?.block_on(async {
            let databases = Databases::shared(&options)?;
            let mailer = self.business.mail.mailer().map_err(Failure::new)?;
            let server = build(&self.http, &self.jwt, &self.business, databases, Vec::new())?;
            let problems = http::problems(&server.service.databases).await;
            match problems.as_slice() {
                [] => {}
                [problem] => return Err(Failure::new(problem)),
                [problem, others @ ..] => {
                    let count = others.len();
                    return Err(Failure::new(format!(
                        "{problem} (and {count} more; run `tenantry doctor` to list them)"
                    )));
                }
            }
            self.warn()?;
            self.check_trial_plan(&server.service.databases).await?;
            if let Some(problem) = server.service.databases.replica_problem().await {
                tracing::warn!(problem, "DATABASE_REPLICA_URL cannot be used");
            }
            // A fault of a dedicated database affects only its organizations, so the server starts.
            for finding in server.service.databases.findings_of_databases().await {
                tracing::warn!(%finding, "a dedicated database has a fault");
            }
            let listener = TcpListener::bind(self.listen.listen_addr).await.map_err(|error| {
                Failure::new(format!("LISTEN_ADDR {}: {error}", self.listen.listen_addr))
            })?;
            let address = listener.local_addr().map_err(Failure::new)?;

            serve_operators(self.listen.admin_addr, &server).await?;
            let signal = stop_signal()?;
            let stop = async {
                signal.await;
                tracing::info!("stopping: finishing requests in progress");
            };
            tracing::info!(%address, graphiql = http::missing_page().unwrap_or("built in"), "serving");
            let grace = Duration::from_secs(self.http.shutdown_grace);
            let background = Background::start(Arc::clone(&server.service), mailer);
            let outcome = http::serve(listener, server, stop, grace).await;
            background.stop().await;
            outcome.map_err(Failure::new)
        })
    }

    async fn check_trial_plan(&self, databases: &Databases) -> Result<(), Failure> {
        let plan = self.business.trial_plan.as_deref().filter(|plan| !plan.is_empty());
        let Some(plan) = plan else { return Ok(()) };
        match databases.check_trial_plan(plan).await? {
            Some(finding) if finding.severity == Severity::Fault => {
                Err(Failure::new(format!("{finding}")))
            }
            Some(finding) => {
                tracing::warn!(%finding, "new organizations start without a trial");
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn warn(&self) -> Result<(), Failure> {
        for warning in self.jwt.warnings().map_err(Failure::new)? {
            tracing::warn!("{warning}");
        }
        if crate::config::is_loopback(&self.business.public_url) {
            tracing::warn!(
                "PUBLIC_URL is a loopback address: invitation links point to {}. Set it to the address of your application.",
                self.business.public_url
            );
        }
        Ok(())
    }
}
