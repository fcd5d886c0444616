//! Copies the stored responses of idempotent mutations, so that no mutation runs twice. Their
//! changes are not recorded: the switch copies all that were written since the oldest transaction
//! that ran during the first copy.

use futures_util::{TryStreamExt, stream::TryChunksError};
use pg::Client;
use uuid::Uuid;

use super::{
    organization_move::{MoveConnections, OrganizationMove},
    users,
};
use crate::cli::tenant::locks::begin_snapshot;

const BATCH: usize = 500;

impl OrganizationMove {
    /// Copies all responses to another database. Returns the oldest transaction that may still
    /// write others; `None` within the control database, where they stay.
    pub(super) async fn copy_responses(
        &self,
        connections: &mut MoveConnections<'_>,
    ) -> pg::Result<Option<String>> {
        let id = self.organization.id;
        if let MoveConnections::ToDedicated { control, dedicated } = connections {
            let users: Vec<Uuid> = control
                .query(
                    "SELECT DISTINCT user_id FROM auth.idempotency_keys WHERE organization_id = $1",
                    &[&id],
                )
                .await?;
            users::copy(control, dedicated, &users::missing(dedicated, &users).await?).await?;
        }
        let (source, target) = match connections {
            MoveConnections::Within(_) => return Ok(None),
            MoveConnections::ToDedicated { control, dedicated } => (control, dedicated),
            MoveConnections::FromDedicated { control, dedicated } => (dedicated, control),
        };
        let snapshot = begin_snapshot(source).await?;
        let since = snapshot
            .query_one("SELECT pg_snapshot_xmin(pg_current_snapshot())::xid::text", &[])
            .await?;
        copy_responses(&snapshot, target, id, None).await?;
        snapshot.commit().await?;
        Ok(since)
    }
}

/// Copies the responses of the last day, or only those written since the transaction `since`.
pub(super) async fn copy_responses(
    source: &Client,
    target: &Client,
    organization: Uuid,
    since: Option<&str>,
) -> pg::Result<()> {
    let responses = source
        .stream::<String>(
            "SELECT k::text FROM auth.idempotency_keys k
         WHERE k.organization_id = $1 AND k.created_at > now() - interval '24 hours'
             AND ($2::text IS NULL OR age(k.xmin) <= age($2::text::xid))",
            &[&organization, &since],
        )
        .await?;
    responses
        .try_chunks(BATCH)
        .map_err(|TryChunksError(_, error)| error)
        .try_for_each(|responses| insert(target, organization, responses))
        .await
}

/// Inserts responses. Leaves out those of erased users, who cannot repeat a request.
async fn insert(target: &Client, organization: Uuid, responses: Vec<String>) -> pg::Result<()> {
    target
        .execute(
            "INSERT INTO auth.idempotency_keys AS k SELECT (whole).* FROM (SELECT v::auth.idempotency_keys AS whole FROM unnest($2::text[]) v OFFSET 0) read
             WHERE (whole).organization_id = $1 AND EXISTS (SELECT FROM auth.users u WHERE u.id = (whole).user_id)
         ON CONFLICT (user_id, key, organization_id) DO UPDATE
             SET fingerprint = excluded.fingerprint, response = excluded.response, created_at = excluded.created_at, updated_at = excluded.updated_at",
            &[&organization, &responses],
        )
        .await?;
    Ok(())
}
