//! `tenantry serve`: the production server. It does not start if the self-check finds a fault.

use std::time::Duration;

use tokio::net::TcpListener;

use super::{
    Failure, runtime,
    server::{ServerConfig, serve_operators, stop_signal},
};
use crate::{
    config::{ListenConfig, is_loopback},
    http, telemetry,
    tenancy::{Databases, Extent},
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
    server: ServerConfig,
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        let _telemetry = telemetry::start(&self.server.log, "info")?;
        let options = self.server.database.options()?;
        for finding in options.transport_findings() {
            tracing::warn!(%finding, "a connection to PostgreSQL is not protected");
        }
        runtime()?.block_on(async {
            let ready = self.server.build(Databases::shared(&options)?, Vec::new()).await?;
            self.warn()?;
            let databases = &ready.server.service.databases;
            if let Some(problem) = databases.replica_problem().await {
                tracing::warn!(problem, "DATABASE_REPLICA_URL cannot be used");
            }
            // A fault of a dedicated database affects only its organizations, so the server starts.
            for finding in databases.findings_of_databases(Extent::Quick).await {
                tracing::warn!(%finding, "a dedicated database has a fault");
            }
            let listener = TcpListener::bind(self.listen.listen_addr).await.map_err(|error| {
                Failure::new(format!("LISTEN_ADDR {}: {error}", self.listen.listen_addr))
            })?;
            let address = listener.local_addr()?;

            serve_operators(self.listen.admin_addr, &ready.server).await?;
            let signal = stop_signal()?;
            let stop = async {
                signal.await;
                tracing::info!("stopping: finishing requests in progress");
            };
            tracing::info!(%address, graphiql = http::missing_page().unwrap_or("built in"), "serving");
            ready.serve(listener, stop, Duration::from_secs(self.server.http.shutdown_grace)).await
        })
    }

    fn warn(&self) -> Result<(), Failure> {
        for warning in self.server.jwt.warnings()? {
            tracing::warn!("{warning}");
        }
        let public_url = &self.server.business.public_url;
        if is_loopback(public_url) {
            tracing::warn!(
                "PUBLIC_URL is a loopback address: invitation links point to {public_url}. Set it to the address of your application."
            );
        }
        Ok(())
    }
}
