//! What the opening of a request's session asks of a database.

use std::hash::{Hash, Hasher};

use chrono::{DateTime, SubsecRound, Utc};
use sea_orm::{Value, Values};
use tokio_postgres::Row;

use super::{
    Access, SecretKeys, Transaction,
    driver::Parameters,
    open::get,
    placement::{Placement, Schema},
    pool::ConnectionPool,
    proof::ProofKey,
};
use crate::{
    auth::Caller,
    error::{Error, Result},
};

/// By name, so that servers of two versions can use one database.
pub(super) const OPEN: &str =
    "SELECT outcome, user_id, organization_id, organization_slug, role, billing_version,
        organization_name, organization_created_at, organization_updated_at, home, home_version, home_generation,
        email_is_current, suspension
    FROM auth.open_request($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// What the opening asks.
#[derive(Debug)]
pub(super) struct SessionRequest {
    issuer: String,
    subject: String,
    path: Option<String>,
    claim: Option<String>,
    email: Option<String>,
    issued_at: Option<DateTime<Utc>>,
    key: ProofKey,
}

/// Without the time of the token: a user's next token begins from what is cached for the one
/// before, and the database says whether that still holds.
impl Hash for SessionRequest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { issuer, subject, path, claim, email, issued_at: _, key: _ } = self;
        (issuer, subject, path, claim, email).hash(state);
    }
}

impl SessionRequest {
    /// NUL, which no text in PostgreSQL can hold, becomes the replacement character, which no slug
    /// contains; issuer and subject were checked by the verifier.
    pub(super) fn new(caller: &Caller, slug: Option<&str>, secret: &SecretKeys) -> Self {
        let text = |text: &str| text.replace('\0', "\u{fffd}");
        Self {
            issuer: text(&caller.issuer),
            subject: text(&caller.subject),
            path: slug.map(text),
            claim: caller.organization.as_deref().map(text),
            email: caller.email.as_deref().map(text),
            issued_at: caller.issued_at.map(|at| at.trunc_subsecs(6)),
            key: ProofKey::of(secret),
        }
    }

    /// The same person, in no organization.
    pub(super) fn outside(&self) -> Self {
        let Self { issuer, subject, email, issued_at, key, .. } = self;
        let (issuer, subject, email) = (issuer.clone(), subject.clone(), email.clone());
        let (issued_at, key) = (*issued_at, key.clone());
        Self { issuer, subject, email, issued_at, path: None, claim: None, key }
    }

    /// Issuer and subject.
    pub(super) fn identity(&self) -> (&str, &str) {
        (&self.issuer, &self.subject)
    }

    /// What leads to the organization.
    pub(super) fn name(&self) -> Option<&str> {
        self.path.as_deref().or(self.claim.as_deref())
    }

    /// For an organization whose home is called so by the database that is asked.
    pub(super) fn parameters(&self, placement: &str) -> Result<Parameters> {
        let (issuer, subject) = (self.issuer.as_str(), self.subject.as_str());
        let [path, claim, email] =
            [&self.path, &self.claim, &self.email].map(|text| text.as_deref());
        let callers = [Some(issuer), Some(subject), path, claim, email];
        let micros = issued_micros(self.issued_at);
        let [issuer, subject, path, claim, email] = callers;
        let proven = [issuer, subject, path, claim, email, micros.as_deref()];
        let [proven_at, proof] = self.key.prove("open", &proven);
        let mut values: Vec<Value> = callers.into_iter().map(Into::into).collect();
        values.extend([placement.into(), self.issued_at.into(), proven_at, proof]);
        Ok(Parameters::of(Some(Values(values)))?)
    }

    /// Begins where the organization is taken to live, and leaves the answer for later.
    pub(super) async fn ask_speculative(
        &self,
        connections: &ConnectionPool,
        placement: &Placement,
    ) -> Result<Transaction> {
        // A database of organizations' own has those who live there in the tables that they share.
        let name = if matches!(placement, Placement::Database(_)) {
            Placement::Shared.name()
        } else {
            placement.name()
        };
        let parameters = self.parameters(&name)?;
        Transaction::begin_speculative(
            connections,
            Access::Read,
            placement.schema(),
            OPEN,
            parameters,
        )
        .await
    }

    /// Opens in a database, provided that the organization's home is the one that is named.
    /// `system` leads to the same database: it learns this server's key there when it does not know
    /// it yet.
    pub(super) async fn ask(
        &self,
        connections: &ConnectionPool,
        system: &ConnectionPool,
        access: Access,
        schema: Option<&Schema>,
        placement: &str,
    ) -> Result<(Transaction, Row)> {
        let asked = self.ask_once(connections, access, schema, placement).await?;
        if get::<&str>(&asked.1, "outcome")? != "UNPROVEN" {
            return Self::check_clocks(asked);
        }
        // Large, and rare.
        Box::pin(async {
            asked.0.roll_back().await;
            self.key.register(system).await?;
            let asked = self.ask_once(connections, access, schema, placement).await?;
            Self::check_clocks(asked)
        })
        .await
    }

    async fn ask_once(
        &self,
        connections: &ConnectionPool,
        access: Access,
        schema: Option<&Schema>,
        placement: &str,
    ) -> Result<(Transaction, Row)> {
        let parameters = self.parameters(placement)?;
        let (transaction, mut rows) =
            Transaction::begin(connections, access, schema, OPEN, &parameters).await?;
        let row =
            rows.pop().ok_or_else(|| Error::internal("opening a session answered nothing"))?;
        Ok((transaction, row))
    }

    /// Refuses to go on where the database takes the proof for old or early.
    fn check_clocks(asked: (Transaction, Row)) -> Result<(Transaction, Row)> {
        if get::<&str>(&asked.1, "outcome")? != "CLOCKS_DIFFER" {
            return Ok(asked);
        }
        tracing::error!(
            "the clocks of this server and of the database differ by more than five minutes: \
             no session can be opened. Synchronize both with NTP."
        );
        Err(Error::unavailable("the clocks of the server and of the database differ"))
    }
}

/// When a token was issued, as the proof of its caller says it.
pub(super) fn issued_micros(issued_at: Option<DateTime<Utc>>) -> Option<String> {
    issued_at.map(|at| at.timestamp_micros().to_string())
}
