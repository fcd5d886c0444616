//! Where an organization lives: the only holder of pools. Today's only answer is the shared database.

use sqlx::Row;

use super::connection::{Connections, DatabaseOptions, Lease};
use crate::error::Result;

/// Knows the database of every organization.
pub struct Placement {
    shared: Connections,
}

impl std::fmt::Debug for Placement {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Placement").finish_non_exhaustive()
    }
}

impl Placement {
    /// Everybody in one database.
    ///
    /// # Errors
    ///
    /// When the pool cannot be set up; no connection is made yet.
    pub fn shared(options: DatabaseOptions) -> Result<Self> {
        Ok(Self { shared: Connections::new(options)? })
    }

    /// A connection to where requests begin.
    pub(super) async fn lease(&self) -> Result<Lease> {
        self.shared.lease().await
    }

    /// One connection was found dead: new ones are made instead of trying the others.
    pub(super) fn discard_idle(&self) {
        self.shared.discard_idle();
    }

    /// Which migration steps the database has, as far as the app role can see.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached, or was never migrated.
    pub async fn migration_status(&self) -> Result<migration::Status> {
        let mut lease = self.lease().await?;
        let rows = sqlx::query("SELECT version FROM migration.seaql_migrations")
            .fetch_all(&mut *lease)
            .await;
        match rows {
            Ok(rows) => {
                let applied: Vec<String> =
                    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
                Ok(migration::status(&applied))
            }
            Err(error) => {
                drop(Lease::take(lease));
                Err(error.into())
            }
        }
    }

    /// The findings of the self-check, as the app role itself sees the database.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached.
    pub async fn self_check(&self) -> Result<Vec<super::Finding>> {
        let mut lease = self.lease().await?;
        match super::self_check(&mut lease).await {
            Ok(findings) => Ok(findings),
            Err(error) => {
                drop(Lease::take(lease));
                Err(error.into())
            }
        }
    }

    /// Refuses further sessions and closes what is idle.
    pub fn close(&self) {
        self.shared.close();
    }
}
